"""``Maintenance.Downgrade`` of etcd 3.5: whether the cluster could go down by one minor version.

This server keeps its data in one format whatever version it reports, so there is nothing to prepare: a
target is judged as etcd judges it, no downgrade is ever in progress, and enabling one is not offered.
"""

from __future__ import annotations

import re

from tercet.core.rpc_errors import RpcError, RpcRejected, Status
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..call import UnaryCall
from .member import Answers, Member
from .missing import not_offered

__all__ = ["Downgrades"]

_WRONG_FORMAT = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
_INVALID_TARGET = RpcRejected(Status.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
_NO_VERSION = RpcRejected(Status.UNAVAILABLE, "etcdserver: cluster version not found during downgrade")
_NOT_UNDER_WAY = RpcRejected(Status.FAILED_PRECONDITION, "etcdserver: no inflight downgrade job")
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.\d{1,9})?")
_ENABLE = not_offered("etcdserverpb.Maintenance", "Downgrade")


class Downgrades:
    """The one method; all its answers are this member's own."""

    def __init__(self, member: Member, answers: Answers) -> None:
        self._member = member
        self._answers = answers

    def downgrade(self, call: UnaryCall) -> None:
        request = rpc.DowngradeRequest.FromString(call.message)
        if request.action == rpc.DowngradeRequest.CANCEL:
            _refuse(call, _NOT_UNDER_WAY)
            return
        error = self._check(request.version)
        if error is not None:
            _refuse(call, error)
        elif request.action == rpc.DowngradeRequest.VALIDATE:
            machine = self._member.machine
            body = rpc.DowngradeResponse(version=machine.cluster_version).SerializeToString()
            self._answers.reply(call, machine.revision, body)
        else:
            _ENABLE(call)

    def _check(self, version: str) -> RpcError | None:
        """The target must be one minor version below the cluster's."""
        wanted = _VERSION.fullmatch(version)
        if wanted is None:
            return _WRONG_FORMAT
        current = _VERSION.fullmatch(self._member.machine.cluster_version)
        if current is None:
            return _NO_VERSION
        allowed = int(current[1]), int(current[2]) - 1
        return None if (int(wanted[1]), int(wanted[2])) == allowed else _INVALID_TARGET


def _refuse(call: UnaryCall, error: RpcError) -> None:
    call.fail(error.code, error.message)
