"""Moving the leader: ``Maintenance.MoveLeader``, a unary method that waits until the other member leads."""

from __future__ import annotations

from typing import Final

from tercet.core import rpc_errors
from tercet.core.rpc_errors import RpcUnknown, Status
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...config import MemberConfig
from ...world import World
from ..call import StreamCall, StreamHandler
from .member import Member

__all__ = ["LeadershipService"]

POLL_SECONDS: Final = 0.01
TRANSFER_TOO_LONG: Final = RpcUnknown(
    Status.UNKNOWN, "etcdserver: request timed out, leader transfer took too long"
)


class LeadershipService:
    """The leader's side of moving it elsewhere; served as a stream, so that it ends with its client."""

    def __init__(self, world: World, member: Member, config: MemberConfig) -> None:
        self._clock = world.clock
        self._member = member
        self._patience = 5 + 2 * config.election_timeout_ms / 1000

    def stream(self) -> dict[str, StreamHandler]:
        """The handlers by path."""
        return {"/etcdserverpb.Maintenance/MoveLeader": self.move_leader}

    async def move_leader(self, call: StreamCall) -> None:
        """Only the leader does it, only towards a voter; towards itself it is done."""
        target = rpc.MoveLeaderRequest.FromString(await call.receive() or b"").targetID
        member = self._member
        if not member.is_leader:
            raise rpc_errors.NOT_LEADER.with_traceback(None)
        found = member.machine.members.get(target)
        if found is None or found.is_learner:
            raise rpc_errors.BAD_LEADER_TRANSFEREE.with_traceback(None)
        if target != member.member_id:
            member.transfer_leadership(target)
            with self._clock.timeout(self._patience):
                while member.leader_id != target:
                    await self._clock.sleep(POLL_SECONDS)
            if member.leader_id != target:
                raise TRANSFER_TOO_LONG.with_traceback(None)
        await call.send(b"")
