"""The leader's half of leases: when each one ends, by the leader's own clock.

Only a leader counts. On taking office it gives every lease its remaining time anew, and an election timeout
on top, so that a client that renewed just before the change is not punished; on losing office it forgets
all deadlines. What has run out is proposed as ``LEASE_EXPIRE`` with the leader's term; the entry counts
only in that term, so a leader that was replaced without knowing cannot end what its successor renewed. For
the same reason a renewal is promised only after a read point has confirmed the leadership.

With checkpoints on, long leases tell through the log how much of them is left, so that changing leaders more
often than a lease lasts does not keep it alive for ever. Off is etcd's default: a new leader starts each
lease's whole time anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil
from typing import Protocol

import trio

from tercet.core import rpc_errors
from tercet.core.lease.deadlines import Deadlines
from tercet.core.machine import Command, Machine, Outcome
from tercet.core.raft.types import SoftState
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc

from .world import World

__all__ = ["LeaseKeeper", "LeaseMember"]

_SWEEP_SECONDS = 0.5
_SWEEP_SECONDS_MIN = 0.05
_EXPIRED_PER_SWEEP = 500  # when more have run out at once, 1,000 a second, as etcd's default
_CHECKPOINTS_PER_SWEEP = 1000


class LeaseMember(Protocol):
    """The part of ``net.node.Node`` that counting leases needs."""

    machine: Machine
    term: int
    leader_id: int
    on_soft_state: list[Callable[[SoftState], None]]
    calls: dict[str, Callable[[bytes], Awaitable[bytes]]]

    @property
    def is_leader(self) -> bool: ...

    def propose(
        self,
        kind: int,
        payload: bytes,
        done: Callable[[Outcome | RpcError], None],
        deadline: float | None = None,
    ) -> None: ...

    def read_index(self, done: Callable[[RpcError | None], None], deadline: float | None = None) -> None: ...


class LeaseKeeper:
    """Counts the leases of one member while it leads, and answers how long they last.

    Args:
        election_timeout: seconds; what a lease gets on top when this member becomes leader.
        checkpoint_interval: seconds after which to replicate what is left of leases that last longer than
            that; None: never.
    """

    def __init__(
        self,
        world: World,
        member: LeaseMember,
        *,
        election_timeout: float,
        checkpoint_interval: float | None = None,
    ) -> None:
        self._clock = world.clock
        self._member = member
        self._grace = election_timeout
        self._checkpoint_interval = checkpoint_interval
        self._deadlines = Deadlines()
        self._term = 0  # the term in which we count; 0: we do not lead
        self._expiring: dict[int, None] = {}
        self._checkpointing: dict[int, None] = {}  # leases whose checkpoint is on its way through the log
        self._next_checkpoint = 0.0
        self.renewals = 0  # promised by this member as leader
        self.expired = 0  # leases that this member has ended as leader
        member.calls["lease/renew"] = self._answer_renew
        member.calls["lease/time-to-live"] = self._answer_time_to_live
        member.on_soft_state.append(lambda _: self._follow_role())
        self._follow_role()

    async def run(self) -> None:
        """Propose the end of leases that have run out; until cancelled."""
        while True:
            await self._clock.sleep(self._until_sweep())
            if self._counting():
                self._expire()
                if self._checkpoint_interval is not None:
                    self._checkpoint(self._checkpoint_interval)

    def _until_sweep(self) -> float:
        """Seconds: until the next lease ends, but for those whose end is under way, within the bounds."""
        end = self._deadlines.next_end() if self._term else None
        left = _SWEEP_SECONDS if end is None else end - self._clock.monotonic()
        return _SWEEP_SECONDS if left <= 0 else min(max(left, _SWEEP_SECONDS_MIN), _SWEEP_SECONDS)

    async def renew(self, lease_id: int) -> int:
        """Start a lease's time anew; only on the leader.

        Returns:
            The lease's TTL in seconds; 0 when there is no such lease.

        Raises:
            RpcError: this member does not lead, or could not make sure that it does.
        """
        self._require_counting()
        term = self._term
        if self._has_checkpoint(lease_id):  # a successor must not count from it
            await self._clear_checkpoint(lease_id)
        await _read_point(self._member)
        if not self._counting() or self._term != term or self._has_checkpoint(lease_id):
            raise rpc_errors.NOT_LEADER.with_traceback(None)
        lease = self._member.machine.lessor.get(lease_id)
        end = self._deadlines.get(lease_id)
        now = self._clock.monotonic()
        if lease is None or end is None or end <= now:
            return 0
        self._deadlines.set(lease_id, now + lease.ttl)
        self.renewals += 1
        return lease.ttl

    def remaining(self, lease_id: int) -> int | None:
        """Whole seconds until the lease ends; None when there is none, or it has run out. Only on the leader.

        Raises:
            RpcError: NOT_LEADER.
        """
        self._require_counting()
        end = self._deadlines.get(lease_id)
        left = -1.0 if end is None else end - self._clock.monotonic()
        lease = self._member.machine.lessor.get(lease_id)
        return min(int(left), lease.ttl) if left > 0 and lease is not None else None

    def ids(self) -> list[int]:
        """All leases: on the leader by their ends, on others by id."""
        self._counting()
        return self._deadlines.in_order(lease.id for lease in self._member.machine.lessor)

    def notice_grant(self) -> None:
        """A lease may have been granted: count from now, not from the next sweep."""
        self._counting()

    def _require_counting(self) -> None:
        if not self._counting():
            raise rpc_errors.NOT_LEADER.with_traceback(None)

    def _counting(self) -> bool:
        """Bring the deadlines up to date; False when this member does not lead."""
        self._follow_role()
        if not self._term:
            return False
        lessor = self._member.machine.lessor
        now = self._clock.monotonic()
        for lease in lessor.take_granted():
            self._deadlines.set(lease.id, now + lease.ttl)
        return True

    def _follow_role(self) -> None:
        """Count from the moment on when everything is applied that earlier leaders may have promised."""
        member = self._member
        term = member.term if member.is_leader and member.machine.applied_term >= member.term else 0
        if term == self._term:
            return
        self._term = term
        self._deadlines.clear()
        self._expiring.clear()
        self._checkpointing.clear()
        if not term:
            return
        now = self._clock.monotonic()
        self._next_checkpoint = now + (self._checkpoint_interval or 0.0)
        lessor = self._member.machine.lessor
        own = lessor.take_granted(term)  # under this very leadership: nobody else has promised them anything
        for lease in lessor:
            self._deadlines.set(lease.id, now + (lease.remaining or lease.ttl) + self._grace)
        for lease in own:
            self._deadlines.set(lease.id, now + lease.ttl)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        for lease_id in self._deadlines.due(now, _EXPIRED_PER_SWEEP):
            if lease_id not in self._member.machine.lessor:
                self._deadlines.drop(lease_id)
            elif lease_id not in self._expiring:
                self._expiring[lease_id] = None
                request = internal.LeaseExpire(ID=lease_id, term=self._term)
                self._member.propose(
                    Command.LEASE_EXPIRE, request.SerializeToString(), self._expiry_done(lease_id, self._term)
                )

    def _expiry_done(self, lease_id: int, term: int) -> Callable[[Outcome | RpcError], None]:
        def done(outcome: Outcome | RpcError) -> None:
            ended = isinstance(outcome, Outcome) and outcome.error is None
            self.expired += ended
            if self._term != term:
                return
            self._expiring.pop(lease_id, None)
            if ended:
                self._deadlines.drop(lease_id)

        return done

    def _checkpoint(self, interval: float) -> None:
        now = self._clock.monotonic()
        if now < self._next_checkpoint:
            return
        self._next_checkpoint = now + interval
        batch: list[rpc.LeaseCheckpoint] = []
        for lease in self._member.machine.lessor:
            end = self._deadlines.get(lease.id)
            if end is None or lease.ttl <= interval or end <= now:
                continue
            left = ceil(end - now)
            if left < (lease.remaining or lease.ttl):
                batch.append(rpc.LeaseCheckpoint(ID=lease.id, remaining_TTL=left))
        for start in range(0, len(batch), _CHECKPOINTS_PER_SWEEP):
            self._propose_checkpoints(batch[start : start + _CHECKPOINTS_PER_SWEEP])

    def _propose_checkpoints(self, checkpoints: list[rpc.LeaseCheckpoint]) -> None:
        """A lost checkpoint is made again in time."""
        leases = [checkpoint.ID for checkpoint in checkpoints]
        self._checkpointing.update(dict.fromkeys(leases))
        term = self._term

        def done(_: Outcome | RpcError) -> None:
            if self._term == term:
                for lease_id in leases:
                    self._checkpointing.pop(lease_id, None)

        payload = rpc.LeaseCheckpointRequest(checkpoints=checkpoints).SerializeToString()
        self._member.propose(Command.LEASE_CHECKPOINT, payload, done)

    def _has_checkpoint(self, lease_id: int) -> bool:
        lease = self._member.machine.lessor.get(lease_id)
        return lease is not None and (bool(lease.remaining) or lease_id in self._checkpointing)

    async def _clear_checkpoint(self, lease_id: int) -> None:
        """Have the whole TTL count again, on every member; raises ``RpcError``."""
        finished = trio.Event()
        failed: list[RpcError] = []

        def done(outcome: Outcome | RpcError) -> None:
            error = outcome.error if isinstance(outcome, Outcome) else outcome
            if error is not None:
                failed.append(error)
            finished.set()

        checkpoint = rpc.LeaseCheckpoint(ID=lease_id, remaining_TTL=0)
        payload = rpc.LeaseCheckpointRequest(checkpoints=[checkpoint]).SerializeToString()
        self._member.propose(Command.LEASE_CHECKPOINT, payload, done)
        await finished.wait()
        if failed:
            raise failed[0].with_traceback(None)
        self._checkpointing.pop(lease_id, None)  # if it was on its way, it came before

    # ---- what other members ask the leader

    async def _answer_renew(self, payload: bytes) -> bytes:
        lease_id = rpc.LeaseKeepAliveRequest.FromString(payload).ID
        ttl = await self.renew(lease_id)
        return rpc.LeaseKeepAliveResponse(ID=lease_id, TTL=ttl).SerializeToString()

    async def _answer_time_to_live(self, payload: bytes) -> bytes:
        request = rpc.LeaseTimeToLiveRequest.FromString(payload)
        self._require_counting()
        await _read_point(self._member)
        left = self.remaining(request.ID)
        lease = self._member.machine.lessor.get(request.ID)
        if left is None or lease is None:
            return rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1).SerializeToString()
        keys = sorted(lease.keys) if request.keys else []
        answer = rpc.LeaseTimeToLiveResponse(ID=request.ID, TTL=left, grantedTTL=lease.ttl, keys=keys)
        return answer.SerializeToString()


async def _read_point(member: LeaseMember) -> None:
    """Wait for a linearizable read point; raises ``RpcError`` when there is none in time."""
    reached = trio.Event()
    failed: list[RpcError] = []

    def done(error: RpcError | None) -> None:
        if error is not None:
            failed.append(error)
        reached.set()

    member.read_index(done)
    await reached.wait()
    if failed:
        raise failed[0].with_traceback(None)
