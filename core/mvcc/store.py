"""The multi-version store: every key's history, a sorted index of keys, and a log of deltas by revision.

Reading is a question to ``Store`` at a revision; writing is ``advance(delta)``, where the delta was computed
without touching the store (``mvcc.evaluate``). Three structures, each with one duty:

- ``_histories``: key -> its records, oldest first. The newest record is found by one dictionary look-up,
  an older one by bisection. Generations (put, put, delete, put ...) need no structure of their own: a
  tombstone is a record of version 0, and a put after it starts at version 1.
- ``_live`` and ``_dead``: the keys that exist now, and those that only the past knows, both sorted. A range
  over the present touches live keys only and counts them in O(log n); a range over the past merges both.
- ``_log``: the delta of each revision, addressed by revision. Every revision above 1 has exactly one,
  because a request that changes nothing takes no revision. Watchers read their past here.

Compaction at C forgets what no read at or after C can see. It is logical at once (``compacted``) and
physical in steps (``scrub``), which walk the log from the old compaction to the new one: only keys changed
in between can have anything to drop. Tombstones at C itself stay until the next compaction, so that a watch
from C sees every event (etcd 19179 lost these).

The first revision is 1 (empty store); ``compacted`` is -1 before the first compaction, as in etcd.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter

from sortedcontainers import SortedList

from .record import Delta, Event, Record

__all__ = ["Store"]

_by_revision = attrgetter("mod_revision")


class Store:
    """Every key at every revision since the last compaction. Mutable; only ``advance``, ``compact`` and
    ``scrub`` change it."""

    __slots__ = (
        "_dead", "_histories", "_live", "_log", "_log_first", "_log_stale", "compacted", "data_bytes",
        "revision",
    )

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.data_bytes = 0  # wire bytes of all records held
        self._histories: dict[bytes, list[Record]] = {}
        self._live: SortedList[bytes] = SortedList()
        self._dead: SortedList[bytes] = SortedList()
        self._log: list[Delta] = []
        self._log_first = 2  # the revision of _log[0]
        self._log_stale = 0  # so many entries at its front have been forgotten

    # ---- reading

    def latest(self, key: bytes) -> Record | None:
        """The key's record now; None when it does not exist."""
        history = self._histories.get(key)
        if history is None:
            return None
        record = history[-1]
        return record if record.version else None

    def at(self, key: bytes, revision: int) -> Record | None:
        """The key's record as of ``revision``; None when it did not exist then.

        ``revision`` must be at least ``compacted``: older answers are not defined.
        """
        history = self._histories.get(key)
        if history is None:
            return None
        place = bisect_right(history, revision, key=_by_revision)
        if not place:
            return None
        record = history[place - 1]
        return record if record.version else None

    def select(self, start: bytes, end: bytes | None, revision: int, limit: int = 0) -> list[Record]:
        """The records of [start, end) as of ``revision``, by key.

        Args:
            end: exclusive; None: every key from ``start`` on.
            revision: ``compacted`` .. ``revision`` of the store.
            limit: stop after so many records; 0: no limit.
        """
        if revision >= self.revision:
            low, high = self._live_span(start, end)
            if limit:
                high = min(high, low + limit)
            histories = self._histories
            return [histories[key][-1] for key in self._live.islice(low, high)]
        found = (self.at(key, revision) for key in self._known_keys(start, end))
        records = (record for record in found if record is not None)
        return list(islice(records, limit)) if limit else list(records)

    def count(self, start: bytes, end: bytes | None, revision: int) -> int:
        """How many keys [start, end) holds as of ``revision``; O(log n) for the present."""
        if revision >= self.revision:
            low, high = self._live_span(start, end)
            return max(0, high - low)
        return sum(1 for key in self._known_keys(start, end) if self.at(key, revision) is not None)

    def live_count(self) -> int:
        """The number of keys there are now."""
        return len(self._live)

    def records(self) -> Iterator[Record]:
        """Every record that a read at or after the compaction, or a watch from it, can see: by key, then
        by age. Does not depend on how far ``scrub`` has come."""
        for key in sorted(self._histories):
            history = self._histories[key]
            yield from history[_first_kept(history, self.compacted) :]

    def events_since(
        self, revision: int, start: bytes, end: bytes | None, limit: int
    ) -> tuple[list[Event], int]:
        """The events of [start, end) from ``revision`` on, whole revisions, with bounded work.

        Args:
            revision: at least ``compacted`` (and 2): the first revision wanted.
            end: exclusive; None: every key from ``start`` on. For one key give ``start + b"\\0"``.
            limit: look at about so many events, matching or not; at least one revision is read.

        Returns:
            The matching events in order, and the revision to go on from; ``self.revision + 1`` at the end.
        """
        if end == start + b"\0":
            return self._events_of_key(revision, start, limit)
        found: list[Event] = []
        seen = 0
        place = max(revision - self._log_first, self._log_stale)
        log = self._log
        while place < len(log) and (seen < limit or not seen):
            delta = log[place]
            place += 1
            seen += len(delta)
            for event in delta:
                key = event.record.key
                if start <= key and (end is None or key < end):
                    found.append(event)
        return found, self._log_first + place

    def _events_of_key(self, revision: int, key: bytes, limit: int) -> tuple[list[Event], int]:
        """As ``events_since`` for one key, by its history: the length of the log does not matter."""
        history = self._histories.get(key, [])
        place = bisect_left(history, revision, key=_by_revision)
        found: list[Event] = []
        while place < len(history):
            record = history[place]
            if len(found) >= limit and record.mod_revision != found[-1].record.mod_revision:
                return found, record.mod_revision
            before = history[place - 1] if place else None
            found.append(Event(record, before if before is not None and before.version else None))
            place += 1
        return found, self.revision + 1

    def _live_span(self, start: bytes, end: bytes | None) -> tuple[int, int]:
        live = self._live
        low = live.bisect_left(start) if start else 0
        return low, len(live) if end is None else live.bisect_left(end)

    def _known_keys(self, start: bytes, end: bytes | None) -> Sequence[bytes]:
        inclusive = (True, False)
        live = list(self._live.irange(start, end, inclusive))
        dead = list(self._dead.irange(start, end, inclusive))
        return sorted(live + dead) if dead else live

    # ---- writing

    def advance(self, delta: Delta) -> None:
        """Make the delta the next revision; an empty delta changes nothing.

        The records of the delta must carry ``mod_revision == self.revision + 1``.
        """
        if not delta:
            return
        histories = self._histories
        for event in delta:
            record = event.record
            self.data_bytes += len(record.data)
            history = histories.get(record.key)
            if history is None:
                histories[record.key] = [record]
                if record.version:
                    self._live.add(record.key)
                else:
                    self._dead.add(record.key)
                continue
            was_live = history[-1].version
            history.append(record)
            if record.version:
                if not was_live:
                    self._dead.remove(record.key)
                    self._live.add(record.key)
            elif was_live:
                self._live.remove(record.key)
                self._dead.add(record.key)
        self._log.append(delta)
        self.revision += 1
        assert delta[0].record.mod_revision == self.revision

    def compact(self, revision: int) -> None:
        """Forget logically what only reads before ``revision`` could see; ``scrub`` does the work.

        ``revision`` is above ``compacted`` and at most ``self.revision`` (``mvcc.checks.check_compaction``).
        """
        assert self.compacted < revision <= self.revision
        self.compacted = revision

    def scrub(self, limit: int) -> bool:
        """Drop about ``limit`` superseded records and log entries.

        Returns:
            True when nothing is left to drop; calling again then is harmless.
        """
        log = self._log
        place, seen = self._log_stale, 0
        end = min(len(log), self.compacted - self._log_first)
        while place < end and seen < limit:
            for event in log[place]:
                self._trim(event.record.key)
            seen += len(log[place])
            log[place] = ()
            place += 1
        if place < end:
            self._log_stale = place
            return False
        if 0 <= end < len(log):
            for event in log[end]:
                self._trim(event.record.key)
        self._log_stale = place
        if place > len(log) // 2:  # seldom enough that moving the rest costs nothing in the mean
            del log[:place]
            self._log_first += place
            self._log_stale = 0
        return True

    def _trim(self, key: bytes) -> None:
        history = self._histories.get(key)
        if history is None:
            return
        place = _first_kept(history, self.compacted)
        if not place:
            return
        self.data_bytes -= sum(len(record.data) for record in history[:place])
        del history[:place]
        if not history:
            del self._histories[key]
            self._dead.remove(key)

    # ---- whole states

    def load(self, revision: int, compacted: int, records: Sequence[Record]) -> None:
        """Become the store that ``records`` (as from ``records()``) describe; only for an empty store."""
        assert not self._histories
        self.revision, self.compacted = revision, compacted
        for record in records:
            self._histories.setdefault(record.key, []).append(record)
            self.data_bytes += len(record.data)
        events: list[tuple[int, int, Event]] = []
        for key, history in self._histories.items():
            (self._live if history[-1].version else self._dead).add(key)
            previous: Record | None = None
            for record in history:
                events.append((record.mod_revision, record.sub, Event(record, previous)))
                previous = record if record.version else None
        events.sort(key=lambda row: row[:2])
        self._log_first = max(2, compacted)
        self._log = [() for _ in range(self._log_first, revision + 1)]
        place = bisect_left(events, self._log_first, key=lambda row: row[0])
        for mod_revision, _, event in events[place:]:
            self._log[mod_revision - self._log_first] += (event,)


def _first_kept(history: Sequence[Record], compacted: int) -> int:
    """Where the part of a key's history begins that must outlive a compaction.

    All records of the compacted revision itself stay, tombstones included, because a watch may begin there;
    otherwise the newest record before it stays, unless that is a tombstone.
    """
    place = bisect_right(history, compacted, key=_by_revision) - 1
    if place < 0:
        return 0
    if history[place].mod_revision == compacted:
        return bisect_left(history, compacted, key=_by_revision)
    return place if history[place].version else place + 1
