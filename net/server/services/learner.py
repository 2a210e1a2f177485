"""What a learner does not answer: all but its own status and serializable reads, as etcd's learners.

Proposals and read points are refused by the node itself (``Node.propose``, ``Node.read_index``), so that the
busy methods cost nothing more; every other method is wrapped here.
"""

from __future__ import annotations

from collections.abc import Mapping

from tercet.core import rpc_errors

from ..call import StreamCall, StreamHandler, UnaryCall, UnaryHandler
from .member import Member

__all__ = ["guard_streams", "guard_unary"]

#: Answered by learners, or refused deeper down.
_UNGUARDED = (
    "/etcdserverpb.Maintenance/Status", "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
)  # fmt: skip
_UNGUARDED_SERVICES = ("grpc.health.", "grpc.reflection.")


def guard_unary(member: Member, handlers: Mapping[str, UnaryHandler]) -> dict[str, UnaryHandler]:
    """The handlers by path, refusing what a learner does not answer while this member is one."""
    return {path: handler if _open(path) else _unary(member, handler) for path, handler in handlers.items()}


def guard_streams(member: Member, handlers: Mapping[str, StreamHandler]) -> dict[str, StreamHandler]:
    """As ``guard_unary``; streams that have begun go on."""
    return {path: handler if _open(path) else _stream(member, handler) for path, handler in handlers.items()}


def _open(path: str) -> bool:
    return path in _UNGUARDED or path[1:].startswith(_UNGUARDED_SERVICES)


def _unary(member: Member, handler: UnaryHandler) -> UnaryHandler:
    def guarded(call: UnaryCall) -> None:
        if member.is_learner:
            raise rpc_errors.NOT_SUPPORTED_FOR_LEARNER.with_traceback(None)
        handler(call)

    return guarded


def _stream(member: Member, handler: StreamHandler) -> StreamHandler:
    async def guarded(call: StreamCall) -> None:
        if member.is_learner:
            raise rpc_errors.NOT_SUPPORTED_FOR_LEARNER.with_traceback(None)
        await handler(call)

    return guarded
