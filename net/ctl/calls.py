"""Unary calls as etcdctl makes them: its limit on what is sent, its words for what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tercet.core.errors import Rejected, TercetError
from tercet.core.rpc_errors import RpcError

from ..address import read_url
from ..client.errors import RequestTimedOut, Unreachable
from .context import complain
from .failures import BAD_CONNECTION, Failure

if TYPE_CHECKING:
    from ..client.client import Client

__all__ = ["DEADLINE", "READS", "TooLarge", "ask", "check_size", "error_text", "login_failed", "readable"]

SEND_BYTES_MAX: Final = 2 << 20
DEADLINE: Final = "context deadline exceeded"
_CODES: Final = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
#: Calls that only read: they may be made again when an answer was lost.
READS: Final = frozenset({
    "/etcdserverpb.KV/Range", "/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Cluster/MemberList", "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Auth/UserGet", "/etcdserverpb.Auth/UserList", "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList", "/etcdserverpb.Auth/AuthStatus",
})  # fmt: skip

Answer = TypeVar("Answer")
#: Stands for an endpoint that nobody can read: it refuses.
NOWHERE: Final = "http://127.0.0.1:0"


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


def readable(endpoints: Sequence[str]) -> list[str]:
    """Endpoints that can be dialled; those that nobody can read refuse. ``Failure`` when there are none."""
    if not endpoints:
        raise Failure(BAD_CONNECTION, "etcdclient: no available endpoints")
    return [_readable(url) for url in endpoints]


def _readable(url: str) -> str:
    url = url.strip()
    try:
        read_url(url)
    except ValueError:
        return NOWHERE
    return url


def check_size(request: Any) -> None:
    """Raise ``TooLarge`` for a request that gRPC would not send."""
    size = request.ByteSize()
    if size > SEND_BYTES_MAX:
        raise TooLarge(
            "rpc error: code = ResourceExhausted desc ="
            f" trying to send message larger than max ({size} vs. {SEND_BYTES_MAX})"
        )


def login_failed(error: TercetError, wall: Callable[[], float]) -> None:
    """What a refused login means: it is told when no login is needed, else it ends the command.

    Args:
        error: Why.
        wall: Tells the Unix time in seconds.

    Raises:
        Failure: The command cannot go on.
    """
    if not isinstance(error, RpcError) or error.message != "etcdserver: authentication is not enabled":
        raise Failure(BAD_CONNECTION, error_text(error)) from None
    from ..log import JsonLog  # only here: rarely needed

    # In the words of etcd's client library, as one JSON line.
    JsonLog(complain, wall).log("warn", "retrying of unary invoker failed", {"error": error_text(error)})


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
    check_size(request)
    read = answer.FromString  # type: ignore[attr-defined]
    clock, patience = client.world.clock, client.request_timeout if timeout is None else timeout
    until = clock.monotonic() + patience
    try:
        found: Answer = await client.call(path, request, read, patience, repeatable=path in READS)
    except TercetError as error:
        if clock.monotonic() >= until:  # whatever went wrong on the way
            raise RequestTimedOut(DEADLINE) from error
        raise
    return found
