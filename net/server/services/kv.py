"""The KV service: reads at a linearizable point or at once, writes through the log.

What a request can be refused for without the state is checked here, before it is proposed; the rest when
its entry is applied. The client's bytes go into the log as they came.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tercet.core.machine import Command
from tercet.core.mvcc.checks import check_delete, check_put, check_range, check_txn
from tercet.core.mvcc.evaluate import is_read_only
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..call import UnaryCall, UnaryHandler
from .member import Answers, Member

__all__ = ["KvService"]

R = TypeVar("R")

_parse_range = rpc.RangeRequest.FromString
_parse_put = rpc.PutRequest.FromString


class KvService:
    """``etcdserverpb.KV`` of one member. ``max_txn_ops`` bounds each list of a transaction."""

    def __init__(self, member: Member, answers: Answers, *, max_txn_ops: int) -> None:
        self._member = member
        self._answers = answers
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
            self._read(call, self._range_body, request, None)
        else:
            member.read_index(partial(self._read, call, self._range_body, request), call.deadline)

    def put(self, call: UnaryCall) -> None:
        error = check_put(_parse_put(call.message))
        self._propose(call, Command.PUT, error)

    def delete_range(self, call: UnaryCall) -> None:
        error = check_delete(rpc.DeleteRangeRequest.FromString(call.message))
        self._propose(call, Command.DELETE_RANGE, error)

    def txn(self, call: UnaryCall) -> None:
        """A transaction that only reads needs no place in the log."""
        request = rpc.TxnRequest.FromString(call.message)
        error = check_txn(request, self._max_txn_ops)
        if error is not None or not is_read_only(request):
            self._propose(call, Command.TXN, error)
        elif self._answers.refuse_without_leader(call):
            return
        elif _is_serializable(request):
            self._read(call, self._txn_body, request, None)
        else:
            self._member.read_index(partial(self._read, call, self._txn_body, request), call.deadline)

    def compact(self, call: UnaryCall) -> None:
        rpc.CompactionRequest.FromString(call.message)
        self._propose(call, Command.COMPACTION, None)

    def _propose(self, call: UnaryCall, kind: Command, error: RpcError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
            return
        member = self._member
        if not member.leader_id and self._answers.refuse_without_leader(call):
            return
        member.propose(kind, call.message, partial(self._finish, call), call.deadline)

    def _read(
        self, call: UnaryCall, read: Callable[[R], tuple[int, bytes]], request: R, error: RpcError | None
    ) -> None:
        """Read and answer; called with None once the read point is reached, else with what prevented it."""
        if error is None:
            try:
                revision, body = read(request)
            except RpcError as refused:
                error = refused
            else:
                self._answers.reply(call, revision, body)
                return
        call.fail(error.code, error.message)

    def _range_body(self, request: rpc.RangeRequest) -> tuple[int, bytes]:
        return self._member.machine.range(request)

    def _txn_body(self, request: rpc.TxnRequest) -> tuple[int, bytes]:
        return self._member.machine.read_txn(request)


def _is_serializable(request: rpc.TxnRequest) -> bool:
    operations = (*request.success, *request.failure)
    return all(
        operation.WhichOneof("request") == "request_range" and operation.request_range.serializable
        for operation in operations
    )
