"""The bytes of a bbolt file.

A file is a row of pages. Each begins with 16 bytes: its number, its kind, how many elements it has, and how
many pages follow that belong to it (a large value makes a page longer). All numbers are little-endian.

- Pages 0 and 1 are *meta* pages: the page size, the page of the root bucket, how many pages there are, a
  transaction number, and FNV-1a over all that. The valid one with the higher number counts.
- A *branch* page has elements of 16 bytes (place of the key, its length, page of the child), then the keys.
- A *leaf* page has elements of 16 bytes (flags, place of the key, its length, the value's length), then keys
  and values. Places count from the element itself.

A bucket is such a tree. A bucket in a bucket is a leaf element with flag 1 whose value is the page of its own
root and a sequence number; page 0 means that a whole leaf page, header included, follows in the value.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final

import msgspec

from ..errors import Corruption

__all__ = [
    "BRANCH", "BRANCH_ELEMENT", "BUCKET_FLAG", "BUCKET_HEADER", "ELEMENT_BYTES", "INLINE_BYTES_MAX", "LEAF",
    "LEAF_ELEMENT", "META", "META_BYTES", "PAGE_BYTES", "PAGE_HEADER", "PAGE_HEADER_BYTES", "DamagedDatabase",
    "Meta", "decode_meta", "encode_meta",
]

#: The size of the pages that we write; files of other sizes can be read.
PAGE_BYTES: Final = 4096
PAGE_HEADER: Final = Layout("<QHHI")  # number, kind, elements, further pages
PAGE_HEADER_BYTES: Final = PAGE_HEADER.size
BRANCH_ELEMENT: Final = Layout("<IIQ")  # place, key length, child
LEAF_ELEMENT: Final = Layout("<IIII")  # flags, place, key length, value length
ELEMENT_BYTES: Final = 16  # of either kind
BUCKET_HEADER: Final = Layout("<QQ")  # page of the root, 0: inline; sequence
BRANCH: Final = 1  # kinds of pages
LEAF: Final = 2
META: Final = 4
BUCKET_FLAG: Final = 1  # of a leaf element
INLINE_BYTES_MAX: Final = PAGE_BYTES // 4  # a larger bucket gets pages of its own

_MAGIC = 0xED0CDAED
_VERSION = 2
_NO_FREE_LIST = 0xFFFF_FFFF_FFFF_FFFF  # whoever opens the file finds the free pages by walking it
_META = Layout("<IIIIQQQQQ")  # magic, version, page size, flags, root, sequence, free list, pages, number
_CHECKSUM = Layout("<Q")
META_BYTES: Final = PAGE_HEADER_BYTES + _META.size + _CHECKSUM.size


class DamagedDatabase(Corruption):
    """These bytes are not a whole bbolt file."""


class Meta(msgspec.Struct, frozen=True):
    """What a meta page says. Page numbers are positions in units of ``page_bytes``."""

    page_bytes: int
    root: int
    page_count: int
    transaction: int


def _fnv(data: bytes) -> int:
    """FNV-1a of 64 bits."""
    total = 0xCBF29CE484222325
    for byte in data:
        total = (total ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return total


def encode_meta(number: int, meta: Meta) -> bytes:
    """Meta page ``number`` (0 or 1) in full length."""
    body = _META.pack(
        _MAGIC, _VERSION, meta.page_bytes, 0, meta.root, 0, _NO_FREE_LIST, meta.page_count, meta.transaction
    )
    page = PAGE_HEADER.pack(number, META, 0, 0) + body + _CHECKSUM.pack(_fnv(body))
    return page.ljust(meta.page_bytes, b"\0")


def decode_meta(page: bytes) -> Meta | None:
    """Read a meta page from its first ``META_BYTES``; None when it is not a valid one."""
    if len(page) < META_BYTES:
        return None
    body = page[PAGE_HEADER_BYTES : PAGE_HEADER_BYTES + _META.size]
    magic, version, page_bytes, _, root, _, _, page_count, transaction = _META.unpack(body)
    (checksum,) = _CHECKSUM.unpack_from(page, PAGE_HEADER_BYTES + _META.size)
    if magic != _MAGIC or version != _VERSION or checksum != _fnv(body):
        return None
    if not 512 <= page_bytes <= 1 << 20 or page_bytes & (page_bytes - 1):
        return None
    return Meta(page_bytes, root, page_count, transaction)
