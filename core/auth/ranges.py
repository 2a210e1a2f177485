"""Which keys a set of permissions covers.

Permissions are half-open intervals of keys; those that overlap or touch are merged, so a request for a range
is allowed when one merged interval holds all of it, however many grants it was pieced together from.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

__all__ = ["Coverage", "interval"]

#: Start and exclusive end; None: unbounded.
Interval = tuple[bytes, "bytes | None"]


def interval(key: bytes, range_end: bytes) -> Interval:
    """The keys that a request or a permission names by ``key`` and ``range_end``; may be empty."""
    if not range_end:
        return key, key + b"\0"
    return key, (None if range_end == b"\0" else range_end)


class Coverage:
    """The union of some intervals; immutable."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[Interval]) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []
        for start, end in sorted(intervals, key=lambda one: one[0]):
            if end is not None and end <= start:
                continue
            if self._starts and _reaches(self._ends[-1], start):
                self._ends[-1] = _later(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def covers(self, start: bytes, end: bytes | None) -> bool:
        """Every key in [start, end) is covered; an empty range, where one from its start might be."""
        place = bisect_right(self._starts, start) - 1
        if place < 0:
            return False
        mine = self._ends[place]
        return mine is None or (end is not None and end <= mine)


def _reaches(end: bytes | None, start: bytes) -> bool:
    return end is None or start <= end


def _later(one: bytes | None, other: bytes | None) -> bytes | None:
    return None if one is None or other is None else max(one, other)
