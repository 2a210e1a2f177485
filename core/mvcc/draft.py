"""What one write request sees and does: the store, and on top of it the events it has made so far.

A draft never touches the store. Puts and deletions become events of the next revision, later reads of the
same request see them, and at the end ``delta()`` is handed to ``Store.advance``; or the draft is forgotten,
and nothing has happened. Whatever may visit many keys takes several steps; all of them see the revision that
was the newest when the draft was made, if that is pinned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import islice

from .record import Delta, Event, Record, make_record, make_tombstone
from .steps import PAGE_KEYS, Steps
from .store import Store

__all__ = ["Draft"]


class Draft:
    """A view with writes pending. Has the reading methods of ``Store`` that requests need."""

    __slots__ = ("_base", "_changed", "_events", "_unknown", "compacted", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self._base = store.revision
        self.compacted = store.compacted
        self._events: list[Event] = []
        self._changed: dict[bytes, Record] = {}
        self._unknown: list[bytes] | None = None  # the keys written that the store does not know; None: ask

    @property
    def revision(self) -> int:
        """The revision reads see: the next one as soon as something was written."""
        return self._base + (1 if self._events else 0)

    @property
    def size(self) -> int:
        """How many events it has made."""
        return len(self._events)

    def delta(self) -> Delta:
        """What was written."""
        return tuple(self._events)

    def latest(self, key: bytes) -> Record | None:
        """The key's record, own writes included; None when it does not exist."""
        record = self._changed.get(key)
        if record is not None:
            return record if record.version else None
        return self.store.at(key, self._base)

    def select(self, start: bytes, end: bytes | None, revision: int, limit: int = 0) -> list[Record]:
        """As ``Store.select``; at the newest revision own writes are seen."""
        if not self._events or revision < self.revision:
            return self.store.select(start, end, revision, limit)
        merged = {record.key: record for record in self.store.select(start, end, self._base)}
        for key, record in self._changed.items():
            if start <= key and (end is None or key < end):
                merged[key] = record
        records = [merged[key] for key in sorted(merged) if merged[key].version]
        return records[:limit] if limit else records

    def count(self, start: bytes, end: bytes | None, revision: int) -> int:
        """As ``Store.count``; at the newest revision own writes are seen."""
        if not self._events or revision < self.revision:
            return self.store.count(start, end, revision)
        return len(self.select(start, end, revision))

    def data_of(self, record: Record, *, keep: bool = True) -> bytes:
        """As ``Store.data_of``."""
        return self.store.data_of(record, keep=keep)

    def data_of_all(self, records: Sequence[Record]) -> list[bytes]:
        """As ``Store.data_of_all``."""
        return self.store.data_of_all(records)

    # ---- reading over several turns

    @property
    def settled(self) -> bool:
        """As ``Store.settled``: false once something was written, here or in the store."""
        return not self._events and self.store.settled and self.store.revision == self._base

    def span(self, start: bytes, end: bytes | None) -> int:
        """As ``Store.span``, own writes included; may count a little too much."""
        return self.store.span(start, end) + len(self._keys_unknown())

    def keys_from(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """As ``Store.keys_from``, own writes included."""
        keys = self.store.keys_from(start, end, limit)
        mine = [key for key in self._keys_unknown() if start <= key and (end is None or key < end)]
        return list(islice(merge(keys, mine), limit)) if mine else keys

    def of_keys(self, keys: Iterable[bytes], revision: int) -> list[Record]:
        """As ``Store.of_keys``; at the newest revision own writes are seen."""
        if not self._events:
            return self.store.of_keys(keys, revision)
        if revision < self.revision:
            return self.store.of_keys(filter(self.store.knows, keys), revision)
        changed, at, base = self._changed, self.store.at, self._base
        found = (changed.get(key) or at(key, base) for key in keys)
        return [record for record in found if record is not None and record.version]

    def pin(self, revision: int) -> None:
        """Nothing: who lets the store be compacted while a draft is in use has pinned all that it sees."""

    def unpin(self, revision: int) -> None:
        """Nothing, as ``pin``."""

    def _keys_unknown(self) -> list[bytes]:
        if self._unknown is None:
            knows = self.store.knows
            self._unknown = sorted(key for key in self._changed if not knows(key))
        return self._unknown

    # ---- writing

    def put(self, key: bytes, value: bytes, lease: int) -> Record | None:
        """Write a key; the record it replaces."""
        previous = self.latest(key)
        revision = self._base + 1
        if previous is None:
            self._unknown = None
            record = make_record(key, revision, revision, len(self._events), 1, value, lease)
        else:
            record = make_record(
                previous.key, previous.create_revision, revision, len(self._events), previous.version + 1,
                value, lease,
            )
        self._write(record, previous)
        return previous

    def delete_range(self, start: bytes, end: bytes | None) -> Steps[list[Record]]:
        """Delete every key in [start, end); the records that went, by key."""
        if self.span(start, end) <= PAGE_KEYS:
            gone = self.select(start, end, self.revision)
            self._delete_all(gone)
            return gone
        gone = []
        while True:
            keys = self.keys_from(start, end, PAGE_KEYS)
            page = self.of_keys(keys, self.revision)
            self._delete_all(page)
            gone += page
            if len(keys) < PAGE_KEYS:
                return gone
            start = keys[-1] + b"\0"
            yield

    def delete(self, record: Record) -> None:
        """Delete the key whose present record this is."""
        self._write(make_tombstone(record.key, self._base + 1, len(self._events)), record)

    def _delete_all(self, records: Iterable[Record]) -> None:
        for record in records:
            self.delete(record)

    def _write(self, record: Record, previous: Record | None) -> None:
        self._events.append(Event(record, previous))
        self._changed[record.key] = record
