"""HPACK header blocks (RFC 7541) to fields: the receiving half, with the dynamic table.

The loop is ours instead of the ``hpack`` package's because
grpc-go puts every ``grpc-timeout`` into the dynamic table, so that no two blocks of a connection are the
same bytes; decoding such a block costs the package up to 24 µs, this loop 2 to 4. Fields are interned with
their table entries, so that a list of fields is cheap to hash and compare.

Every length and size is bounded before anything is allocated for it.
"""

from __future__ import annotations

from typing import TypeAlias

from .hpack_huffman import decode_huffman
from .hpack_static import STATIC

__all__ = ["Field", "HeaderDecoder", "HeaderListTooLarge", "HpackError"]

Field: TypeAlias = tuple[bytes, bytes]

_STATIC_LENGTH = len(STATIC)
_ENTRY_OVERHEAD = 32  # RFC 7541, 4.1
_SMALL_BLOCK = 512  # bytes; a few fields of such a block cannot exceed the limit of the list


class HpackError(Exception):
    """The block is not HPACK; the connection's compression state is lost (COMPRESSION_ERROR)."""


class HeaderListTooLarge(Exception):
    """The fields exceed the announced SETTINGS_MAX_HEADER_LIST_SIZE."""


class HeaderDecoder:
    """One connection's decoding state.

    Args:
        max_table_bytes: the SETTINGS_HEADER_TABLE_SIZE we announced.
        max_list_bytes: bound on the sum of name + value + 32 over the fields of one block.
    """

    __slots__ = ("_max_list", "_max_table", "_safe_fields", "_size", "_table", "_table_limit", "changed")

    def __init__(self, max_table_bytes: int = 4096, max_list_bytes: int = 65536) -> None:
        self._table: list[Field] = []  # oldest first
        self._size = 0
        self._max_table = max_table_bytes
        self._table_limit = max_table_bytes
        self._max_list = max_list_bytes
        self._safe_fields = max_list_bytes // (max_table_bytes + 2 * _SMALL_BLOCK)
        #: Whether the last block changed the dynamic table: equal bytes may now mean other fields.
        self.changed = False

    def decode(self, block: bytes) -> list[Field]:
        """Decode one complete header block.

        Raises:
            HpackError: malformed; the decoder must not be used again.
            HeaderListTooLarge: the list is over the limit; the decoder must not be used again.
        """
        self.changed = False
        fields: list[Field] = []
        table = self._table
        position = 0
        end = len(block)
        try:
            while position < end:
                byte = block[position]
                if byte >= 0x80:
                    index = byte & 0x7F
                    position += 1
                    if index == 0x7F:
                        index, position = _integer(block, position, 0x7F)
                    field = (
                        table[-(index - _STATIC_LENGTH)] if index > _STATIC_LENGTH else self._static(index)
                    )
                elif byte >= 0x40:
                    field, position = self._literal(block, position, 0x3F)
                    self._add(field)
                elif byte >= 0x20:
                    if fields:
                        raise HpackError("a table size update stands after a field")
                    position = self._resize(block, position)
                    continue
                else:
                    field, position = self._literal(block, position, 0x0F)
                fields.append(field)
        except IndexError:
            raise HpackError(
                "the block ends within a field or names an index outside of the tables"
            ) from None
        if len(fields) > self._safe_fields or end > _SMALL_BLOCK:
            # Until here nothing was copied but the block's literals: an indexed field is a reference.
            if sum(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in fields) > self._max_list:
                raise HeaderListTooLarge(f"more than {self._max_list} bytes of header fields")
        return fields

    def _static(self, index: int) -> Field:
        if index == 0:
            raise HpackError("index 0 names no field")
        return STATIC[index - 1]

    def _literal(self, block: bytes, position: int, mask: int) -> tuple[Field, int]:
        index = block[position] & mask
        position += 1
        if index == mask:
            index, position = _integer(block, position, mask)
        if index == 0:
            name, position = _string(block, position)
        elif index > _STATIC_LENGTH:
            name = self._table[-(index - _STATIC_LENGTH)][0]
        else:
            name = STATIC[index - 1][0]
        value, position = _string(block, position)
        return (name, value), position

    def _add(self, field: Field) -> None:
        self.changed = True
        self._size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self._table.append(field)
        if self._size > self._table_limit:
            self._evict()

    def _evict(self) -> None:
        drop = 0
        while self._size > self._table_limit:
            name, value = self._table[drop]
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD
            drop += 1
        del self._table[:drop]

    def _resize(self, block: bytes, position: int) -> int:
        limit = block[position] & 0x1F
        position += 1
        if limit == 0x1F:
            limit, position = _integer(block, position, 0x1F)
        if limit > self._max_table:
            raise HpackError(f"need a table size <= {self._max_table}, got {limit}")
        self.changed = True
        self._table_limit = limit
        self._evict()
        return position


def _integer(block: bytes, position: int, start: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was all ones; at most four more bytes (RFC 7541, 5.1)."""
    number = start
    for shift in (0, 7, 14, 21):
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise HpackError("an integer has too many bytes")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    first = block[position]
    position += 1
    length = first & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise HpackError("the block ends within a string")
    text = block[position:end]
    if first >= 0x80:
        try:
            return decode_huffman(text), end
        except ValueError:
            raise HpackError("a string is not Huffman code") from None
    return text, end
