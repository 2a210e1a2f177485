"""What one write request sees and does: the store, and on top of it the events it has made so far.

A draft never touches the store. Puts and deletions become events of the next revision, later reads of the
same request see them, and at the end ``delta()`` is handed to ``Store.advance``; or the draft is forgotten,
and nothing has happened.
"""

from __future__ import annotations

from collections.abc import Sequence

from .record import Delta, Event, Record, make_record, make_tombstone
from .store import Store

__all__ = ["Draft"]


class Draft:
    """A view with writes pending. Has the reading methods of ``Store`` that requests need."""

    __slots__ = ("_changed", "_events", "store")

    def __init__(self, store: Store) -> None:
        self.store = store
        self._events: list[Event] = []
        self._changed: dict[bytes, Record] = {}

    @property
    def revision(self) -> int:
        """The revision reads see: the next one as soon as something was written."""
        return self.store.revision + (1 if self._events else 0)

    @property
    def compacted(self) -> int:
        return self.store.compacted

    def delta(self) -> Delta:
        """What was written."""
        return tuple(self._events)

    def latest(self, key: bytes) -> Record | None:
        """The key's record, own writes included; None when it does not exist."""
        record = self._changed.get(key)
        if record is not None:
            return record if record.version else None
        return self.store.latest(key)

    def select(self, start: bytes, end: bytes | None, revision: int, limit: int = 0) -> list[Record]:
        """As ``Store.select``; at the newest revision own writes are seen."""
        if not self._events or revision < self.revision:
            return self.store.select(start, end, revision, limit)
        merged = {record.key: record for record in self.store.select(start, end, self.store.revision)}
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

    def data_of(self, record: Record) -> bytes:
        """As ``Store.data_of``."""
        return self.store.data_of(record)

    def data_of_all(self, records: Sequence[Record]) -> list[bytes]:
        """As ``Store.data_of_all``."""
        return self.store.data_of_all(records)

    def put(self, key: bytes, value: bytes, lease: int) -> Record | None:
        """Write a key; the record it replaces."""
        previous = self.latest(key)
        revision = self.store.revision + 1
        if previous is None:
            record = make_record(key, revision, revision, len(self._events), 1, value, lease)
        else:
            record = make_record(
                previous.key, previous.create_revision, revision, len(self._events), previous.version + 1,
                value, lease,
            )
        self._write(record, previous)
        return previous

    def delete_range(self, start: bytes, end: bytes | None) -> list[Record]:
        """Delete every key in [start, end); the records that went, by key."""
        gone = self.select(start, end, self.revision)
        for record in gone:
            self.delete(record)
        return gone

    def delete(self, record: Record) -> None:
        """Delete the key whose present record this is."""
        self._write(make_tombstone(record.key, self.store.revision + 1, len(self._events)), record)

    def _write(self, record: Record, previous: Record | None) -> None:
        self._events.append(Event(record, previous))
        self._changed[record.key] = record
