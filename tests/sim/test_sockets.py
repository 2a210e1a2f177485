"""The simulated network through Trio's own interfaces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
import trio.testing

from tercet.net.world import World
from tercet.sim.contract import run_in_world
from tercet.sim.sockets import ConnectionStream
from tercet.sim.world import SimWorld


def test_a_connection_is_a_correct_half_closeable_stream() -> None:
    async def check(world: World) -> None:
        listener = await world.net.listen("localhost", 0)
        port = int(listener.address.rpartition(":")[2])

        async def pair() -> tuple[ConnectionStream, ConnectionStream]:
            near = await world.net.connect("localhost", port)
            return ConnectionStream(near), ConnectionStream(await listener.accept())  # type: ignore[arg-type]

        await trio.testing.check_half_closeable_stream(pair, clogged_pair(pair))

    run_in_world(check)


Pair = Callable[[], Awaitable[tuple[ConnectionStream, ConnectionStream]]]


def clogged_pair(pair: Pair) -> Pair:
    """A pair on which ``send_all`` blocks in both directions."""

    async def make() -> tuple[ConnectionStream, ConnectionStream]:
        left, right = await pair()
        for stream in (left, right):
            while stream._connection.try_send(b"x" * 65536):
                pass
        return left, right

    return make


def test_trio_sockets_are_correct_half_closeable_streams() -> None:
    async def check(world: World) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]

        async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
            near = await trio.open_tcp_stream("localhost", port)
            return near, await listeners[0].accept()

        await trio.testing.check_half_closeable_stream(pair, None)

    run_in_world(check)


def test_an_unmodified_trio_http_server_runs_in_the_world() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        assert isinstance(event, h11.Request)
        body = b"you asked for " + event.target
        head = h11.Response(status_code=200, headers=[("content-length", str(len(body)))])
        await stream.send_all((connection.send(head) or b"") + (connection.send(h11.Data(data=body)) or b""))
        await stream.aclose()

    async def server(world: World) -> None:
        await trio.serve_tcp(serve, 80)

    async def client(world: World) -> bytes:
        stream = await trio.open_tcp_stream("web", 80)
        await stream.send_all(b"GET /x HTTP/1.1\r\nhost: web\r\n\r\n")
        found = b"".join([piece async for piece in stream])
        answers.append(found)
        return found

    answers: list[bytes] = []
    sim = SimWorld(3, ("web", "user"))

    async def main() -> None:
        sim.start("web", server)
        await sim.sleep(0.1)
        await sim.start("user", client).done.wait()

    sim.run(main)
    assert not sim.failures
    assert answers[0].endswith(b"you asked for /x")


def test_only_tcp_exists() -> None:
    async def check(world: World) -> None:
        with pytest.raises(OSError, match="only TCP"):
            trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)

    run_in_world(check)
