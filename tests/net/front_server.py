"""A small real server behind the front door, for tests and for h2load.

``python tests/net/front_server.py PORT`` serves until interrupted; every unary method answers a fixed small
message, as a Put would.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio

from tercet.net.real import real_world
from tercet.net.server.call import StreamCall, StreamHandler, UnaryCall, UnaryHandler
from tercet.net.server.front import Front, FrontLimits, Http1Handler


@dataclass
class Services:
    """``Methods`` from two dictionaries."""

    unary: dict[str, UnaryHandler] = field(default_factory=dict)
    stream: dict[str, StreamHandler] = field(default_factory=dict)


def echo(call: UnaryCall) -> None:
    call.reply(call.message)


async def echo_stream(call: StreamCall) -> None:
    while (message := await call.receive()) is not None:
        await call.send(message)


@contextlib.asynccontextmanager
async def serving(
    services: Services, *, http1: Http1Handler | None = None, limits: FrontLimits | None = None
) -> AsyncIterator[tuple[Front, str]]:
    """A front on a free port; gives it and its ``host:port``."""
    world = real_world("front-test", write_log=lambda line: None)
    front = Front(world, services, http1, limits=limits)
    listener = await world.net.listen("127.0.0.1", 0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.run)
            nursery.start_soon(front.serve_listener, listener)
            yield front, listener.address
            nursery.cancel_scope.cancel()
    finally:
        listener.close()


async def main(port: int) -> None:
    answer = bytes.fromhex("0a1208fa86a1cfcd8aaea41c10c7f0b5dbd3e0f3b91018022002")

    def put(call: UnaryCall) -> None:
        call.reply(answer)

    services = Services({"/etcdserverpb.KV/Put": put}, {"/etcdserverpb.Watch/Watch": echo_stream})
    world = real_world("front-bench")
    front = Front(world, services)
    listener = await world.net.listen("127.0.0.1", port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.run)
        await front.serve_listener(listener)


if __name__ == "__main__":
    run: Callable[..., None] = trio.run
    run(main, int(sys.argv[1]))
