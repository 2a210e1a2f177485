"""Read a bbolt file through a function that gives bytes by position: a file of any size, little memory.

Nothing in the file is believed: every place is checked against its page, every page against the file, keys
must ascend, a tree may be neither deeper than any real one, nor lead back to a page on the way down. So a
damaged file ends in ``DamagedDatabase``, in bounded time and memory, whatever is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .format import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_BYTES,
    LEAF,
    LEAF_ELEMENT,
    META_BYTES,
    PAGE_HEADER,
    PAGE_HEADER_BYTES,
    DamagedDatabase,
    Meta,
    decode_meta,
)  # fmt: skip

__all__ = ["Bucket", "Database", "Read"]

_DEPTH_MAX = 32  # two children each would do for 2**32 pages


class Read(Protocol):
    """How the reader gets at the file."""

    def __call__(self, offset: int, length: int) -> bytes:
        """The bytes at ``offset``; fewer than ``length`` only at the end of the file."""


class Database:
    """An opened file. What follows the last page (a snapshot's hash) is not looked at.

    Args:
        read: gives the bytes.
        size: of the file in bytes.

    Raises:
        DamagedDatabase: There is no valid meta page, or the file is shorter than it says.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self.meta = _newest_meta(read, size)
        if self.meta.page_count * self.meta.page_bytes > size:
            raise DamagedDatabase(
                f"the database has {self.meta.page_count} pages of {self.meta.page_bytes} bytes,"
                f" the file only {size} bytes"
            )

    @property
    def size(self) -> int:
        """The bytes that belong to the database."""
        return self.meta.page_count * self.meta.page_bytes

    @property
    def root(self) -> Bucket:
        """The bucket that holds all others."""
        return Bucket(self, self.meta.root)

    def buckets(self) -> Iterator[tuple[bytes, Bucket]]:
        """The buckets of the root by name, in order."""
        root = self.root
        for name, value, is_bucket in root.entries():
            if is_bucket:
                yield name, root.nested(name, value)

    def bucket(self, name: bytes) -> Bucket | None:
        """The bucket of the root with that name; None when there is none."""
        for known, bucket in self.buckets():
            if known == name:
                return bucket
        return None

    def page(self, number: int) -> bytes:
        """A whole page with what follows it and belongs to it; raises ``DamagedDatabase``."""
        size = self.meta.page_bytes
        if not 2 <= number < self.meta.page_count:
            raise DamagedDatabase(f"page {number} is outside of the database")
        head = self._exactly(number * size, size)
        own_number, _, _, more = PAGE_HEADER.unpack_from(head)
        if own_number != number:
            raise DamagedDatabase(f"page {number} says that it is page {own_number}")
        if number + more >= self.meta.page_count:
            raise DamagedDatabase(f"page {number} is longer than the database")
        return head + self._exactly((number + 1) * size, more * size) if more else head

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) != length:
            raise DamagedDatabase(f"the file ends before byte {offset + length}")
        return data


class Bucket:
    """One bucket: a tree of pages, or one page inside its parent's value (``inline``)."""

    __slots__ = ("_database", "_inline", "_root")

    def __init__(self, database: Database, root: int, inline: bytes = b"") -> None:
        self._database = database
        self._root = root
        self._inline = inline

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in order; buckets inside are left out. Raises ``DamagedDatabase`` on the way."""
        return ((key, value) for key, value, is_bucket in self.entries() if not is_bucket)

    def entries(self) -> Iterator[tuple[bytes, bytes, bool]]:
        """Every element in order, and whether it is a bucket."""
        previous: bytes | None = None
        for page in self._leaves():
            for key, value, is_bucket in _leaf_elements(page):
                if previous is not None and key <= previous:
                    raise DamagedDatabase(f"the key {key[:32].hex()} is out of order")
                previous = key
                yield key, value, is_bucket

    def nested(self, name: bytes, value: bytes) -> Bucket:
        """The bucket that an element of this one stands for; raises ``DamagedDatabase``."""
        if len(value) < BUCKET_HEADER.size:
            raise DamagedDatabase(f"the bucket {name[:32]!r} has no header")
        root, _ = BUCKET_HEADER.unpack_from(value)
        if root:
            return Bucket(self._database, root)
        inline = value[BUCKET_HEADER.size :]
        if len(inline) < PAGE_HEADER_BYTES:
            raise DamagedDatabase(f"the bucket {name[:32]!r} has no page")
        return Bucket(self._database, 0, inline)

    def _leaves(self) -> Iterator[bytes]:
        """The leaf pages from left to right."""
        if not self._root:
            if _kind(self._inline) != LEAF:
                raise DamagedDatabase("a bucket inside a value is not a leaf")
            yield self._inline
            return
        database = self._database
        budget = database.meta.page_count  # no page can be met twice
        path: list[Iterator[int]] = [iter((self._root,))]
        while path:
            number = next(path[-1], None)
            if number is None:
                path.pop()
                continue
            budget -= 1
            if budget < 0:
                raise DamagedDatabase(f"page {number} is met more than once")
            page = database.page(number)
            kind = _kind(page)
            if kind == LEAF:
                yield page
            elif kind == BRANCH and len(path) < _DEPTH_MAX:
                path.append(iter(_children(page, number)))
            else:
                raise DamagedDatabase(f"page {number} of kind {kind} does not belong at depth {len(path)}")


def _newest_meta(read: Read, size: int) -> Meta:
    found: list[Meta] = []
    first = decode_meta(read(0, META_BYTES)) if size >= META_BYTES else None
    if first is not None:
        found.append(first)
    sizes = [first.page_bytes] if first is not None else [1 << power for power in range(9, 17)]
    for page_bytes in sizes:
        second = decode_meta(read(page_bytes, META_BYTES)) if size >= page_bytes + META_BYTES else None
        if second is not None and second.page_bytes == page_bytes:
            found.append(second)
    if not found:
        raise DamagedDatabase("invalid database")
    return max(found, key=lambda meta: meta.transaction)


def _kind(page: bytes) -> int:
    kind: int = PAGE_HEADER.unpack_from(page)[1]
    return kind


def _count(page: bytes) -> int:
    count: int = PAGE_HEADER.unpack_from(page)[2]
    if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > len(page):
        raise DamagedDatabase(f"a page of {len(page)} bytes cannot have {count} elements")
    return count


def _children(page: bytes, number: int) -> list[int]:
    count = _count(page)
    if not count:
        raise DamagedDatabase(f"branch page {number} is empty")
    end = PAGE_HEADER_BYTES + count * ELEMENT_BYTES
    return [child for _, _, child in BRANCH_ELEMENT.iter_unpack(page[PAGE_HEADER_BYTES:end])]


def _leaf_elements(page: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    end = PAGE_HEADER_BYTES + _count(page) * ELEMENT_BYTES
    place, size = PAGE_HEADER_BYTES, len(page)
    for flags, offset, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(page[PAGE_HEADER_BYTES:end]):
        start = place + offset
        middle = start + key_bytes
        if start < end or middle + value_bytes > size:
            raise DamagedDatabase("an element lies outside of its page")
        yield page[start:middle], page[middle : middle + value_bytes], bool(flags & BUCKET_FLAG)
        place += ELEMENT_BYTES
