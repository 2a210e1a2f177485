"""The KV service: reads at a linearizable point or at once, writes through the log.

What a request can be refused for without the state is checked here, before it is proposed; the rest when
its entry is applied. The client's bytes go into the log as they came.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from tercet.core.auth.permits import check_range as check_range_permission
from tercet.core.auth.permits import check_txn as check_txn_permission
from tercet.core.auth.store import AuthStore
from tercet.core.auth.values import Identity
from tercet.core.machine import Command, Machine, Outcome
from tercet.core.mvcc.checks import check_delete, check_put, check_range, check_txn
from tercet.core.mvcc.evaluate import is_read_only
from tercet.core.mvcc.steps import Steps
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...auth import Guard
from ...quota import Quota, put_cost, txn_cost
from ...turns import Turns, restarting
from ..call import UnaryCall, UnaryHandler
from .member import Answers, Member, ProposalDone

__all__ = ["KvService"]

Read: TypeAlias = rpc.RangeRequest | rpc.TxnRequest

_parse_range = rpc.RangeRequest.FromString
_parse_put = rpc.PutRequest.FromString


def _fail(call: UnaryCall, error: RpcError) -> None:
    call.fail(error.code, error.message)


class KvService:
    """``etcdserverpb.KV`` of one member. ``max_txn_ops`` bounds each list of a transaction."""

    def __init__(
        self, member: Member, answers: Answers, guard: Guard, quota: Quota, turns: Turns, *, max_txn_ops: int
    ) -> None:
        self._turns = turns
        self._quota = quota
        self._member = member
        self._answers = answers
        self._guard = guard
        self._max_txn_ops = max_txn_ops
        self._finish = answers.finish

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {
            "/etcdserverpb.KV/Range": self.range,
            "/etcdserverpb.KV/Put": self.put,
            "/etcdserverpb.KV/DeleteRange": self.delete_range,
            "/etcdserverpb.KV/Txn": self.txn,
            "/etcdserverpb.KV/Compact": self.compact,
        }

    def range(self, call: UnaryCall) -> None:
        """Serializable: from this member's state as it is. Otherwise after a linearizable read point."""
        request = _parse_range(call.message)
        error = check_range(request)
        if error is not None:
            call.fail(error.code, error.message)
            return
        member = self._member
        if not member.leader_id and self._answers.refuse_without_leader(call):
            return
        if request.serializable:
            self._read(call, request, None)
        else:
            member.read_index(partial(self._read, call, request), call.deadline)

    def put(self, call: UnaryCall) -> None:
        request = _parse_put(call.message)
        error = check_put(request)
        quota = self._quota
        if quota.tight and error is None and quota.refuse(put_cost(request), partial(_fail, call)):
            return
        self._propose(call, Command.PUT, error)

    def delete_range(self, call: UnaryCall) -> None:
        error = check_delete(rpc.DeleteRangeRequest.FromString(call.message))
        self._propose(call, Command.DELETE_RANGE, error)

    def txn(self, call: UnaryCall) -> None:
        """A transaction that only reads needs no place in the log."""
        request = rpc.TxnRequest.FromString(call.message)
        error = check_txn(request, self._max_txn_ops)
        if error is not None or not is_read_only(request):
            tight = error is None and self._quota.tight
            if tight and self._quota.refuse(txn_cost(request), partial(_fail, call)):
                return
            self._propose(call, Command.TXN, error)
        elif self._answers.refuse_without_leader(call):
            return
        elif _is_serializable(request):
            self._read(call, request, None)
        else:
            self._member.read_index(partial(self._read, call, request), call.deadline)

    def compact(self, call: UnaryCall) -> None:
        """Answered once nothing before the revision can be seen, a physical one once it is dropped."""
        request = rpc.CompactionRequest.FromString(call.message)
        keeper = self._member.keeper
        if not request.physical or keeper is None:
            self._propose(call, Command.COMPACTION, None)
            return

        def done(outcome: Outcome | RpcError) -> None:
            keeper.when_scrubbed(partial(self._finish, call, outcome))

        self._propose(call, Command.COMPACTION, None, done)

    def _propose(
        self, call: UnaryCall, kind: Command, error: RpcError | None, done: ProposalDone | None = None
    ) -> None:
        if error is not None:
            call.fail(error.code, error.message)
            return
        member = self._member
        if not member.leader_id and self._answers.refuse_without_leader(call):
            return
        metadata = call.metadata  # spelled out as in ``Guard.concerns``: this is the busiest line of all
        if member.machine.auth.enabled or "token" in metadata or "authorization" in metadata:
            self._guard.propose(call, kind, call.message, done or partial(self._finish, call))
        else:
            member.propose(kind, call.message, done or partial(self._finish, call), call.deadline)

    def _read(self, call: UnaryCall, request: Read, error: RpcError | None) -> None:
        """Read and answer; called with None once the read point is reached, else with what prevented it."""
        if error is None:
            if self._guard.concerns(call):
                permission = partial(self._permission, request)
                self._guard.check(call, permission, partial(self._reply, call, request))
            else:
                self._reply(call, request)
        else:
            call.fail(error.code, error.message)

    def _permission(self, request: Read, auth: AuthStore, who: Identity) -> RpcError | None:
        if isinstance(request, rpc.RangeRequest):
            return check_range_permission(auth, who, request)
        return check_txn_permission(auth, who, request)

    def _reply(self, call: UnaryCall, request: Read) -> None:
        """Answer from the state as it is: a short range at once, anything else in turns if it takes long."""
        machine = self._member.machine
        if isinstance(request, rpc.TxnRequest):
            self._reply_in_turns(call, lambda machine: machine.read_txn(request))
        elif machine.range_is_long(request):
            self._reply_in_turns(call, lambda machine: machine.range_in_pages(request))
        else:
            try:
                revision, body = machine.range(request)
            except RpcError as refused:
                call.fail(refused.code, refused.message)
            else:
                self._answers.reply(call, revision, body)

    def _reply_in_turns(
        self, call: UnaryCall, begin: Callable[[Machine], Steps[tuple[int, list[bytes]]]]
    ) -> None:
        steps = restarting(lambda: self._member.machine, begin)
        self._turns.start(call, steps, lambda result: self._answers.reply_in_parts(call, *result))


def _is_serializable(request: rpc.TxnRequest) -> bool:
    operations = (*request.success, *request.failure)
    return all(
        operation.WhichOneof("request") == "request_range" and operation.request_range.serializable
        for operation in operations
    )
