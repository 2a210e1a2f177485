"""The hash of a store's history as etcd computes it, so that two kinds of members can be compared.

CRC-32C over the word ``key`` and, by revision, over each record's place and content. The place is the
main and the sub revision in eight bytes each, joined by ``_``, and a ``t`` after a deletion; a deletion's
content is its key alone.

Records up to the last compaction count only while they are still the newest of their key at the revision
asked for; when no key is left at that revision, all that the compaction has kept count. (So etcd 3.4 does; a
member that has dropped more or less of what it may drop gets the same number.)
"""

from __future__ import annotations

from struct import Struct as Layout

import google_crc32c

from .record import Record, varint
from .store import Store

__all__ = ["hash_history"]

_PLACE = Layout(">qcq")


def hash_history(store: Store, revision: int) -> int:
    """The hash over everything up to ``revision``; visits every record, O(n log n).

    Args:
        revision: above ``store.compacted``, or equal to it when it is the newest; at most ``store.revision``.
    """
    records = _counted(store, revision)
    records.sort(key=lambda record: (record.mod_revision, record.sub))
    total: int = google_crc32c.value(b"key")
    for record in records:
        place = _PLACE.pack(record.mod_revision, b"_", record.sub)
        if record.version:
            total = google_crc32c.extend(total, place + store.data_of(record, keep=False))
        else:
            key = b"".join((b"\n", varint(len(record.key)), record.key))
            total = google_crc32c.extend(total, place + b"t" + key)
    return total


def _counted(store: Store, revision: int) -> list[Record]:
    recent: list[Record] = []
    old: list[Record] = []  # up to the compaction, one at most of each key
    for record in store.records():
        if record.mod_revision > store.compacted:
            if record.mod_revision <= revision:
                recent.append(record)
        elif store.at(record.key, store.compacted) is record:
            old.append(record)
    if store.count(b"", None, revision):
        old = [record for record in old if store.at(record.key, revision) is record]
    return recent + old
