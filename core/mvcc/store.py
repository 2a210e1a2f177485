"""The multi-version store: every key's history, a sorted index of keys, and a log of what revisions changed.

Reading is a question to ``Store`` at a revision; writing is ``advance(delta)``, where the delta was computed
without touching the store (``mvcc.evaluate``). Three structures, each with one duty:

- ``_histories``: key -> its records, oldest first. The newest record is found by one dictionary look-up,
  an older one by bisection. Generations (put, put, delete, put ...) need no structure of their own: a
  tombstone is a record of version 0, and a put after it starts at version 1.
- ``_live`` and ``_dead``: the keys that exist now, and those that only the past knows, both sorted. A range
  over the present touches live keys only and counts them in O(log n); a range over the past merges both.
- ``_log``: the keys that each revision changed, addressed by revision. Every revision above 1 changes
  something, because a request that changes nothing takes no revision. Watchers read their past here: an
  event is found again in its key's history.

What a record says besides its value stays in memory; its wire form, value included, need not. New records
are noted in ``fresh``; once they are on disk (``settle``), the newest wire forms are kept up to a bound, and
older ones are read back by ``fetch`` when somebody wants them. Without a disk nothing is ever dropped.

Compaction at C forgets what no read at or after C can see. It is logical at once (``compacted``) and
physical in steps (``scrub``), which walk the log from the old compaction to the new one: only keys changed
in between can have anything to drop. Tombstones at C itself stay until the next compaction, so that a watch
from C sees every event (etcd 19179 lost these). A read that takes several turns (``mvcc.pages``) pins its
revision: until it is done, nothing is dropped that it could still come to.

The first revision is 1 (empty store); ``compacted`` is -1 before the first compaction, as in etcd.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import TypeAlias

from sortedcontainers import SortedList

from ..errors import Corruption
from .record import Delta, Event, Record, drop_data, restore_data, share_key

__all__ = ["RESIDENT_BYTES", "Fetch", "FetchAll", "Store"]

_by_revision = attrgetter("mod_revision")

#: Wire forms that are on disk, too, are kept in memory up to so many bytes.
RESIDENT_BYTES = 64 << 20

#: Of one key, and at once: a key that was written a million times must not stall the rest.
_TRIM_RECORDS = 1_000

#: Reads the wire form of the record with this ``mod_revision`` and ``sub`` back from disk.
Fetch: TypeAlias = Callable[[int, int], bytes]

#: Reads the wire forms of many records back, in their order: neighbours on disk cost one look.
FetchAll: TypeAlias = Callable[[Sequence[Record]], list[bytes]]


def _no_disk(revision: int, sub: int) -> bytes:
    raise Corruption(f"the record of revision {revision}.{sub} is neither in memory nor on disk")


def _none_on_disk(records: Sequence[Record]) -> list[bytes]:
    return [_no_disk(record.mod_revision, record.sub) for record in records]


class Store:
    """Every key at every revision since the last compaction. Mutable; only ``advance``, ``compact`` and
    ``scrub`` change what it says.

    ``fresh`` and ``dropped`` are for who writes the store to disk: the records that came and those that
    ``scrub`` dropped, since this was last asked (``take_fresh``).
    """

    __slots__ = (
        "_dead", "_histories", "_live", "_log", "_log_first", "_log_stale", "_pins", "_resident",
        "_resident_bytes", "compacted", "dropped", "fetch", "fetch_all", "fresh", "resident_limit",
        "revision",
    )

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.fetch: Fetch = _no_disk
        self.fetch_all: FetchAll = _none_on_disk
        self.resident_limit = RESIDENT_BYTES
        self.fresh: list[Record] = []
        self.dropped: list[Record] = []
        self._resident: deque[Record] = deque()  # on disk and in memory, by age
        self._resident_bytes = 0
        self._histories: dict[bytes, list[Record]] = {}
        self._live: SortedList[bytes] = SortedList()
        self._dead: SortedList[bytes] = SortedList()
        self._log: list[bytes | tuple[bytes, ...]] = []  # one key or, by ``sub``, several
        self._log_first = 2  # the revision of _log[0]
        self._log_stale = 0  # so many entries at its front have been forgotten
        self._pins: list[int] = []  # revisions that somebody is still reading

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

    def holds(self, key: bytes, mod_revision: int, sub: int) -> bool:
        """Whether a record is still part of its key's history."""
        return self._find(key, mod_revision, sub) >= 0

    def data_of(self, record: Record, *, keep: bool = True) -> bytes:
        """The wire form of one of this store's records, from memory or from disk.

        Args:
            keep: have it in memory from now on, as it may be wanted again.

        Raises:
            Corruption: it is nowhere; so is that of a record that a compaction has dropped.
        """
        data = record.data
        if data is None:
            data = self.fetch(record.mod_revision, record.sub)
            if keep:
                restore_data(record, data)
                self._keep((record,))
        return data

    def data_of_all(self, records: Sequence[Record]) -> list[bytes]:
        """The wire forms of many records; what is read from disk is not kept."""
        found = [record.data for record in records]
        if None in found:
            absent = [record for record in records if record.data is None]
            read = iter(self.fetch_all(absent))
            return [next(read) if data is None else data for data in found]
        return found  # type: ignore[return-value]  # no None in it

    # ---- reading over several turns

    def span(self, start: bytes, end: bytes | None) -> int:
        """How many keys of [start, end) are known at all, now or in the past; O(log n)."""
        low, high = self._live_span(start, end)
        dead = self._dead
        first = dead.bisect_left(start) if start else 0
        last = len(dead) if end is None else dead.bisect_left(end)
        return max(0, high - low) + max(0, last - first)

    def keys_from(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first ``limit`` known keys of [start, end), sorted; they may not exist at every revision."""
        inclusive = (True, False)
        live = list(islice(self._live.irange(start, end, inclusive), limit))
        dead = list(islice(self._dead.irange(start, end, inclusive), limit))
        return sorted(live + dead)[:limit] if dead else live

    def of_keys(self, keys: Iterable[bytes], revision: int) -> list[Record]:
        """The records of known keys as of ``revision``, without those that did not exist then."""
        histories = self._histories
        found: list[Record] = []
        for key in keys:
            history = histories[key]
            record = history[-1]
            if record.mod_revision > revision:
                place = bisect_right(history, revision, key=_by_revision)
                if not place:
                    continue
                record = history[place - 1]
            if record.version:
                found.append(record)
        return found

    def changes(self, revision: int, limit: int, last: int) -> tuple[list[Record], int]:
        """The records that revisions from ``revision`` to ``last`` wrote, about ``limit`` of them, by age.

        Args:
            revision: above ``compacted``, or above a pin.

        Returns:
            The records, and the revision to go on from; ``last + 1`` at the end.
        """
        found: list[Record] = []
        log, first, histories = self._log, self._log_first, self._histories
        while revision <= last and len(found) < limit:
            keys = log[revision - first]
            for sub, key in enumerate((keys,) if isinstance(keys, bytes) else keys):
                history = histories[key]
                record = history[-1]
                if record.mod_revision != revision or record.sub != sub:
                    record = history[self._find(key, revision, sub)]
                found.append(record)
            revision += 1
        return found, revision

    def pin(self, revision: int) -> None:
        """Keep all that reads at ``revision`` or later see, whatever is compacted, until ``unpin``.

        ``revision`` is at least ``compacted``.
        """
        assert revision >= self.compacted
        self._pins.append(revision)

    def unpin(self, revision: int) -> None:
        """Undo one ``pin`` of this revision."""
        self._pins.remove(revision)

    # ---- everything

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
            keys = log[place]
            if isinstance(keys, bytes):
                keys = (keys,)
            revision = self._log_first + place
            place += 1
            seen += len(keys)
            for sub, key in enumerate(keys):
                if start <= key and (end is None or key < end):
                    found.append(self._event(key, revision, sub))
        return found, self._log_first + place

    def _find(self, key: bytes, mod_revision: int, sub: int) -> int:
        """The place of a record in its key's history; -1 when it is not there."""
        history = self._histories.get(key, [])
        place = bisect_left(history, mod_revision, key=_by_revision)
        while place < len(history) and history[place].mod_revision == mod_revision:
            if history[place].sub == sub:
                return place
            place += 1
        return -1

    def _event(self, key: bytes, mod_revision: int, sub: int) -> Event:
        """The event of a revision not below the compaction."""
        place = self._find(key, mod_revision, sub)
        assert place >= 0, (key, mod_revision, sub)
        history = self._histories[key]
        before = history[place - 1] if place else None
        return Event(history[place], before if before is not None and before.version else None)

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
            self.fresh.append(record)
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
        self._log.append(delta[0].record.key if len(delta) == 1 else tuple(e.record.key for e in delta))
        self.revision += 1
        assert delta[0].record.mod_revision == self.revision

    def compact(self, revision: int) -> None:
        """Forget logically what only reads before ``revision`` could see; ``scrub`` does the work.

        ``revision`` is above ``compacted`` and at most ``self.revision`` (``mvcc.checks.check_compaction``).
        """
        assert self.compacted < revision <= self.revision
        self.compacted = revision

    def scrub(self, limit: int) -> bool:
        """Drop about ``limit`` superseded records and log entries, and a thousand records more at most.

        Returns:
            True when nothing is left to drop; calling again then is harmless. While a pin is in the way,
            False.
        """
        log = self._log
        horizon = min(self.compacted, *self._pins) if self._pins else self.compacted
        place, seen = self._log_stale, 0
        end = min(len(log), horizon - self._log_first)
        while place < end and seen < limit:
            seen += self._trim_all(log[place], horizon)
            log[place] = ()
            place += 1
        if place < end:
            self._log_stale = place
            return False
        if 0 <= end < len(log):
            self._trim_all(log[end], horizon)
        self._log_stale = place
        if place > len(log) // 2:  # seldom enough that moving the rest costs nothing in the mean
            del log[:place]
            self._log_first += place
            self._log_stale = 0
        return horizon == self.compacted

    def _trim_all(self, keys: bytes | tuple[bytes, ...], horizon: int) -> int:
        if isinstance(keys, bytes):
            keys = (keys,)
        return len(keys) + sum(self._trim(key, horizon) for key in keys)

    def _trim(self, key: bytes, horizon: int) -> int:
        """Drop superseded records of a key, a bounded number: the log comes by once for each of them."""
        history = self._histories.get(key)
        if history is None:
            return 0
        place = min(_first_kept(history, horizon), _TRIM_RECORDS)
        if place:
            self.dropped += history[:place]
            del history[:place]
            if not history:
                del self._histories[key]
                self._dead.remove(key)
        return place

    # ---- the disk

    def take_fresh(self) -> tuple[list[Record], list[Record]]:
        """The records that came, in order, and those dropped since the last call (some may be in both)."""
        fresh, dropped = self.fresh, self.dropped
        self.fresh, self.dropped = [], []
        return fresh, dropped

    def settle(self, records: Iterable[Record]) -> None:
        """These records, taken by ``take_fresh``, can be fetched from now on."""
        self._keep(records)

    def _keep(self, records: Iterable[Record]) -> None:
        """Add to what memory holds of the disk, and drop the oldest of it beyond the bound."""
        resident, size = self._resident, self._resident_bytes
        for record in records:
            resident.append(record)
            size += len(record.data or b"")
        limit = self.resident_limit
        while size > limit:
            record = resident.popleft()
            size -= len(record.data or b"")
            drop_data(record)
        self._resident_bytes = size

    # ---- whole states

    def load(self, revision: int, compacted: int, records: Iterable[Record]) -> None:
        """Become the store that ``records`` describe; only for an empty store.

        Args:
            records: of one key by age, as from ``records()``; what the compaction drops may be among them.
        """
        assert not self._histories
        self.revision, self.compacted = revision, compacted
        histories = self._histories
        for record in records:
            history = histories.get(record.key)
            if history is None:
                histories[record.key] = [record]
            else:
                share_key(record, history[0].key)
                history.append(record)
        self._log_first = max(2, compacted)
        self._load_log()
        for key in [key for key, history in histories.items() if history[0].mod_revision <= compacted]:
            history = histories[key]
            del history[: _first_kept(history, compacted)]
            if not history:
                del histories[key]
        self._live = SortedList(key for key, history in histories.items() if history[-1].version)
        self._dead = SortedList(key for key, history in histories.items() if not history[-1].version)

    def _load_log(self) -> None:
        """Note the changed keys of each revision from the compaction on."""
        first = self._log_first
        log: list[bytes | tuple[bytes, ...]] = [()] * (self.revision + 1 - first)
        crowded: dict[int, list[tuple[int, bytes]]] = {}
        for key, history in self._histories.items():
            for record in history:
                place = record.mod_revision - first
                if place >= 0:
                    if log[place]:
                        crowded[place] = []
                    log[place] = key
        if crowded:
            for key, history in self._histories.items():
                for record in history:
                    rows = crowded.get(record.mod_revision - first)
                    if rows is not None:
                        rows.append((record.sub, key))
            for place, rows in crowded.items():
                log[place] = tuple(key for _, key in sorted(rows))
        self._log = log


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
