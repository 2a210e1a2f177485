"""``lease grant``, ``revoke``, ``timetolive`` and ``list``."""

from __future__ import annotations

from typing import Any

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .calls import error_text
from .context import Context
from .do_kv import lease_id
from .failures import BAD_ARGS, BAD_CONNECTION, ERROR, Failure
from .text import parse_int
from .unary import ask_once

__all__ = ["grant", "lease_argument", "list_all", "revoke", "time_to_live"]


def lease_argument(context: Context) -> int:
    """The lease that the only argument names."""
    return lease_id(context.arguments[0], "bad lease ID arg ({}), expecting ID in Hex")


def _asked(context: Context, path: str, request: Any, answer: type[Any], wrong: str) -> Any:
    """Make the call; its error goes into ``wrong``."""
    settings = context.settings()
    try:
        return ask_once(settings, path, request, answer)
    except TercetError as error:
        raise Failure(ERROR, wrong.format(error_text(error))) from None


def _looked_up(context: Context, path: str, request: Any, answer: type[Any]) -> Any:
    """Make a call that has no time limit, and whose failure is one of the connection."""
    settings = context.settings()
    try:
        return ask_once(settings, path, request, answer, patient=True)
    except TercetError as error:
        raise Failure(BAD_CONNECTION, error_text(error)) from None


def grant(context: Context) -> None:
    """``lease grant``."""
    context.need(len(context.arguments) == 1, "lease grant command needs TTL argument")
    try:
        ttl = parse_int(context.arguments[0])
    except ValueError as error:
        raise Failure(BAD_ARGS, f"bad TTL ({error})") from None
    answer = _asked(
        context,
        "/etcdserverpb.Lease/LeaseGrant",
        rpc.LeaseGrantRequest(TTL=ttl),
        rpc.LeaseGrantResponse,
        "failed to grant lease ({})",
    )
    context.show("grant", answer)


def revoke(context: Context) -> None:
    """``lease revoke``."""
    context.need(len(context.arguments) == 1, "lease revoke command needs 1 argument")
    lease = lease_argument(context)
    answer = _asked(
        context,
        "/etcdserverpb.Lease/LeaseRevoke",
        rpc.LeaseRevokeRequest(ID=lease),
        rpc.LeaseRevokeResponse,
        "failed to revoke lease ({})",
    )
    context.show("revoke", answer, lease)


def time_to_live(context: Context) -> None:
    """``lease timetolive``."""
    context.need(len(context.arguments) == 1, "lease timetolive command needs lease ID as argument")
    context.settings()  # what is wrong there is told first
    request = rpc.LeaseTimeToLiveRequest(ID=lease_argument(context), keys=context.yes("keys"))
    path = "/etcdserverpb.Lease/LeaseTimeToLive"
    answer = _looked_up(context, path, request, rpc.LeaseTimeToLiveResponse)
    context.show("time_to_live", answer, context.yes("keys"))


def list_all(context: Context) -> None:
    """``lease list``."""
    path = "/etcdserverpb.Lease/LeaseLeases"
    answer = _looked_up(context, path, rpc.LeaseLeasesRequest(), rpc.LeaseLeasesResponse)
    context.show("leases", answer)
