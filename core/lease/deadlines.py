"""When leases end, as the leader counts it: a heap of moments, with time given by the caller.

Renewing a lease happens far more often than ending one, so a renewal only pushes a new entry; entries that
are no longer true are dropped when they come up, and the heap is rebuilt when most of it is stale.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

__all__ = ["Deadlines"]


class Deadlines:
    """Lease id -> the moment it ends, in seconds of one clock."""

    __slots__ = ("_ends", "_heap")

    def __init__(self) -> None:
        self._ends: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def get(self, lease_id: int) -> float | None:
        """The moment the lease ends; None when it is not kept here."""
        return self._ends.get(lease_id)

    def in_order(self, lease_ids: Iterable[int]) -> list[int]:
        """Those leases, the one that ends first in front; those not kept here last, and equals by id."""
        ends, never = self._ends, float("inf")
        return sorted(sorted(lease_ids), key=lambda lease_id: ends.get(lease_id, never))

    def set(self, lease_id: int, end: float) -> None:
        """Let the lease end at ``end``, whatever was set before."""
        self._ends[lease_id] = end
        heappush(self._heap, (end, lease_id))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._ends):
            self._heap = [(moment, key) for key, moment in self._ends.items()]
            heapify(self._heap)

    def drop(self, lease_id: int) -> None:
        """Stop counting for a lease; unknown ones are ignored."""
        self._ends.pop(lease_id, None)

    def clear(self) -> None:
        self._ends.clear()
        self._heap.clear()

    def next_end(self) -> float | None:
        """The earliest end; None when nothing is kept."""
        self._settle()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float, limit: int) -> list[int]:
        """At most ``limit`` leases whose end is not after ``now``, earliest first; they stay kept."""
        found: dict[int, float] = {}  # setting the same end twice has left two equal entries
        while len(found) < limit:
            self._settle()
            if not self._heap or self._heap[0][0] > now:
                break
            end, lease_id = heappop(self._heap)
            found[lease_id] = end
        for lease_id, end in found.items():
            heappush(self._heap, (end, lease_id))
        return list(found)

    def _settle(self) -> None:
        heap, ends = self._heap, self._ends
        while heap and ends.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
