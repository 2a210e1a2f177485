"""The Maintenance service: status, alarms, hashes, snapshots."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tercet.core.machine import Command, Machine, Outcome
from tercet.core.mvcc.checks import check_compaction
from tercet.core.mvcc.hashing import hash_in_pages, hash_is_long
from tercet.core.mvcc.steps import Steps
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...auth import Guard
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
        self, world: World, member: Member, answers: Answers, guard: Guard, config: MemberConfig, turns: Turns
    ) -> None:
        self._world = world
        self._member = member
        self._turns = turns
        self._answers = answers
        self._config = config
        self._downgrades = Downgrades(member, answers, guard)
        self._snapshots = Snapshots(world, partial(open_view, world, member), answers)
        self.defragmenting = 0  # calls under way
        #: Called when one begins and when it ends.
        self.on_defragment: Callable[[bool], None] = lambda on: None

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {
            f"/{_SERVICE}/Status": self.status,
            f"/{_SERVICE}/Alarm": self.alarm,
            f"/{_SERVICE}/HashKV": self.hash_kv,
            f"/{_SERVICE}/Downgrade": self._downgrades.downgrade,
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
            clock, probe = self._world.clock, self._world.probe
            started = clock.monotonic()
            self.defragmenting += 1
            self.on_defragment(True)
            probe.gauge("etcd_disk_defrag_inflight", 1.0)
            try:
                await self._member.keeper.defragment()
            finally:
                self.defragmenting -= 1
                self.on_defragment(False)
                probe.gauge("etcd_disk_defrag_inflight", float(self.defragmenting > 0))
            probe.observe("etcd_disk_backend_defrag_duration_seconds", clock.monotonic() - started)
        await call.send(b"")

    def hash_kv(self, call: UnaryCall) -> None:
        """The hash of the keys' history up to a revision, the same number as etcd's."""
        request = rpc.HashKVRequest.FromString(call.message)
        clock, started = self._world.clock, self._world.clock.monotonic()

        def done(answer: tuple[int, bytes]) -> None:
            taken = clock.monotonic() - started
            self._world.probe.observe("etcd_mvcc_hash_rev_duration_seconds", taken)
            self._answers.reply(call, *answer)

        steps = restarting(
            lambda: self._member.machine, lambda machine: _hash_history(machine, request.revision)
        )
        self._turns.start(
            call, steps, done, at_once=not hash_is_long(self._member.machine.store)
        )


def _hash_history(machine: Machine, asked: int) -> Steps[tuple[int, bytes]]:
    """The newest revision, and the body of the response; of the state at the first step."""
    store = machine.store
    newest, compacted = store.revision, store.compacted
    if asked > 0:
        error = check_compaction(asked, compacted, newest)
        if error is not None:
            raise error.with_traceback(None)
    hashed = yield from hash_in_pages(store, asked or newest)
    return newest, rpc.HashKVResponse(hash=hashed, compact_revision=compacted).SerializeToString()


def _finish_bare(call: UnaryCall, outcome: Outcome | RpcError) -> None:
    """Answer without a header, as etcd 3.4 does for alarms."""
    error = outcome.error if isinstance(outcome, Outcome) else outcome
    if isinstance(outcome, Outcome) and error is None:
        call.reply(outcome.body)
    elif error is not None:
        call.fail(error.code, error.message)
