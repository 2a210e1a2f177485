"""Lay out a bbolt file from sorted entries, page by page, as a stream.

The first pages of a file say where the root is and how long the file will be, so a stream needs to know its
end before it begins: the same entries go through twice. The first time only sizes are counted
(``DatabaseWriter(None)``); the second time (``DatabaseWriter(plan)``) pages come out as they fill. Whoever
feeds the two must give the same entries; ``finish`` makes sure that the lengths agree. Memory does not
depend on the number of entries: one page for each level of the tree.

Buckets come first, then the page of the root that names them. A leaf is as full as possible; a value that
does not fit gets a page of several times the length. A small bucket lives inside the root's page, as bbolt
itself would put it.
"""

from __future__ import annotations

from .format import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET_FLAG,
    BUCKET_HEADER,
    ELEMENT_BYTES,
    INLINE_BYTES_MAX,
    LEAF,
    LEAF_ELEMENT,
    PAGE_BYTES,
    PAGE_HEADER,
    PAGE_HEADER_BYTES,
    DamagedDatabase,
    Meta,
    encode_meta,
)  # fmt: skip

__all__ = ["BucketWriter", "DatabaseWriter"]

_FIRST_PAGE = 4  # a file that etcd has just made uses 2 and 3 for what it threw away at once
_TRANSACTION = 2  # of meta page 0; page 1 has the one before


class DatabaseWriter:
    """Makes one file.

    Args:
        plan: what ``finish`` of a first pass returned; None: this is the first pass, no bytes are made.
    """

    def __init__(self, plan: Meta | None) -> None:
        self.plan = plan
        self._pages: list[bytes] = []
        self._waiting = 0
        self.next_page = _FIRST_PAGE
        self._last_name: bytes | None = None
        self._open: BucketWriter | None = None
        if plan is not None:
            second = Meta(plan.page_bytes, plan.root, plan.page_count, plan.transaction - 1)
            self._push(encode_meta(0, plan) + encode_meta(1, second))
            self._push(bytes((_FIRST_PAGE - 2) * PAGE_BYTES))
        self._root = BucketWriter(self)

    def bucket(self, name: bytes) -> BucketWriter:
        """Close the bucket that was open and begin the next.

        Names must ascend.
        """
        self._close()
        if self._last_name is not None and name <= self._last_name:
            raise ValueError(f"buckets must ascend, {name!r} came after {self._last_name!r}")
        self._last_name = name
        self._open = BucketWriter(self)
        return self._open

    @property
    def waiting(self) -> int:
        """How many bytes ``take`` would give."""
        return self._waiting

    def take(self) -> bytes:
        """The bytes made since the last call."""
        data = b"".join(self._pages)
        self._pages.clear()
        self._waiting = 0
        return data

    def finish(self) -> Meta:
        """Write the root; the plan for the second pass, and what ``Meta.page_count`` pages make: the size.

        Raises:
            DamagedDatabase: the second pass was given other entries than the first.
        """
        self._close()
        meta = Meta(PAGE_BYTES, self._root.close(), self.next_page, _TRANSACTION)
        if self.plan is not None and self.plan != meta:
            raise DamagedDatabase(f"planned {self.plan.page_count} pages, {meta.page_count} came")
        return meta

    def _close(self) -> None:
        if self._open is None:
            return
        assert self._last_name is not None
        value = self._open.inline()
        if value is None:
            value = BUCKET_HEADER.pack(self._open.close(), 0)
        self._root.add(self._last_name, value, flags=BUCKET_FLAG)
        self._open = None

    def place(self, kind: int, elements: list[tuple[bytes, bytes]], size: int, flags: int) -> int:
        """Put a page at the end of the file; its number.

        Args:
            elements: of a branch, keys and children (8 bytes, little-endian); of a leaf, keys and values.
            size: of the page in bytes, header and elements included.
        """
        number = self.next_page
        pages = -(-size // PAGE_BYTES)
        self.next_page += pages
        if self.plan is not None:
            head = PAGE_HEADER.pack(number, kind, len(elements), pages - 1)
            make = _leaf_parts if kind == LEAF else _branch_parts
            self._push(b"".join((head, *make(elements, flags))).ljust(pages * PAGE_BYTES, b"\0"))
        return number

    def _push(self, data: bytes) -> None:
        self._pages.append(data)
        self._waiting += len(data)


class BucketWriter:
    """One bucket being filled, in ascending order of keys."""

    __slots__ = ("_database", "_elements", "_flags", "_last", "_levels", "_size")

    def __init__(self, database: DatabaseWriter) -> None:
        self._database = database
        self._elements: list[tuple[bytes, bytes]] = []
        self._size = PAGE_HEADER_BYTES
        self._flags = 0
        self._last: bytes | None = None
        self._levels: list[_Level] = []  # of branches, the lowest first

    def add(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Add an entry; ``ValueError`` when the key is empty or not above the last one."""
        if not key or (self._last is not None and key <= self._last):
            raise ValueError(f"keys must ascend, {key!r} came after {self._last!r}")
        self._last = key
        size = ELEMENT_BYTES + len(key) + len(value)
        if self._size + size > PAGE_BYTES and len(self._elements) > 1:
            self._flush()
        self._flags = flags
        self._size += size
        self._elements.append((key, value))

    def inline(self) -> bytes | None:
        """The bucket as a value of its parent; None when it is too large for that."""
        if self._levels or self._size > INLINE_BYTES_MAX:
            return None
        head = BUCKET_HEADER.pack(0, 0) + PAGE_HEADER.pack(0, LEAF, len(self._elements), 0)
        return b"".join((head, *_leaf_parts(self._elements, 0)))

    def close(self) -> int:
        """Write what is left; the number of the root's page."""
        if not self._levels:
            return self._database.place(LEAF, self._elements, self._size, self._flags)
        self._flush()
        for height, level in enumerate(self._levels):  # grows while it is walked
            if height == len(self._levels) - 1 and len(level.elements) == 1:
                return level.last_child
            self._flush_level(height)
        raise AssertionError("a tree has a top")

    def _flush(self) -> None:
        number = self._database.place(LEAF, self._elements, self._size, self._flags)
        first = self._elements[0][0]
        self._elements = []
        self._size = PAGE_HEADER_BYTES
        self._add_child(0, first, number)

    def _add_child(self, height: int, key: bytes, number: int) -> None:
        if height == len(self._levels):
            self._levels.append(_Level())
        level = self._levels[height]
        if level.size + ELEMENT_BYTES + len(key) > PAGE_BYTES and len(level.elements) > 1:
            self._flush_level(height)
        level.add(key, number)

    def _flush_level(self, height: int) -> None:
        level = self._levels[height]
        first = level.elements[0][0]
        number = self._database.place(BRANCH, level.elements, level.size, 0)
        level.clear()
        self._add_child(height + 1, first, number)


class _Level:
    """The branch page being filled at one height."""

    __slots__ = ("elements", "last_child", "size")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.elements: list[tuple[bytes, bytes]] = []
        self.size = PAGE_HEADER_BYTES
        self.last_child = 0

    def add(self, key: bytes, number: int) -> None:
        self.elements.append((key, number.to_bytes(8, "little")))
        self.size += ELEMENT_BYTES + len(key)
        self.last_child = number


def _leaf_parts(elements: list[tuple[bytes, bytes]], flags: int) -> list[bytes]:
    heads: list[bytes] = []
    data: list[bytes] = []
    place = len(elements) * ELEMENT_BYTES
    pack = LEAF_ELEMENT.pack
    for key, value in elements:
        key_bytes, value_bytes = len(key), len(value)
        heads.append(pack(flags, place, key_bytes, value_bytes))
        data += (key, value)
        place += key_bytes + value_bytes - ELEMENT_BYTES
    return heads + data


def _branch_parts(elements: list[tuple[bytes, bytes]], _: int) -> list[bytes]:
    heads: list[bytes] = []
    place = len(elements) * ELEMENT_BYTES
    for key, child in elements:
        heads.append(BRANCH_ELEMENT.pack(place, len(key), int.from_bytes(child, "little")))
        place += len(key) - ELEMENT_BYTES
    return heads + [key for key, _ in elements]
