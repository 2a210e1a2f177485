"""Fields to HPACK header blocks that never touch a dynamic table.

Every field is written as a literal without indexing (RFC 7541, 6.2.2), so a block is a constant: it can
be encoded once and sent on any connection, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable

from .hpack_static import STATIC_PLACES

__all__ = ["encode_plain"]


def _integer(number: int, prefix_bits: int) -> bytes:
    limit = (1 << prefix_bits) - 1
    if number < limit:
        return bytes((number,))
    out = bytearray((limit,))
    number -= limit
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_plain(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode fields (names in lower case); a full match of the static table becomes its index."""
    out = []
    for name, value in fields:
        index, values = STATIC_PLACES.get(name, (0, {}))
        exact = values.get(value)
        if exact is not None:
            out.append(bytes((0x80 | exact,)))
            continue
        out.append(_integer(index, 4))
        if not index:
            out.append(_integer(len(name), 7) + name)
        out.append(_integer(len(value), 7) + value)
    return b"".join(out)
