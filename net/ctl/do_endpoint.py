"""``endpoint health``, ``status`` and ``hashkv``, and ``defrag``: one question to each endpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Thread
from typing import Any, NamedTuple

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .calls import error_text
from .context import Context, Settings, complain, write
from .failures import ERROR, Failure
from .text import duration_text
from .unary import Caller, check_login

__all__ = ["Health", "defrag", "hashkv", "health", "status"]

FORBIDDEN = "etcdserver: permission denied"


class Health(NamedTuple):
    """How an endpoint answered; ``took`` as text, empty without an answer; ``error`` empty when healthy."""

    endpoint: str
    healthy: bool
    took: str
    error: str


def _endpoints(context: Context, settings: Settings) -> Sequence[str]:
    """The endpoints that were named, or every member's with ``--cluster``."""
    if not context.yes("cluster"):
        return settings.endpoints
    try:
        with Caller(settings._replace(login=None)) as caller:  # which members there are is no secret
            path = "/etcdserverpb.Cluster/MemberList"
            answer = caller.ask(path, rpc.MemberListRequest(), rpc.MemberListResponse)
    except TercetError as error:
        raise Failure(
            ERROR, f"failed to fetch endpoints from etcd cluster member list: {error_text(error)}"
        ) from None
    return [url for member in answer.members for url in member.clientURLs]


def health(context: Context) -> None:
    """``endpoint health``: a linearizable read at each endpoint, all at once."""
    settings = context.settings(format_first=True)
    endpoints = _endpoints(context, settings)
    answers: list[Health] = []

    def ask(endpoint: str) -> None:
        answers.append(_health(settings, endpoint))

    askers = [Thread(target=ask, args=(endpoint,)) for endpoint in endpoints]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    context.show("health", answers)
    if not all(answer.healthy for answer in answers):
        raise Failure(ERROR, "unhealthy cluster")


def _health(settings: Settings, endpoint: str) -> Health:
    error, started = "", time.monotonic()
    try:
        with Caller(settings, (endpoint,)) as caller:
            started = time.monotonic()
            caller.ask("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"health"), rpc.RangeResponse)
    except TercetError as problem:
        error = error_text(problem)
    except Failure as problem:  # the login
        return Health(endpoint, False, "", problem.text)
    healthy = error in ("", FORBIDDEN)
    took = duration_text(time.monotonic() - started)
    return Health(endpoint, healthy, took, "" if healthy else error)


def status(context: Context) -> None:
    """``endpoint status``."""
    request = rpc.StatusRequest()
    path = "/etcdserverpb.Maintenance/Status"
    answers, error = _each(context, context.settings(), path, request, rpc.StatusResponse, "status")
    context.show("status", answers)
    if error:
        raise Failure(ERROR, "")


def hashkv(context: Context) -> None:
    """``endpoint hashkv``."""
    request = rpc.HashKVRequest(revision=context.number("rev"))
    path = "/etcdserverpb.Maintenance/HashKV"
    answers, error = _each(context, context.settings(), path, request, rpc.HashKVResponse, "hash")
    context.show("hashkv", answers)
    if error:
        raise Failure(ERROR, error)


def _each(
    context: Context, settings: Settings, path: str, request: Any, answer: type[Any], what: str
) -> tuple[list[tuple[str, Any]], str]:
    """The answers of those endpoints that gave one, and the last error."""
    check_login(settings)
    answers: list[tuple[str, Any]] = []
    last = ""
    for endpoint in _endpoints(context, settings):
        try:
            with Caller(settings, (endpoint,)) as caller:
                answers.append((endpoint, caller.ask(path, request, answer)))
        except TercetError as error:
            last = error_text(error)
            complain(f"Failed to get the {what} of endpoint {endpoint} ({last})\n")
    return answers, last


def defrag(context: Context) -> None:
    """``defrag``: members one after the other, or a data directory that nobody uses."""
    if context.text("data-dir"):
        from .offline import defragment

        defragment(context.text("data-dir"), context.text("wal-dir"))
    elif _defrag(context, context.settings()):
        raise Failure(ERROR, "")


def _defrag(context: Context, settings: Settings) -> int:
    """How many endpoints failed."""
    check_login(settings)
    failures = 0
    for endpoint in _endpoints(context, settings):
        try:
            with Caller(settings, (endpoint,)) as caller:
                path = "/etcdserverpb.Maintenance/Defragment"
                caller.ask(path, rpc.DefragmentRequest(), rpc.DefragmentResponse)
        except TercetError as error:
            complain(f"Failed to defragment etcd member[{endpoint}] ({error_text(error)})\n")
            failures += 1
        else:
            write(f"Finished defragmenting etcd member[{endpoint}]\n")
    return failures
