"""What a lease promises: its key lives while it is renewed, and goes when it is not.

Not early: a renewal that was answered at or after the time t0 keeps the lease for its time to live; nobody
may see its key deleted before that, unless it was revoked on purpose. Not late: once the cluster is healed
a lease that nobody renews is gone after its time to live and a bound; a new leader may start the time anew,
once. With checkpoints (``Header.handover_seconds``) a change of leader costs that much and no more.

Times are true ones, while members measure with their own clocks; ``Header.fast_clocks`` is the share by
which those may run fast. Clocks that leap make the first promise void.

Source: etcd's lease documentation; Jepsen's analysis of etcd 3.4.3 for what leases do not promise.
"""

from __future__ import annotations

import msgspec

from ..history import Header, History, Operation
from .verdict import Verdict

__all__ = ["check_leases"]

_SECOND = 1_000_000_000


class _Lease(msgspec.Struct):
    """One lease as its holder saw it; times in ns."""

    ttl: int
    grant: Operation
    renewals: list[Operation]  # answered: the lease lived
    attempts: list[Operation]  # any that may have reached a leader
    revoked: int | None = None
    key: str = ""


def check_leases(history: History, *, bound_seconds: float = 3.0) -> Verdict:
    """Check the leases of a history; deletions are seen by its watches, survivors by its reads.

    Args:
        bound_seconds: how late a healed cluster may be, >= 0. Without ``header.healed`` nothing is late.
    """
    leases = _leases(history)
    broken = _early(history, leases, history.header.fast_clocks) or _late(history, leases, bound_seconds)
    total = len(leases)
    if broken is None:
        return Verdict(verdict="valid", checker="lease", checked=total, total=total)
    reason, core = broken
    return Verdict(verdict="invalid", checker="lease", reason=reason, core=core, total=total)


_Broken = tuple[str, tuple[Operation, ...]]


def _leases(history: History) -> dict[int, _Lease]:
    found: dict[int, _Lease] = {}
    for operation in sorted(history.operations, key=lambda o: o.invoke):
        if operation.f == "grant" and operation.outcome == "ok" and isinstance(operation.result, tuple):
            identity, ttl = operation.result
            assert isinstance(identity, int) and isinstance(ttl, int)
            found[identity] = _Lease(ttl, operation, [operation], [operation])
        lease = found.get(operation.lease)
        if lease is None:
            continue
        if operation.f == "put":
            lease.key = operation.key
        elif operation.f == "keepalive":
            if operation.outcome == "ok" and isinstance(operation.result, int) and operation.result > 0:
                lease.renewals.append(operation)
            if operation.outcome != "fail":
                lease.attempts.append(operation)
        elif operation.f == "revoke" and _on_purpose(operation) and lease.revoked is None:
            lease.revoked = operation.invoke
    return found


def _on_purpose(operation: Operation) -> bool:
    """Whether a client asked: the expiry that every lease may come to is noted without an error."""
    return operation.outcome == "ok" or bool(operation.error)


def _early(history: History, leases: dict[int, _Lease], slack: float) -> _Broken | None:
    by_key = {lease.key: lease for lease in leases.values() if lease.key}
    for watch in history.watches:
        for batch in watch.batches:
            for event in batch.events:
                lease = by_key.get(event.kv.key)
                if event.f != "delete" or lease is None:
                    continue
                if lease.revoked is not None and lease.revoked < batch.time:
                    continue
                for renewal in lease.renewals:
                    assert renewal.returned is not None
                    lives = renewal.invoke + int(lease.ttl * _SECOND * (1 - slack))
                    if renewal.returned < batch.time < lives:
                        early = (lives - batch.time) / _SECOND
                        return (
                            f"the key {event.kv.key!r} was seen deleted {early:.3f} s before its lease of "
                            f"{lease.ttl} s could end",
                            (lease.grant, renewal),
                        )
    return None


def _counted(header: Header, last: int, wait: int) -> int:
    """When leaders have counted ``wait`` since ``last``, each but for what taking office may have cost."""
    cost = int(header.handover_seconds * _SECOND)
    begin, left = last, wait
    for office in header.offices:
        if office > begin:
            counted = max(0, office - begin - cost)
            if counted >= left:
                break
            left -= counted
            begin = office
    return begin + cost + left


def _late(history: History, leases: dict[int, _Lease], bound_seconds: float) -> _Broken | None:
    healed = history.header.healed
    if not healed:
        return None
    by_key = {lease.key: lease for lease in leases.values() if lease.key}
    for read in history.operations:
        if read.f != "get" or read.outcome != "ok" or read.serializable or read.at:
            continue
        for kv in getattr(read.result, "kvs", ()):
            lease = by_key.get(kv.key)
            if lease is None:
                continue
            last = max((o.returned or o.invoke) for o in lease.attempts)
            wait = int((lease.ttl + bound_seconds) * _SECOND)
            header = history.header
            end = _counted(header, last, wait) if header.handover_seconds else max(healed, last) + wait
            if read.invoke > end:
                late = (read.invoke - end) / _SECOND
                return (
                    f"the key {kv.key!r} was still there {late:.3f} s after its lease of {lease.ttl} s "
                    f"and the bound of {bound_seconds:g} s had passed",
                    (lease.grant, lease.attempts[-1], read),
                )
    return None
