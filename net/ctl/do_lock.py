"""``lock`` and ``elect``: hold a lock or an office until interrupted, or while a command runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import trio

from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from .calls import ask
from .contest import RANGE, Contender, first_key, session
from .context import Context, Settings
from .exec import run_command
from .failures import ERROR, Failure
from .run import HELD_SIGNALS
from .session import connect
from .watching import AnswerWatch

__all__ = ["elect", "lock"]

ELECTION_SECONDS = 60


def lock(context: Context) -> None:
    """``lock``."""
    context.need(
        bool(context.arguments), "lock takes a lock name argument and an optional command to execute"
    )
    _run(context, _lock, context.settings())


def _run(context: Context, function: Callable[..., Coroutine[Any, Any, None]], settings: Settings) -> None:
    interruption = _Interruption()
    context.run(interruption.around, lambda: function(context, settings, interruption))


class _Interruption:
    """A signal that ends what waits; while ``starting`` it ends everything."""

    def __init__(self) -> None:
        self.starting = True
        self._came = trio.Event()

    async def around(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``body`` with signals taken, those that came before we could take them as well."""
        with trio.open_signal_receiver(*HELD_SIGNALS) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
            async with trio.open_nursery() as nursery:

                async def listen() -> None:
                    async for _ in signals:
                        self._came.set()
                        if self.starting:
                            raise Failure(ERROR, "context canceled")

                nursery.start_soon(listen)
                await body()
                nursery.cancel_scope.cancel()

    async def until(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Do ``work`` until it is done or a signal comes; True when it was done."""
        self.starting = False
        done = False
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                nonlocal done
                await work()
                done = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            await self._came.wait()
            nursery.cancel_scope.cancel()
        return done


async def _lock(context: Context, settings: Settings, interruption: _Interruption) -> None:
    async with connect(settings) as client, session(client, context.number("ttl")) as owner:
        contender = Contender(owner, context.raw(0))

        async def acquire() -> None:
            if not await contender.enter(b""):
                await contender.wait()

        if not await interruption.until(acquire):
            await contender.leave()
            raise Failure(ERROR, "context canceled")
        command = context.arguments[1:]
        if command:
            environment = {
                **context.environment,
                "ETCD_LOCK_KEY": os.fsdecode(contender.key),
                "ETCD_LOCK_REV": str(contender.header.revision),
            }
            problem = await run_command(command, environment)
            await contender.leave()
            if problem:
                raise Failure(ERROR, problem)
            return
        await _show_key(context, client, contender.key, "lock lost on init")
        if await interruption.until(owner.lost.wait):
            raise Failure(ERROR, "session expired")
        await contender.leave()


async def _show_key(context: Context, client: Client, key: bytes, lost: str) -> None:
    answer = await ask(client, RANGE, rpc.RangeRequest(key=key), rpc.RangeResponse)
    if not answer.kvs:
        raise Failure(ERROR, lost)
    context.show("get", answer)


def elect(context: Context) -> None:
    """``elect``: campaign with a proposal, or look on with ``--listen``."""
    context.need(
        len(context.arguments) in (1, 2),
        "elect takes one election name argument and an optional proposal argument",
    )
    settings = context.settings()
    if context.yes("listen"):
        context.need(len(context.arguments) == 1, "proposal given but -l is set")
        _run(context, _observe, settings)
    else:
        context.need(len(context.arguments) == 2, "no proposal argument but -l not set")
        _run(context, _campaign, settings)


async def _campaign(context: Context, settings: Settings, interruption: _Interruption) -> None:
    async with connect(settings) as client, session(client, ELECTION_SECONDS) as owner:
        contender = Contender(owner, context.raw(0))

        async def win() -> None:
            if not await contender.enter(context.raw(1)):
                await contender.wait()

        if not await interruption.until(win):
            await contender.leave()
            raise Failure(ERROR, "context canceled")
        await _show_key(context, client, contender.key, "election lost on init")
        if await interruption.until(owner.lost.wait):
            raise Failure(ERROR, "elect: session expired")
        await contender.leave()


async def _observe(context: Context, settings: Settings, interruption: _Interruption) -> None:
    async with connect(settings) as client:

        async def look_on() -> None:
            while True:
                await _one_leader(context, client, context.raw(0) + b"/")

        await interruption.until(look_on)


async def _one_leader(context: Context, client: Client, prefix: bytes) -> None:
    """Wait for a leader, print its proposals, and return when it has left."""
    answer = await first_key(client, prefix)
    while not answer.kvs:
        create = rpc.WatchCreateRequest(
            key=prefix,
            range_end=prefix[:-1] + bytes([prefix[-1] + 1]),
            start_revision=answer.header.revision + 1,
            filters=[rpc.WatchCreateRequest.NODELETE],
        )
        await _next(client, create)
        answer = await first_key(client, prefix)
    context.show("get", answer)
    leader = answer.kvs[0]
    create = rpc.WatchCreateRequest(key=leader.key, start_revision=answer.header.revision + 1)
    watched = AnswerWatch(client, create)
    try:
        while True:
            found = await watched.receive()
            for event in found.events:
                if event.type == kv_pb2.Event.DELETE:
                    return
                context.show("get", rpc.RangeResponse(header=found.header, kvs=[event.kv]))
            if found.canceled:
                return
    finally:
        watched.close()


async def _next(client: Client, create: rpc.WatchCreateRequest) -> None:
    watched = AnswerWatch(client, create)
    try:
        await watched.receive()
    finally:
        watched.close()
