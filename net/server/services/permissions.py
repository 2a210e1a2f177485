"""Which methods are for whom, where a look at the path is enough.

Keys are checked where they are read (KV, Watch, leases' keys) and, for all that is written, when its entry is
applied. What is left is here: the administrator's methods, and those that anybody may call but not with a
token that is no good. Status, MemberList, MoveLeader, keep-alives and a lease's remaining time are free, as
in etcd 3.4.
"""

from __future__ import annotations

from functools import partial

from google.protobuf.message import DecodeError

from tercet.core.rpc_errors import UNREADABLE_TEXT, RpcError, Status

from ...auth import Guard
from ..call import StreamCall, StreamHandler, UnaryCall, UnaryHandler

__all__ = ["protect_streams", "protect_unary"]

_ADMIN = tuple(f"/etcdserverpb.Cluster/Member{change}" for change in ("Add", "Remove", "Update", "Promote"))
#: Refused in the words of etcd's auth package: its Maintenance service does not translate them.
_ADMIN_PLAIN = tuple(
    f"/etcdserverpb.Maintenance/{name}" for name in ("Defragment", "Hash", "HashKV", "Snapshot")
)
_VALID = ("/etcdserverpb.KV/Compact", "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Maintenance/Alarm")


def protect_unary(guard: Guard, handlers: dict[str, UnaryHandler]) -> dict[str, UnaryHandler]:
    """The handlers by path, refusing who may not call them."""
    return {path: _unary(guard, path, handler) for path, handler in handlers.items()}


def protect_streams(guard: Guard, handlers: dict[str, StreamHandler]) -> dict[str, StreamHandler]:
    """As ``protect_unary``."""
    return {path: _stream(guard, path, handler) for path, handler in handlers.items()}


def _unary(guard: Guard, path: str, handler: UnaryHandler) -> UnaryHandler:
    if path in _ADMIN or path in _ADMIN_PLAIN:
        plain = path in _ADMIN_PLAIN

        def for_admins(call: UnaryCall) -> None:
            if guard.concerns(call):
                guard.require_admin(call, partial(_serve, handler, call), plain=plain)
            else:
                handler(call)

        return for_admins
    if path in _VALID:
        plain = path.startswith("/etcdserverpb.Maintenance/")

        def for_known(call: UnaryCall) -> None:
            if guard.concerns(call):
                guard.require_valid(call, partial(_serve, handler, call), plain=plain)
            else:
                handler(call)

        return for_known
    return handler


def _serve(handler: UnaryHandler, call: UnaryCall) -> None:
    """Call a handler from where nobody catches what it raises."""
    try:
        handler(call)
    except RpcError as error:
        call.fail(error.code, error.message)
    except DecodeError:
        call.fail(Status.INTERNAL, UNREADABLE_TEXT)


def _stream(guard: Guard, path: str, handler: StreamHandler) -> StreamHandler:
    if path not in _ADMIN and path not in _ADMIN_PLAIN:
        return handler
    plain = path in _ADMIN_PLAIN

    async def for_admins(call: StreamCall) -> None:
        await guard.require_admin_stream(call, plain=plain)
        await handler(call)

    return for_admins
