"""The multi-version store: every key's history, a sorted index of keys, and a log of what revisions changed.

Reading is a question to ``Store`` at a revision; writing is ``advance(delta)``, where the delta was computed
without touching the store (``mvcc.evaluate``). Three structures, each with one duty:

- ``_histories``: key -> its records (``mvcc.history``). The newest record is found by one dictionary look-up,
  an older one by bisection.
- ``_keys``: the keys that exist now, and those that only the past knows, both sorted (``mvcc.key_index``).
- ``_changes``: the keys that each revision changed (``mvcc.changelog``). Watchers read their past here.

What a record says besides its value stays in memory; its wire form, value included, need not (``resident``).
New records and dropped ones are noted for who writes the store to disk (``take_fresh``).

Compaction at C forgets what no read at or after C can see. It is logical at once (``compacted``) and
physical in steps (``scrub``), which walk the log from the old compaction to the new one: only keys changed
in between can have anything to drop. Tombstones at C itself stay until the next compaction, so that a watch
from C sees every event (etcd 19179 lost these). A read that takes several turns (``mvcc.pages``) pins its
revision: until it is done, nothing is dropped that it could still come to.

A delta of very many events is taken in a page at a time (``advance_in_pages``). Until its last page is in,
nobody sees anything of it: the present is then read as the past is, at the revision before.

The first revision is 1 (empty store); ``compacted`` is -1 before the first compaction, as in etcd.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final

from .changelog import ChangeLog
from .history import (
    History,
    event_at,
    extended,
    first_kept,
    place_of_record,
    record_at,
    without_first,
)
from .key_index import KeyIndex
from .record import Delta, Event, Record, share_key
from .resident import Resident
from .steps import PAGE_KEYS, Steps, finish

__all__ = ["Store"]

_by_revision = attrgetter("mod_revision")

#: Of one key, and at once: a key that was written a million times must not stall the rest.
_TRIM_RECORDS: Final = 1_000


class Store:
    """Every key at every revision since the last compaction. Mutable; only ``advance`` and ``compact``
    change what it says.

    ``fresh`` and ``dropped`` are for who writes the store to disk: the records that came and those that
    ``scrub`` dropped, since this was last asked (``take_fresh``).
    """

    __slots__ = (
        "_changes", "_histories", "_keys", "_pins", "_scrubbed", "advancing", "compacted", "dropped", "fresh",
        "resident", "revision",
    )

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.resident = Resident()
        #: A part of the next revision is in (``advance_in_pages``), and not to be seen.
        self.advancing = False
        self.fresh: list[Record] = []
        self.dropped: list[Record] = []
        self._histories: dict[bytes, History] = {}
        self._keys = KeyIndex()
        self._changes = ChangeLog()
        self._pins: list[int] = []  # revisions that somebody is still reading
        #: How far ``scrub`` is: up to which compaction, and with how many keys of the first revision left.
        self._scrubbed = (-1, 0)

    # ---- reading

    def latest(self, key: bytes) -> Record | None:
        """The key's record now; None when it does not exist."""
        history = self._histories.get(key)
        if history is None:
            return None
        if self.advancing:
            return record_at(history, self.revision)
        record = history[-1]
        return record if record.version else None

    def at(self, key: bytes, revision: int) -> Record | None:
        """The key's record as of ``revision``; None when it did not exist then.

        ``revision`` must be at least ``compacted``: older answers are not defined.
        """
        history = self._histories.get(key)
        return None if history is None else record_at(history, revision)

    def select(self, start: bytes, end: bytes | None, revision: int, limit: int = 0) -> list[Record]:
        """The records of [start, end) as of ``revision``, by key.

        Args:
            end: exclusive; None: every key from ``start`` on.
            revision: ``compacted`` .. ``revision`` of the store.
            limit: stop after so many records; 0: no limit.
        """
        if revision >= self.revision and not self.advancing:
            histories = self._histories
            return [histories[key][-1] for key in self._keys.live(start, end, limit)]
        revision = min(revision, self.revision)
        found = (self.at(key, revision) for key in self._keys.known(start, end))
        records = (record for record in found if record is not None)
        return list(islice(records, limit)) if limit else list(records)

    def count(self, start: bytes, end: bytes | None, revision: int) -> int:
        """How many keys [start, end) holds as of ``revision``; O(log n) for the present."""
        if revision >= self.revision and not self.advancing:
            return self._keys.live_count(start, end)
        revision = min(revision, self.revision)
        return sum(1 for key in self._keys.known(start, end) if self.at(key, revision) is not None)

    def live_count(self) -> int:
        """The number of keys there are now."""
        return len(self._keys)

    def holds(self, key: bytes, mod_revision: int, sub: int) -> bool:
        """Whether a record is still part of its key's history."""
        history = self._histories.get(key)
        return history is not None and place_of_record(history, mod_revision, sub) >= 0

    def data_of(self, record: Record, *, keep: bool = True) -> bytes:
        """The wire form of one of this store's records, from memory or from disk.

        Args:
            keep: have it in memory from now on, as it may be wanted again.

        Raises:
            Corruption: it is nowhere; so is that of a record that a compaction has dropped.
        """
        return self.resident.data_of(record, keep=keep)

    def data_of_all(self, records: Sequence[Record]) -> list[bytes]:
        """The wire forms of many records; what is read from disk is not kept."""
        return self.resident.data_of_all(records)

    def recall(self, records: Sequence[Record], limit: int) -> None:
        """Have the wire forms of the first of these records in memory again, about ``limit`` bytes."""
        self.resident.recall(records, limit)

    # ---- reading over several turns

    def span(self, start: bytes, end: bytes | None) -> int:
        """How many keys of [start, end) are known at all, now or in the past; O(log n)."""
        return self._keys.known_count(start, end)

    @property
    def settled(self) -> bool:
        """Reads of the newest revision find it without visiting the past: nothing is half in."""
        return not self.advancing

    def knows(self, key: bytes) -> bool:
        """Whether the key exists, now or in the past."""
        return key in self._histories

    def keys_from(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first ``limit`` known keys of [start, end), sorted; they may not exist at every revision."""
        return self._keys.first_known(start, end, limit)

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
        histories, keys_at = self._histories, self._changes.keys_at
        while revision <= last and len(found) < limit:
            for sub, key in enumerate(keys_at(revision)):
                history = histories[key]
                record = history[-1]
                if record.mod_revision != revision or record.sub != sub:
                    record = history[place_of_record(history, revision, sub)]
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
        newest = self.revision
        for key in sorted(self._histories):
            history = self._histories[key]
            for record in history[first_kept(history, self.compacted) :]:
                if record.mod_revision <= newest:
                    yield record

    def leased(self) -> list[Record]:
        """The records of the keys there are now that hang on a lease, by key."""
        newest = (history[-1] for history in self._histories.values())
        return sorted((record for record in newest if record.lease), key=attrgetter("key"))

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
        return finish(self.events_in_pages(revision, start, end, limit))

    def events_in_pages(
        self, revision: int, start: bytes, end: bytes | None, limit: int
    ) -> Steps[tuple[list[Event], int]]:
        """As ``events_since``; a revision of very many events takes several steps. ``revision`` is pinned."""
        if end == start + b"\0":
            return self._events_of_key(revision, start, limit)
        found: list[Event] = []
        seen = 0
        changes, histories = self._changes, self._histories
        revision = max(revision, changes.first)
        while revision <= self.revision and (seen < limit or not seen):
            keys = changes.keys_at(revision)
            seen += len(keys)
            for sub, key in enumerate(keys):
                if sub and sub % PAGE_KEYS == 0:
                    yield
                if start <= key and (end is None or key < end):
                    history = histories[key]
                    place = place_of_record(history, revision, sub)
                    assert place >= 0, (key, revision, sub)
                    found.append(event_at(history, place))
            revision += 1
        return found, revision

    def _events_of_key(self, revision: int, key: bytes, limit: int) -> tuple[list[Event], int]:
        """As ``events_since`` for one key, by its history: the length of the log does not matter."""
        history = self._histories.get(key, ())
        place = bisect_left(history, revision, key=_by_revision)
        end = bisect_right(history, self.revision, lo=place, key=_by_revision)
        found: list[Event] = []
        while place < end:
            record = history[place]
            if len(found) >= limit and record.mod_revision != found[-1].record.mod_revision:
                return found, record.mod_revision
            found.append(event_at(history, place))
            place += 1
        return found, self.revision + 1

    # ---- writing

    def advance(self, delta: Delta) -> None:
        """Make the delta the next revision; an empty delta changes nothing.

        The records of the delta must carry ``mod_revision == self.revision + 1``.
        """
        if len(delta) == 1:
            record, previous = delta[0].record, delta[0].previous
            if previous is not None and record.version:  # as most are: a put of a key that there is
                key = record.key
                self._histories[key] = extended(self._histories[key], record)
            else:
                self._enter((record,))
            self.fresh.append(record)
            self._changes.append(record.key)
            self.revision += 1
        elif delta:
            records = [event.record for event in delta]
            self._enter(records)
            self._finish_revision(records, [record.key for record in records])

    def advance_in_pages(self, delta: Delta) -> Steps[None]:
        """As ``advance``, in steps; until the last one, everything is as it was for all who read.

        A store whose steps are not all done is good for reading only. Nothing else may advance it meanwhile.
        """
        records: list[Record] = []
        keys: list[bytes] = []
        self.advancing = True
        for first in range(0, len(delta), PAGE_KEYS):
            page = [event.record for event in delta[first : first + PAGE_KEYS]]
            self._enter(page)
            records += page
            keys += [record.key for record in page]
            yield
        self.advancing = False
        if delta:
            self._finish_revision(records, keys)

    def _enter(self, records: Iterable[Record]) -> None:
        """Add records to their histories, and move keys that come or go."""
        histories = self._histories
        for record in records:
            key = record.key
            history = histories.get(key)
            if history is None:
                histories[key] = (record,)
                self._keys.add(key, live=bool(record.version))
                continue
            was_live = history[-1].version
            histories[key] = extended(history, record)
            if bool(was_live) != bool(record.version):
                self._keys.move(key, live=not was_live)

    def _finish_revision(self, records: list[Record], keys: list[bytes]) -> None:
        self.fresh += records
        self._changes.append(tuple(keys))
        self.revision += 1

    def compact(self, revision: int) -> None:
        """Forget logically what only reads before ``revision`` could see; ``scrub`` does the work.

        ``revision`` is above ``compacted`` and at most ``self.revision`` (``mvcc.checks.check_compaction``).
        """
        assert self.compacted < revision <= self.revision
        self.compacted = revision

    def scrub(self, limit: int) -> bool:
        """Drop about ``limit`` superseded records, and a thousand more at most, or look at so many keys.

        Returns:
            True when nothing is left to drop; calling again then is harmless. While a pin is in the way,
            False.
        """
        changes = self._changes
        horizon = min(self.compacted, *self._pins) if self._pins else self.compacted
        if horizon != self._scrubbed[0]:
            self._scrubbed = (horizon, 0)
        seen, place = 0, self._scrubbed[1]
        while changes.first <= horizon:
            keys = changes.keys_at(changes.first)
            while place < len(keys) and seen < limit:
                seen += 1 + self._trim(keys[place], horizon)
                place += 1
            if place < len(keys) or changes.first == horizon:  # whose entry stays: a watch may begin there
                break
            changes.forget(changes.first)
            place = 0
        self._scrubbed = (horizon, place)
        if seen >= limit:
            return False
        changes.give_back()
        return horizon == self.compacted

    def _trim(self, key: bytes, horizon: int) -> int:
        """Drop superseded records of a key, a bounded number: the log comes by once for each of them."""
        history = self._histories.get(key)
        if history is None:
            return 0
        place = min(first_kept(history, horizon), _TRIM_RECORDS)
        if place:
            self.dropped += history[:place]
            if place < len(history):
                self._histories[key] = without_first(history, place)
            else:
                del self._histories[key]
                self._keys.forget(key)
        return place

    # ---- the disk

    def take_fresh(self) -> tuple[list[Record], list[Record]]:
        """The records that came, in order, and those dropped since the last call (some may be in both)."""
        fresh, dropped = self.fresh, self.dropped
        self.fresh, self.dropped = [], []
        return fresh, dropped

    def settle(self, records: Iterable[Record]) -> None:
        """These records, taken by ``take_fresh``, can be fetched from now on."""
        self.resident.settle(records)

    # ---- whole states

    def load(self, revision: int, compacted: int, records: Iterable[Record]) -> None:
        """Become the store that ``records`` describe; only for an empty store.

        No single operation of it is long, so a thread that does this does not keep others from running.

        Args:
            records: of one key by age, as from ``records()``; what the compaction drops may be among them.
        """
        assert not self._histories
        self.revision, self.compacted = revision, compacted
        histories = self._histories
        for record in records:
            key = record.key
            history = histories.get(key)
            if history is None:
                histories[key] = (record,)
            else:
                share_key(record, history[0].key)
                histories[key] = extended(history, record)
        self._changes = ChangeLog.of(histories, max(2, compacted), revision)
        for key in [key for key, history in histories.items() if history[0].mod_revision <= compacted]:
            history = histories[key]
            first = first_kept(history, compacted)
            if first == len(history):
                del histories[key]
            elif first:
                histories[key] = without_first(history, first)
        self._keys = KeyIndex(
            (key for key, history in histories.items() if history[-1].version),
            (key for key, history in histories.items() if not history[-1].version),
        )
