"""Unary calls as etcdctl makes them: its limit on what is sent, its words for what goes wrong."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from tercet.core.errors import Rejected, TercetError
from tercet.core.rpc_errors import RpcError

from ..client.client import Client
from ..client.errors import RequestTimedOut, Unreachable

__all__ = ["DEADLINE", "TooLarge", "ask", "error_text"]

SEND_BYTES_MAX: Final = 2 << 20
DEADLINE: Final = "context deadline exceeded"
_CODES: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
#: Calls that only read: they may be made again when an answer was lost.
_READS: Final = frozenset({
    "/etcdserverpb.KV/Range", "/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Cluster/MemberList", "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Auth/UserGet", "/etcdserverpb.Auth/UserList", "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList", "/etcdserverpb.Auth/AuthStatus",
})  # fmt: skip

Answer = TypeVar("Answer")


class TooLarge(Rejected):
    """A request that is not even sent."""


def error_text(error: TercetError) -> str:
    """What etcdctl says about an error: etcd's own text where the server sent one, else gRPC's."""
    if isinstance(error, TooLarge):
        return str(error)
    if isinstance(error, RpcError):
        if error.message.startswith("etcdserver: "):
            return error.message
        code = _CODES[error.code] if 0 <= error.code < len(_CODES) else f"Code({int(error.code)})"
        return f"rpc error: code = {code} desc = {error.message}"
    if isinstance(error, Unreachable | RequestTimedOut):
        return DEADLINE
    return "rpc error: code = Unavailable desc = transport is closing"


async def ask(
    client: Client, path: str, request: Any, answer: type[Answer], *, timeout: float | None = None
) -> Answer:
    """Make one call and read its answer. Raises ``TercetError``.

    Args:
        client: Entered and logged in.
        path: Service and method.
        request: A protobuf message.
        answer: The class of the answer.
        timeout: Seconds; None: the command's.
    """
    size = request.ByteSize()
    if size > SEND_BYTES_MAX:
        raise TooLarge(
            "rpc error: code = ResourceExhausted desc ="
            f" trying to send message larger than max ({size} vs. {SEND_BYTES_MAX})"
        )
    read = answer.FromString  # type: ignore[attr-defined]
    clock, patience = client.world.clock, client.request_timeout if timeout is None else timeout
    until = clock.monotonic() + patience
    try:
        found: Answer = await client.call(path, request, read, patience, repeatable=path in _READS)
    except TercetError as error:
        if clock.monotonic() >= until:  # whatever went wrong on the way
            raise RequestTimedOut(DEADLINE) from error
        raise
    return found
