"""The Maintenance service: status, alarms and hashes. Snapshots and moving the leader are not offered yet."""

from __future__ import annotations

from functools import partial

import google_crc32c

from tercet.core import rpc_errors
from tercet.core.machine import Command, Outcome
from tercet.core.mvcc.checks import check_compaction
from tercet.core.mvcc.hashing import hash_history
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...config import MemberConfig
from ..call import StreamHandler, UnaryCall, UnaryHandler
from .member import Answers, Member
from .missing import not_offered, stream_not_offered

__all__ = ["MaintenanceService", "database_bytes"]

_SERVICE = "etcdserverpb.Maintenance"
_PAGE_BYTES = 4096
_MOVE_LEADER = not_offered(_SERVICE, "MoveLeader")
_ALARM_NAMES: dict[int, str] = {number: name for name, number in rpc.AlarmType.items()}


def database_bytes(member: Member) -> int:
    """What the store holds, in whole pages, at least one."""
    return (member.machine.store.data_bytes // _PAGE_BYTES + 1) * _PAGE_BYTES


class MaintenanceService:
    """``etcdserverpb.Maintenance`` of one member."""

    def __init__(self, member: Member, answers: Answers, config: MemberConfig) -> None:
        self._member = member
        self._answers = answers
        self._config = config

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {
            f"/{_SERVICE}/Status": self.status,
            f"/{_SERVICE}/Alarm": self.alarm,
            f"/{_SERVICE}/Defragment": self.defragment,
            f"/{_SERVICE}/Hash": self.hash,
            f"/{_SERVICE}/HashKV": self.hash_kv,
            f"/{_SERVICE}/MoveLeader": self.move_leader,
            f"/{_SERVICE}/Downgrade": not_offered(_SERVICE, "Downgrade"),
        }

    def stream(self) -> dict[str, StreamHandler]:
        """The streaming handlers by path."""
        return {f"/{_SERVICE}/Snapshot": stream_not_offered(_SERVICE, "Snapshot")}

    def status(self, call: UnaryCall) -> None:
        """This member's own view, with or without a leader."""
        member = self._member
        machine = member.machine
        errors = [] if member.leader_id else ["etcdserver: no leader"]
        for alarm in machine.alarms:
            errors.append(f"memberID:{alarm.member} alarm:{_ALARM_NAMES.get(alarm.kind, str(alarm.kind))} ")
        size = database_bytes(member)
        response = rpc.StatusResponse(
            version=self._config.reported_version,
            dbSize=size,
            leader=member.leader_id,
            raftIndex=member.commit_index,
            raftTerm=member.term,
            raftAppliedIndex=member.applied_index,
            errors=errors,
            dbSizeInUse=size,
        )
        self._answers.reply(call, machine.revision, response.SerializeToString())

    def alarm(self, call: UnaryCall) -> None:
        """All alarm requests go through the log, also the questions."""
        rpc.AlarmRequest.FromString(call.message)
        self._member.propose(Command.ALARM, call.message, partial(_finish_bare, call), call.deadline)

    def defragment(self, call: UnaryCall) -> None:
        """Nothing to do: the store has no file with holes."""
        rpc.DefragmentRequest.FromString(call.message)
        call.reply(b"")

    def hash(self, call: UnaryCall) -> None:
        """A hash over all that is replicated; members agree at the same applied index."""
        rpc.HashRequest.FromString(call.message)
        machine = self._member.machine
        response = rpc.HashResponse(hash=google_crc32c.value(machine.digest()))
        self._answers.reply(call, machine.revision, response.SerializeToString())

    def hash_kv(self, call: UnaryCall) -> None:
        """The hash of the keys' history up to a revision, the same number as etcd's."""
        request = rpc.HashKVRequest.FromString(call.message)
        store = self._member.machine.store
        revision = request.revision if request.revision > 0 else store.revision
        if request.revision > 0:
            error = check_compaction(revision, store.compacted, store.revision)
            if error is not None:
                call.fail(error.code, error.message)
                return
        response = rpc.HashKVResponse(hash=hash_history(store, revision), compact_revision=store.compacted)
        self._answers.reply(call, store.revision, response.SerializeToString())

    def move_leader(self, call: UnaryCall) -> None:
        """Only the leader, only to a member; to itself it is done. A real transfer is not offered yet."""
        target = rpc.MoveLeaderRequest.FromString(call.message).targetID
        if not self._member.is_leader:
            raise rpc_errors.NOT_LEADER.with_traceback(None)
        if all(target != known for known, _, _ in self._config.members()):
            raise rpc_errors.BAD_LEADER_TRANSFEREE.with_traceback(None)
        if target == self._member.member_id:
            call.reply(b"")
        else:
            _MOVE_LEADER(call)


def _finish_bare(call: UnaryCall, outcome: Outcome | RpcError) -> None:
    """Answer without a header, as etcd 3.4 does for alarms."""
    error = outcome.error if isinstance(outcome, Outcome) else outcome
    if isinstance(outcome, Outcome) and error is None:
        call.reply(outcome.body)
    elif error is not None:
        call.fail(error.code, error.message)
