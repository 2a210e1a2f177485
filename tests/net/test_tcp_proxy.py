"""The TCP proxy: turns, members that are down, ends of connections. In the simulated world."""

from __future__ import annotations

import pytest
import trio

from tercet.net.dial import read_url
from tercet.net.tcp_proxy import TcpProxy
from tercet.net.world import Connection, Listener, World
from tercet.sim.contract import run_in_world

RETRY_SECONDS = 60.0


class Member:
    """A server that tells its name, then repeats what it hears until the client has finished."""

    def __init__(self, name: bytes, listener: Listener) -> None:
        self.name = name
        self.listener = listener
        self.served = 0
        self.ended = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    connection = await self.listener.accept()
                    self.served += 1
                    nursery.start_soon(self._serve, connection)
            except trio.ClosedResourceError:
                pass

    async def _serve(self, connection: Connection) -> None:
        await connection.send_all(self.name)
        heard = b""
        while data := await connection.receive(100):
            heard += data
        self.ended.set()
        await connection.send_all(b" heard " + heard)
        connection.close()


class Scene:
    """Members on ports 1, 2, ... behind a proxy on port 99."""

    def __init__(self, world: World, nursery: trio.Nursery, *, most: int = 9) -> None:
        self.world = world
        self.nursery = nursery
        self.most = most

    async def member(self, port: int) -> Member:
        found = Member(b"%d" % port, await self.world.net.listen("0.0.0.0", port))
        self.nursery.start_soon(found.run)
        return found

    async def proxy(self, *ports: int) -> None:
        endpoints = [read_url(f"localhost:{port}") for port in ports]
        proxy = TcpProxy(self.world, endpoints, retry_seconds=RETRY_SECONDS, most=self.most)
        self.nursery.start_soon(proxy.run, await self.world.net.listen("0.0.0.0", 99))

    async def ask(self, words: bytes = b"hello") -> bytes:
        """What the member says that the proxy has chosen; b"" when the proxy ends the connection."""
        connection = await self.world.net.connect("localhost", 99)
        said = b""
        try:
            await connection.send_all(words)
            connection.close_sending()
            while data := await connection.receive(100):
                said += data
        except OSError:
            pass
        connection.close()
        return said


def test_members_take_turns_and_both_directions_and_their_ends_are_passed_on() -> None:
    async def body(world: World) -> None:
        async with trio.open_nursery() as nursery:
            scene = Scene(world, nursery)
            for port in (1, 2):
                await scene.member(port)
            await scene.proxy(1, 2)
            large = bytes(300_000)
            assert await scene.ask() == b"1 heard hello"
            assert await scene.ask(large) == b"2 heard " + large
            assert await scene.ask() == b"1 heard hello"
            nursery.cancel_scope.cancel()

    run_in_world(body, seed=1)


def test_a_member_that_is_down_is_left_out_until_it_answers_again() -> None:
    async def body(world: World) -> None:
        async with trio.open_nursery() as nursery:
            scene = Scene(world, nursery)
            await scene.member(2)
            await scene.proxy(1, 2)
            assert [await scene.ask() for _ in range(2)] == [b"2 heard hello"] * 2
            late = await scene.member(1)
            assert [await scene.ask() for _ in range(2)] == [b"2 heard hello"] * 2
            assert late.served == 0
            await world.clock.sleep(RETRY_SECONDS + 1)
            assert late.served == 1  # it was asked whether it is there
            assert sorted([await scene.ask() for _ in range(2)]) == [b"1 heard hello", b"2 heard hello"]
            nursery.cancel_scope.cancel()

    run_in_world(body, seed=2)


def test_with_no_member_left_the_connection_ends_and_the_proxy_goes_on() -> None:
    async def body(world: World) -> None:
        async with trio.open_nursery() as nursery:
            scene = Scene(world, nursery)
            await scene.proxy(1)
            assert await scene.ask() == b""
            await scene.member(1)
            await world.clock.sleep(RETRY_SECONDS + 1)
            assert await scene.ask() == b"1 heard hello"
            nursery.cancel_scope.cancel()

    run_in_world(body, seed=3)


def test_a_client_that_goes_is_told_to_the_member_and_gives_its_place_to_another() -> None:
    async def body(world: World) -> None:
        async with trio.open_nursery() as nursery:
            scene = Scene(world, nursery, most=1)
            member = await scene.member(1)
            await scene.proxy(1)
            client = await world.net.connect("localhost", 99)
            assert await client.receive(100) == b"1"
            assert await scene.ask() == b""  # one too many
            client.close()
            await member.ended.wait()
            await world.clock.sleep(1)
            assert await scene.ask() == b"1 heard hello"
            nursery.cancel_scope.cancel()

    run_in_world(body, seed=4)


def test_a_proxy_needs_somewhere_to_go() -> None:
    with pytest.raises(ValueError, match="at least one endpoint"):
        run_in_world(_no_endpoints, seed=5)


async def _no_endpoints(world: World) -> None:
    await trio.lowlevel.checkpoint()
    TcpProxy(world, [])
