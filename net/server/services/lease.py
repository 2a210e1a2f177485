"""The Lease service: grants and revocations through the log, time from the leader.

A lease id that the client leaves open is drawn here, before the grant is proposed, from 2**62 to 2**63 - 1;
a TTL below the minimum is raised here, too, so that every member applies the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from tercet.core import rpc_errors
from tercet.core.auth.permits import check_keys
from tercet.core.auth.store import AuthStore
from tercet.core.auth.values import READ, Identity
from tercet.core.lease.lessor import MAX_TTL, minimum_ttl
from tercet.core.machine import Command, Outcome
from tercet.core.mvcc.steps import Steps
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...auth import Guard
from ...leases import LeaseKeeper
from ...quota import LEASE_COST, Quota
from ...turns import Turns
from ...world import World
from ..call import StreamCall, StreamHandler, UnaryCall, UnaryHandler
from .leader_calls import LeaderCalls
from .member import Answers, Member

__all__ = ["LeaseService"]

_LISTED_IN_A_TURN = 5_000


class LeaseService:
    """``etcdserverpb.Lease`` of one member."""

    def __init__(
        self,
        world: World,
        member: Member,
        answers: Answers,
        guard: Guard,
        keeper: LeaseKeeper,
        leader: LeaderCalls,
        quota: Quota,
        turns: Turns,
        *,
        election_timeout_ms: int,
    ) -> None:
        self._member = member
        self._turns = turns
        self._answers = answers
        self._guard = guard
        self._keeper = keeper
        self._leader = leader
        self._quota = quota
        self._ids = world.rng.stream("lease-ids")
        self._minimum = minimum_ttl(election_timeout_ms)

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {
            "/etcdserverpb.Lease/LeaseGrant": self.grant,
            "/etcdserverpb.Lease/LeaseRevoke": self.revoke,
            "/etcdserverpb.Lease/LeaseTimeToLive": self.time_to_live,
            "/etcdserverpb.Lease/LeaseLeases": self.leases,
        }

    def stream(self) -> dict[str, StreamHandler]:
        """The streaming handlers by path."""
        return {"/etcdserverpb.Lease/LeaseKeepAlive": self.keep_alive}

    def grant(self, call: UnaryCall) -> None:
        request = rpc.LeaseGrantRequest.FromString(call.message)
        if self._answers.refuse_without_leader(call):
            return
        if request.TTL > MAX_TTL:
            call.fail(rpc_errors.LEASE_TTL_TOO_LARGE.code, rpc_errors.LEASE_TTL_TOO_LARGE.message)
            return
        if self._quota.tight and self._quota.refuse(
            LEASE_COST, lambda error: call.fail(error.code, error.message)
        ):
            return
        request.TTL = max(request.TTL, self._minimum)
        chosen_here = not request.ID
        while not request.ID or (chosen_here and request.ID in self._member.machine.lessor):
            request.ID = 1 << 62 | self._ids.getrandbits(62)  # always 16 hexadecimal digits
        payload = request.SerializeToString()
        self._member.propose(Command.LEASE_GRANT, payload, partial(self._granted, call), call.deadline)

    def _granted(self, call: UnaryCall, outcome: Outcome | RpcError) -> None:
        self._answers.finish(call, outcome)
        self._keeper.notice_grant()

    def revoke(self, call: UnaryCall) -> None:
        rpc.LeaseRevokeRequest.FromString(call.message)
        if not self._answers.refuse_without_leader(call):
            done = partial(self._answers.finish, call)
            self._guard.propose(call, Command.LEASE_REVOKE, call.message, done)

    def leases(self, call: UnaryCall) -> None:
        rpc.LeaseLeasesRequest.FromString(call.message)
        self._member.read_index(partial(self._list, call), call.deadline)

    def _list(self, call: UnaryCall, error: RpcError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
            return
        machine = self._member.machine
        ids = self._keeper.ids()
        revision = machine.revision
        self._turns.start(
            call, _listed(ids), lambda parts: self._answers.reply_in_parts(call, revision, parts),
            at_once=len(ids) <= _LISTED_IN_A_TURN,
        )

    def time_to_live(self, call: UnaryCall) -> None:
        """The leader knows; its answer gets this member's header. Keys are shown to who may read them all."""
        rpc.LeaseTimeToLiveRequest.FromString(call.message)
        if not self._answers.refuse_without_leader(call):
            self._leader.ask("lease/time-to-live", call.message, partial(self._told, call), call.deadline)

    def _told(self, call: UnaryCall, answer: bytes | RpcError) -> None:
        if isinstance(answer, RpcError):
            call.fail(answer.code, answer.message)
        elif self._guard.on and rpc.LeaseTimeToLiveRequest.FromString(call.message).keys:
            keys = rpc.LeaseTimeToLiveResponse.FromString(answer).keys
            self._guard.check(call, partial(_refuse_keys, keys), partial(self._tell, call, answer))
        else:
            self._tell(call, answer)

    def _tell(self, call: UnaryCall, answer: bytes) -> None:
        self._answers.reply(call, self._member.machine.revision, answer)

    async def keep_alive(self, call: StreamCall) -> None:
        """Answer each request in turn; ends when the client has half-closed and everything is answered."""
        while (message := await call.receive()) is not None:
            rpc.LeaseKeepAliveRequest.FromString(message)
            if not self._member.leader_id and call.metadata.get("hasleader") == "true":
                raise rpc_errors.NO_LEADER.with_traceback(None)
            answer = await self._leader.wait("lease/renew", message)
            await call.send(self._answers.header(self._member.machine.revision) + answer)


def _listed(ids: Sequence[int]) -> Steps[list[bytes]]:
    """The body of a ``LeaseLeasesResponse``, in parts."""
    parts: list[bytes] = []
    for start in range(0, len(ids), _LISTED_IN_A_TURN):
        page = [rpc.LeaseStatus(ID=lease_id) for lease_id in ids[start : start + _LISTED_IN_A_TURN]]
        parts.append(rpc.LeaseLeasesResponse(leases=page).SerializeToString())
        yield
    return parts


def _refuse_keys(keys: Iterable[bytes], auth: AuthStore, who: Identity) -> RpcError | None:
    """Refuse who may not read every one of ``keys``."""
    for key in keys:
        error = check_keys(auth, who, key, b"", READ)
        if error is not None:
            return error
    return None
