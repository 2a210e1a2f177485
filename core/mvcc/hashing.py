"""The hash of a store's history as etcd computes it, so that two kinds of members can be compared.

CRC-32C over the word ``key`` and, by revision, over each record's place and content. The place is the
main and the sub revision in eight bytes each, joined by ``_``, and a ``t`` after a deletion; a deletion's
content is its key alone.

Records up to the last compaction count only while they are still the newest of their key at the revision
asked for; when no key is left at that revision, all that the compaction has kept count. (So etcd 3.4 does; a
member that has dropped more or less of what it may drop gets the same number.)

All records are visited, so there is a form in steps (``mvcc.steps``), during which the store may change.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from operator import attrgetter
from struct import Struct as Layout

import google_crc32c

from ..wire.varint import encode_varint
from .pages import wire_forms_in_pages
from .record import Record
from .steps import PAGE_KEYS, Steps, finish
from .store import Store

__all__ = ["hash_history", "hash_in_pages", "hash_is_long"]

_PLACE = Layout(">qcq")
_by_place = attrgetter("mod_revision", "sub")


def hash_history(store: Store, revision: int) -> int:
    """The hash over everything up to ``revision``; visits every record, O(n log n).

    Args:
        revision: above ``store.compacted``, or equal to it when it is the newest; at most ``store.revision``.
    """
    return finish(hash_in_pages(store, revision))


def hash_is_long(store: Store) -> bool:
    """Whether more than a page of records may have to be visited."""
    return store.span(b"", None) + store.revision - max(store.compacted, 0) > PAGE_KEYS


def hash_in_pages(store: Store, revision: int) -> Steps[int]:
    """As ``hash_history``, in steps: the hash as it was at the first one, whatever happens between them."""
    total: int = google_crc32c.value(b"key")
    if revision < 0:
        return total  # before all there is
    compacted = store.compacted
    store.pin(compacted)
    try:
        runs = yield from _kept_by_compaction(store, compacted, revision)
        kept = merge(*runs, key=_by_place)
        while page := list(islice(kept, PAGE_KEYS)):
            total = yield from _extend(store, total, page)
        place = max(compacted, 1) + 1  # revision 1 is the empty store
        while place <= revision:
            page, place = store.changes(place, PAGE_KEYS, revision)
            total = yield from _extend(store, total, page)
        return total
    finally:
        store.unpin(compacted)


def _kept_by_compaction(store: Store, compacted: int, revision: int) -> Steps[list[list[Record]]]:
    """What counts of the records up to the compaction, one at most of each key; pages, each by age."""
    every: list[list[Record]] = []
    newest: list[list[Record]] = []
    exists = False  # a key, at ``revision``
    start = b""
    while True:
        keys = store.keys_from(start, None, PAGE_KEYS)
        now = {record.key: record for record in store.of_keys(keys, revision)}
        page = store.of_keys(keys, compacted) if compacted > 0 else []
        exists = exists or bool(now)
        page.sort(key=_by_place)
        every.append(page)
        newest.append([record for record in page if now.get(record.key) is record])
        yield
        if len(keys) < PAGE_KEYS:
            return newest if exists else every
        start = keys[-1] + b"\0"


def _extend(store: Store, total: int, records: list[Record]) -> Steps[int]:
    for found, forms in wire_forms_in_pages(store, records):
        parts: list[bytes] = []
        for record, data in zip(found, forms, strict=True):
            if record.version:
                parts += (_PLACE.pack(record.mod_revision, b"_", record.sub), data)
            else:
                key = b"".join((b"\n", encode_varint(len(record.key)), record.key))
                parts += (_PLACE.pack(record.mod_revision, b"_", record.sub), b"t", key)
        total = google_crc32c.extend(total, b"".join(parts))
        yield
    return total
