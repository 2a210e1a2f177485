"""The keys, sorted: those that exist now, and those that only the past knows.

A range over the present touches live keys only and counts them in O(log n); one over the past merges both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sortedcontainers import SortedList

__all__ = ["KeyIndex"]

#: Keys that are sorted in one piece while loading.
_SORTED_AT_ONCE: Final = 20_000


class KeyIndex:
    """The keys of one store; each is live or dead. Ranges are [start, end), ``end`` None: unbounded."""

    __slots__ = ("_dead", "_live")

    def __init__(self, live: Iterable[bytes] = (), dead: Iterable[bytes] = ()) -> None:
        self._live = _sorted_list(list(live))
        self._dead = _sorted_list(list(dead))

    def __len__(self) -> int:
        """How many keys exist now."""
        return len(self._live)

    def add(self, key: bytes, *, live: bool) -> None:
        """A key that was never seen."""
        (self._live if live else self._dead).add(key)

    def move(self, key: bytes, *, live: bool) -> None:
        """A known key has come into being again, or has gone."""
        if live:
            self._dead.remove(key)
            self._live.add(key)
        else:
            self._live.remove(key)
            self._dead.add(key)

    def forget(self, key: bytes) -> None:
        """Nothing is left of a dead key."""
        self._dead.remove(key)

    def live(self, start: bytes, end: bytes | None, limit: int) -> Iterator[bytes]:
        """The first ``limit`` (0: all) live keys of a range."""
        low, high = _span(self._live, start, end)
        keys: Iterator[bytes] = self._live.islice(low, min(high, low + limit) if limit else high)
        return keys

    def live_count(self, start: bytes, end: bytes | None) -> int:
        """How many live keys a range has; O(log n)."""
        low, high = _span(self._live, start, end)
        return max(0, high - low)

    def known(self, start: bytes, end: bytes | None) -> Sequence[bytes]:
        """All keys of a range, live or dead, sorted."""
        inclusive = (True, False)
        live = list(self._live.irange(start, end, inclusive))
        dead = list(self._dead.irange(start, end, inclusive))
        return sorted(live + dead) if dead else live

    def known_count(self, start: bytes, end: bytes | None) -> int:
        """How many keys of a range are known; O(log n)."""
        count = self.live_count(start, end)
        if self._dead:
            low, high = _span(self._dead, start, end)
            count += max(0, high - low)
        return count

    def first_known(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first ``limit`` keys of a range, live or dead, sorted."""
        inclusive = (True, False)
        live = list(islice(self._live.irange(start, end, inclusive), limit))
        if not self._dead:
            return live
        dead = list(islice(self._dead.irange(start, end, inclusive), limit))
        return sorted(live + dead)[:limit] if dead else live


def _span(keys: SortedList[bytes], start: bytes, end: bytes | None) -> tuple[int, int]:
    low = keys.bisect_left(start) if start else 0
    return low, len(keys) if end is None else keys.bisect_left(end)


def _sorted_list(keys: list[bytes]) -> SortedList[bytes]:
    """The keys sorted, a part at a time: first by which part of a sample they fall into."""
    parts = len(keys) // _SORTED_AT_ONCE
    if parts < 2:
        return SortedList(keys)
    sample = sorted(keys[:: len(keys) // (parts * 16)])
    bounds = sample[16::16]
    buckets: list[list[bytes]] = [[] for _ in range(len(bounds) + 1)]
    for key in keys:
        buckets[bisect_right(bounds, key)].append(key)
    found: list[bytes] = []
    for bucket in buckets:
        bucket.sort()
        found += bucket
    return SortedList(found)
