"""The replicated half of leases: which there are, how long they were granted for, which keys hang on them.

No clock here: a lease ends only by ``LEASE_REVOKE`` or ``LEASE_EXPIRE`` in the log. The leader proposes the
latter when its deadline has passed (``lease.deadlines``), so all members agree at every index of the log.

A checkpoint tells how much of a lease's time is left, so that a new leader need not start it anew
(etcd 20273).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .. import rpc_errors
from ..rpc_errors import RpcError

__all__ = ["MAX_TTL", "Lease", "Lessor", "minimum_ttl"]

#: The longest lease, in seconds.
MAX_TTL = 9_000_000_000


def minimum_ttl(election_timeout_ms: int) -> int:
    """The shortest lease in whole seconds: one and a half election timeouts, rounded up.

    A shorter one could run out while a leader is being elected, with nobody to renew it.
    """
    return -(-3 * election_timeout_ms // 2000)


class Lease(msgspec.Struct):
    """One lease. ``keys`` is ordered by attachment; the values of that dictionary mean nothing."""

    id: int
    ttl: int  # seconds, as granted
    remaining: int = 0  # seconds left at the last checkpoint; 0: no checkpoint, so ``ttl``
    keys: dict[bytes, None] = msgspec.field(default_factory=dict)


class Lessor:
    """The leases there are, in order of their grants. ``id in lessor`` tells whether one exists."""

    __slots__ = ("_granted", "_leases")

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._granted: dict[int, int] = {}  # the term of its grant

    def __contains__(self, lease_id: object) -> bool:
        return lease_id in self._leases

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def get(self, lease_id: int) -> Lease | None:
        return self._leases.get(lease_id)

    def grant(self, lease_id: int, ttl: int, term: int = 0) -> RpcError | None:
        """Add a lease.

        Args:
            lease_id: chosen by the client or the proposing member; 0 is not a lease.
            ttl: seconds; the proposing member has raised it to its minimum.
            term: of the entry that grants it; 0: long ago.

        Returns:
            LEASE_NOT_FOUND for id 0, LEASE_TTL_TOO_LARGE, LEASE_EXISTS, or None: granted.
        """
        if not lease_id:
            return rpc_errors.LEASE_NOT_FOUND
        if ttl > MAX_TTL:
            return rpc_errors.LEASE_TTL_TOO_LARGE
        if lease_id in self._leases:
            return rpc_errors.LEASE_EXISTS
        self._leases[lease_id] = Lease(lease_id, ttl)
        self._granted[lease_id] = term
        return None

    def take_granted(self, term: int = 0) -> list[Lease]:
        """The leases granted since this was last asked, in ``term`` or later, and still there.

        Who counts deadlines asks often.
        """
        granted, self._granted = self._granted, {}
        return [self._leases[lease_id] for lease_id, since in granted.items() if since >= term]

    def remove(self, lease_id: int) -> Lease | None:
        """Forget a lease; its keys are the caller's to delete. None: there is no such lease."""
        self._granted.pop(lease_id, None)
        return self._leases.pop(lease_id, None)

    def attach(self, lease_id: int, key: bytes) -> None:
        """Hang a key on a lease; nothing happens when the lease is unknown."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.keys[key] = None

    def detach(self, lease_id: int, key: bytes) -> None:
        """Take a key off a lease, if it hangs there."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.keys.pop(key, None)

    def checkpoint(self, lease_id: int, remaining: int) -> None:
        """Note that ``remaining`` seconds were left; 0 clears the note, so the whole TTL counts again."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.remaining = max(0, min(remaining, lease.ttl))
