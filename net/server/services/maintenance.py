"""The Maintenance service: status, alarms, hashes, snapshots."""

from __future__ import annotations

from functools import partial

from tercet.core.machine import Command, Machine, Outcome
from tercet.core.mvcc.checks import check_compaction
from tercet.core.mvcc.hashing import hash_in_pages, hash_is_long
from tercet.core.mvcc.pages import Steps
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...config import MemberConfig
from ...turns import Turns, restarting
from ...world import World
from ..call import StreamCall, StreamHandler, UnaryCall, UnaryHandler
from .downgrade import Downgrades
from .member import Answers, Member
from .snapshots import Snapshots, open_view

__all__ = ["MaintenanceService", "database_bytes"]

_SERVICE = "etcdserverpb.Maintenance"
_ALARM_NAMES: dict[int, str] = {number: name for name, number in rpc.AlarmType.items()}


def database_bytes(member: Member) -> int:
    """What the database takes on the disk."""
    return member.database_size()[0]


class MaintenanceService:
    """``etcdserverpb.Maintenance`` of one member."""

    def __init__(
        self, world: World, member: Member, answers: Answers, config: MemberConfig, turns: Turns
    ) -> None:
        self._member = member
        self._turns = turns
        self._answers = answers
        self._config = config
        self._snapshots = Snapshots(partial(open_view, world, member), answers)

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {
            f"/{_SERVICE}/Status": self.status,
            f"/{_SERVICE}/Alarm": self.alarm,
            f"/{_SERVICE}/HashKV": self.hash_kv,
            f"/{_SERVICE}/Downgrade": Downgrades(self._member, self._answers).downgrade,
        }

    def stream(self) -> dict[str, StreamHandler]:
        """The streaming handlers by path."""
        return {
            f"/{_SERVICE}/Snapshot": self._snapshots.snapshot,
            f"/{_SERVICE}/Hash": self._snapshots.hash,  # one answer, as of the next, which takes its time
            f"/{_SERVICE}/Defragment": self.defragment,
        }

    def status(self, call: UnaryCall) -> None:
        """This member's own view, with or without a leader."""
        member = self._member
        machine = member.machine
        errors = [] if member.leader_id else ["etcdserver: no leader"]
        for alarm in machine.alarms:
            errors.append(f"memberID:{alarm.member} alarm:{_ALARM_NAMES.get(alarm.kind, str(alarm.kind))} ")
        size, size_in_use = member.database_size()
        response = rpc.StatusResponse(
            version=self._config.reported_version,
            dbSize=size,
            leader=member.leader_id,
            raftIndex=member.commit_index,
            raftTerm=member.term,
            raftAppliedIndex=member.applied_index,
            errors=errors,
            dbSizeInUse=size_in_use,
            isLearner=member.is_learner,
        )
        self._answers.reply(call, machine.revision, response.SerializeToString())

    def alarm(self, call: UnaryCall) -> None:
        """All alarm requests go through the log, also the questions."""
        rpc.AlarmRequest.FromString(call.message)
        self._member.propose(Command.ALARM, call.message, partial(_finish_bare, call), call.deadline)

    async def defragment(self, call: StreamCall) -> None:
        """Give the holes in this member's file back; reads and writes go on meanwhile."""
        rpc.DefragmentRequest.FromString(await call.receive() or b"")
        if self._member.keeper is not None:
            await self._member.keeper.defragment()
        await call.send(b"")

    def hash_kv(self, call: UnaryCall) -> None:
        """The hash of the keys' history up to a revision, the same number as etcd's."""
        request = rpc.HashKVRequest.FromString(call.message)
        steps = restarting(
            lambda: self._member.machine, lambda machine: _hash_history(machine, request.revision)
        )
        self._turns.start(
            call, steps, lambda answer: self._answers.reply(call, *answer),
            at_once=not hash_is_long(self._member.machine.store),
        )


def _hash_history(machine: Machine, asked: int) -> Steps[tuple[int, bytes]]:
    """The newest revision, and the body of the response; of the state at the first step."""
    store = machine.store
    newest, compacted = store.revision, store.compacted
    if asked > 0:
        error = check_compaction(asked, compacted, newest)
        if error is not None:
            raise error.with_traceback(None)
    hashed = yield from hash_in_pages(store, asked if asked > 0 else newest)
    return newest, rpc.HashKVResponse(hash=hashed, compact_revision=compacted).SerializeToString()


def _finish_bare(call: UnaryCall, outcome: Outcome | RpcError) -> None:
    """Answer without a header, as etcd 3.4 does for alarms."""
    error = outcome.error if isinstance(outcome, Outcome) else outcome
    if isinstance(outcome, Outcome) and error is None:
        call.reply(outcome.body)
    elif error is not None:
        call.fail(error.code, error.message)
