"""Counting what requests do to the store, the way etcd's metrics count it.

Counted are operations, not keys: a deletion of a thousand keys is one, one that finds nothing, too. What a
request reads on its way counts as ranges: each comparison that was looked at, and the previous value of a
put or deletion that asks for it. A piece of work of more than one operation counts as a transaction; a
transaction that writes is two pieces, its comparisons and its operations.

These numbers are this member's own and no part of the replicated state.
"""

from __future__ import annotations

__all__ = ["Tally"]


class Tally:
    """Plain numbers since the start of the member."""

    __slots__ = ("deletes", "lease_seconds", "lease_ttls", "leases_revoked", "puts", "ranges", "txns")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew: what was counted was the replay of the log."""
        self.puts = self.deletes = self.ranges = self.txns = 0
        self.leases_revoked = self.lease_seconds = 0
        #: How many leases were granted for how many seconds, rounded up to a power of two.
        self.lease_ttls: dict[int, int] = {}

    @property
    def leases_granted(self) -> int:
        """Leases granted so far."""
        return sum(self.lease_ttls.values())

    def grant(self, ttl: int) -> None:
        """A lease of ``ttl`` seconds was granted."""
        rounded = 1 << max(0, ttl - 1).bit_length()
        self.lease_seconds += ttl
        self.lease_ttls[rounded] = self.lease_ttls.get(rounded, 0) + 1

    @property
    def operations(self) -> int:
        """All of them so far; to be noted when a piece of work begins, and given to ``end``."""
        return self.puts + self.deletes + self.ranges

    def end(self, before: int) -> None:
        """A piece of work ends, at whose begin ``operations`` was ``before``."""
        if self.operations - before > 1:
            self.txns += 1
