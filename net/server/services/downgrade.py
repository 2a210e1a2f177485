"""``Maintenance.Downgrade`` of etcd 3.5: the cluster's version goes down by one minor step.

ENABLE notes the target in the log, and the members may be replaced by older ones, one after the other. Once
the last of them reports the target's version, the leader sets the cluster's version and the job is done
(``net.versions``). CANCEL forgets the target. A target is judged as etcd judges it, from a state that is
up to date. With authentication on, changing anything is for administrators.
"""

from __future__ import annotations

from functools import partial

from tercet.core.machine import Command, Outcome
from tercet.core.rpc_errors import RpcError, RpcRejected, Status, unknown_request
from tercet.core.versions import minor_version
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...auth import Guard
from ..call import UnaryCall
from .member import Answers, Member

__all__ = ["Downgrades"]

_WRONG_FORMAT = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
_INVALID_TARGET = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
_NO_VERSION = RpcRejected(Status.UNAVAILABLE, "etcdserver: cluster version not found during downgrade")
_UNDER_WAY = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: cluster has a downgrade job in progress")
_NOT_UNDER_WAY = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")


class Downgrades:
    """The one method."""

    def __init__(self, member: Member, answers: Answers, guard: Guard) -> None:
        self._member = member
        self._answers = answers
        self._guard = guard

    def downgrade(self, call: UnaryCall) -> None:
        request = rpc.DowngradeRequest.FromString(call.message)
        kinds = rpc.DowngradeRequest
        if request.action not in (kinds.VALIDATE, kinds.ENABLE, kinds.CANCEL):
            error = unknown_request("etcdserver: unknown method")
            call.fail(error.code, error.message)
            return
        if request.action != kinds.CANCEL and minor_version(request.version) is None:
            call.fail(_WRONG_FORMAT.code, _WRONG_FORMAT.message)
            return
        then = partial(self._member.read_index, partial(self._decide, call, request), call.deadline)
        if request.action != kinds.VALIDATE and self._guard.on:
            self._guard.require_admin(call, then, plain=True)
        else:
            then()

    def _decide(self, call: UnaryCall, request: rpc.DowngradeRequest, error: RpcError | None) -> None:
        """The state is up to date, or cannot be known to be."""
        error = error or self._judge(request)
        if error is not None:
            call.fail(error.code, error.message)
        elif request.action == rpc.DowngradeRequest.VALIDATE:
            self._tell(call)
        else:
            wanted = minor_version(request.version)
            target = "" if request.action == rpc.DowngradeRequest.CANCEL or wanted is None else (
                f"{wanted[0]}.{wanted[1]}.0"
            )
            payload = internal.Downgrade(target=target).SerializeToString()
            self._member.propose(Command.DOWNGRADE, payload, partial(self._done, call), call.deadline)

    def _judge(self, request: rpc.DowngradeRequest) -> RpcError | None:
        machine = self._member.machine
        if request.action == rpc.DowngradeRequest.CANCEL:
            return None if machine.downgrade else _NOT_UNDER_WAY
        current = minor_version(machine.cluster_version)
        if current is None:
            return _NO_VERSION
        if minor_version(request.version) != (current[0], current[1] - 1):
            return _INVALID_TARGET
        return _UNDER_WAY if machine.downgrade else None

    def _done(self, call: UnaryCall, outcome: Outcome | RpcError) -> None:
        error = outcome.error if isinstance(outcome, Outcome) else outcome
        if error is not None:
            call.fail(error.code, error.message)
        else:
            self._tell(call)

    def _tell(self, call: UnaryCall) -> None:
        machine = self._member.machine
        body = rpc.DowngradeResponse(version=machine.cluster_version).SerializeToString()
        self._answers.reply(call, machine.revision, body)
