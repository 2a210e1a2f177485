"""``endpoint health``, ``status`` and ``hashkv``, and ``defrag``: one question to each endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .calls import ask, error_text
from .context import Context, Settings, complain, write
from .failures import ERROR, Failure
from .session import connect, world

__all__ = ["Health", "defrag", "hashkv", "health", "status"]

FORBIDDEN = "etcdserver: permission denied"


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint answered; ``took`` in seconds, ``error`` empty when it is healthy."""

    endpoint: str
    healthy: bool
    took: float
    error: str


async def _endpoints(context: Context, settings: Settings) -> Sequence[str]:
    """The endpoints that were named, or every member's with ``--cluster``."""
    if not context.yes("cluster"):
        return settings.endpoints
    try:
        async with connect(settings) as client:
            path = "/etcdserverpb.Cluster/MemberList"
            answer = await ask(client, path, rpc.MemberListRequest(), rpc.MemberListResponse)
    except TercetError as error:
        raise Failure(
            ERROR, f"failed to fetch endpoints from etcd cluster member list: {error_text(error)}"
        ) from None
    return [url for member in answer.members for url in member.clientURLs]


def health(context: Context) -> None:
    """``endpoint health``: a linearizable read at each endpoint, all at once."""
    answers = context.run(_health, context, context.settings())
    context.printer.show("health", answers)
    if not all(answer.healthy for answer in answers):
        raise Failure(ERROR, "unhealthy cluster")


async def _health(context: Context, settings: Settings) -> list[Health]:
    answers: list[Health] = []
    endpoints = await _endpoints(context, settings)
    async with trio.open_nursery() as nursery:
        for endpoint in endpoints:
            nursery.start_soon(_one_health, settings, endpoint, answers)
    return answers


async def _one_health(settings: Settings, endpoint: str, answers: list[Health]) -> None:
    clock, error = world().clock, ""
    started = clock.monotonic()
    try:
        async with connect(settings, (endpoint,)) as client:
            started = clock.monotonic()
            await ask(client, "/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"health"), rpc.RangeResponse)
    except TercetError as problem:
        error = error_text(problem)
    except Failure as problem:  # the login
        error = problem.text
    healthy = error in ("", FORBIDDEN)
    took = clock.monotonic() - started
    answers.append(Health(endpoint, healthy, took, "" if healthy else error))


def status(context: Context) -> None:
    """``endpoint status``."""
    request = rpc.StatusRequest()
    path = "/etcdserverpb.Maintenance/Status"
    answers, error = context.run(
        _each, context, context.settings(), path, request, rpc.StatusResponse, "status"
    )
    context.printer.show("status", answers)
    if error:
        raise Failure(ERROR, "")


def hashkv(context: Context) -> None:
    """``endpoint hashkv``."""
    request = rpc.HashKVRequest(revision=context.number("rev"))
    path = "/etcdserverpb.Maintenance/HashKV"
    answers, error = context.run(
        _each, context, context.settings(), path, request, rpc.HashKVResponse, "hash"
    )
    context.printer.show("hashkv", answers)
    if error:
        raise Failure(ERROR, error)


async def _each(
    context: Context, settings: Settings, path: str, request: Any, answer: type[Any], what: str
) -> tuple[list[tuple[str, Any]], str]:
    """The answers of those endpoints that gave one, and the last error."""
    answers: list[tuple[str, Any]] = []
    last = ""
    for endpoint in await _endpoints(context, settings):
        try:
            async with connect(settings, (endpoint,)) as client:
                answers.append((endpoint, await ask(client, path, request, answer)))
        except TercetError as error:
            last = error_text(error)
            complain(f"Failed to get the {what} of endpoint {endpoint} ({last})\n")
    return answers, last


def defrag(context: Context) -> None:
    """``defrag``: members one after the other, or a data directory that nobody uses."""
    if context.text("data-dir"):
        from .offline import defragment

        defragment(context.text("data-dir"))
    elif context.run(_defrag, context, context.settings()):
        raise Failure(ERROR, "")


async def _defrag(context: Context, settings: Settings) -> int:
    """How many endpoints failed."""
    failures = 0
    for endpoint in await _endpoints(context, settings):
        try:
            async with connect(settings, (endpoint,)) as client:
                path = "/etcdserverpb.Maintenance/Defragment"
                await ask(client, path, rpc.DefragmentRequest(), rpc.DefragmentResponse)
        except TercetError as error:
            complain(f"Failed to defragment etcd member[{endpoint}] ({error_text(error)})\n")
            failures += 1
        else:
            write(f"Finished defragmenting etcd member[{endpoint}]\n")
    return failures
