"""The same HTTP code in the simulated world: time there costs nothing, so patience can be tested."""

from __future__ import annotations

from typing import Any

import trio

from tercet.net.config import MemberConfig
from tercet.net.server.http import IDLE_SECONDS, make_http1_handler
from tercet.net.world import Connection, World
from tercet.sim.contract import run_in_world

from .http_desk import Methods, Node


async def _serve(world: World, nursery: trio.Nursery) -> Connection:
    """Serve one connection in this world; gives the client's end."""
    handler = make_http1_handler(Node(), MemberConfig(), Methods())
    listener = await world.net.listen("0.0.0.0", 80)

    async def one() -> None:
        connection = await listener.accept()
        await handler(world, connection, await connection.receive(65536))
        connection.close()

    nursery.start_soon(one)
    return await world.net.connect("localhost", 80)


async def _talk(world: World) -> list[Any]:
    seen: list[Any] = []
    async with trio.open_nursery() as nursery:
        client = await _serve(world, nursery)
        await client.send_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        seen.append(await client.receive(65536))
        started = world.clock.monotonic()
        seen.append(await client.receive(65536))
        seen.append(world.clock.monotonic() - started)
        client.close()
    return seen


def test_a_silent_client_is_let_go_after_the_idle_time() -> None:
    answer, end, waited = run_in_world(_talk, seed=5)
    assert answer.endswith(b'{"etcdserver":"3.4.35","etcdcluster":"3.4.0"}')
    assert end == b""
    assert IDLE_SECONDS <= waited < IDLE_SECONDS + 1


def test_two_runs_of_a_seed_send_the_same_bytes() -> None:
    assert run_in_world(_talk, seed=6) == run_in_world(_talk, seed=6)


async def _linger_in_a_body(world: World) -> bytes:
    async with trio.open_nursery() as nursery:
        client = await _serve(world, nursery)
        await client.send_all(b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        end = await client.receive(65536)
        client.close()
    return end


def test_a_client_that_never_finishes_its_body_is_let_go() -> None:
    assert run_in_world(_linger_in_a_body, seed=7) == b""
