"""What the Network port promises, on the real and on the simulated machine."""

from __future__ import annotations

import errno

import pytest
import trio
import trio.testing

from tercet.net.world import Connection, World

from .conftest import Machine


async def pair(world: World) -> tuple[Connection, Connection]:
    """Both ends of a new connection: (who connected, who accepted)."""
    listener = await world.net.listen("127.0.0.1", 0)
    accepted: list[Connection] = []

    async def accept() -> None:
        accepted.append(await listener.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        connected = await world.net.connect("127.0.0.1", port_of(listener.address))
    listener.close()
    return connected, accepted[0]


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def receive_exactly(connection: Connection, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await connection.receive(65536)
        assert part, f"ended after {len(data)} of {count} bytes"
        data += part
    return data


class Stream(trio.abc.HalfCloseableStream):
    """A Connection as a Trio stream, for Trio's own checks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = trio._util.ConflictDetector("another task is sending")
        self._receiving = trio._util.ConflictDetector("another task is receiving")
        self._closed = False
        self._half_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            self._check()
            if self._half_closed:
                raise trio.ClosedResourceError("sending was closed")
            try:
                await self._connection.send_all(bytes(data))
            except OSError as problem:
                raise trio.BrokenResourceError(str(problem)) from problem

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            self._check()
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        with self._receiving:
            self._check()
            if not isinstance(max_bytes, int | None):
                raise TypeError("max_bytes must be a whole number")
            if max_bytes is not None and max_bytes < 1:
                raise ValueError("max_bytes must be >= 1")
            try:
                return await self._connection.receive(max_bytes or 65536)
            except OSError as problem:
                raise trio.BrokenResourceError(str(problem)) from problem

    async def send_eof(self) -> None:
        with self._sending:
            self._check()
            if not self._half_closed:
                self._half_closed = True
                self._connection.close_sending()
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        self._connection.close()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")


def test_trio_accepts_the_connection_as_a_half_closeable_stream(machine: Machine) -> None:
    async def body(world: World) -> None:
        async def maker() -> tuple[Stream, Stream]:
            one, two = await pair(world)
            return Stream(one), Stream(two)

        await trio.testing.check_half_closeable_stream(maker, None)

    machine.run(body)


def test_bytes_arrive_in_order_and_the_end_is_seen(machine: Machine) -> None:
    async def body(world: World) -> None:
        client, server = await pair(world)
        sent = bytes(range(256)) * 8000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, sent)
            assert await receive_exactly(server, len(sent)) == sent
        client.close_sending()
        assert await server.receive(10) == b""
        await server.send_all(b"still open this way")
        assert await receive_exactly(client, 19) == b"still open this way"
        client.close()
        server.close()

    machine.run(body)


def test_receive_gives_at_most_what_was_asked_for(machine: Machine) -> None:
    async def body(world: World) -> None:
        client, server = await pair(world)
        await client.send_all(b"abcdef")
        got = b""
        while len(got) < 6:
            part = await server.receive(2)
            assert 1 <= len(part) <= 2
            got += part
        assert got == b"abcdef"
        client.close()
        server.close()

    machine.run(body)


def test_try_send_takes_what_fits_and_loses_nothing(machine: Machine) -> None:
    async def body(world: World) -> None:
        client, server = await pair(world)
        chunk = bytes(range(251)) * 200
        sent = bytearray()
        while True:
            taken = client.try_send(chunk)
            assert 0 <= taken <= len(chunk)
            sent += chunk[:taken]
            if taken == 0:
                break
            assert len(sent) < 1 << 28, "the other end reads nothing: this must fill up"
        assert await receive_exactly(server, len(sent)) == bytes(sent)
        await client.send_all(b"and on")
        assert await receive_exactly(server, 6) == b"and on"
        client.close()
        server.close()

    machine.run(body)


def test_closing_wakes_a_pending_receive(machine: Machine) -> None:
    async def body(world: World) -> None:
        client, server = await pair(world)

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await client.receive(10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            client.close()
        client.close()
        with pytest.raises(trio.ClosedResourceError):
            await client.receive(10)
        with pytest.raises(trio.ClosedResourceError):
            client.try_send(b"x")
        assert await server.receive(10) == b""
        server.close()

    machine.run(body)


def test_sending_to_an_end_that_has_closed_fails_with_an_os_error(machine: Machine) -> None:
    async def body(world: World) -> None:
        client, server = await pair(world)
        await client.send_all(b"never read")
        await world.clock.sleep(0.05)
        server.close()
        with pytest.raises(OSError) as caught:
            while True:
                await client.send_all(b"x" * 1000)
                await world.clock.sleep(0.001)
        assert caught.value.errno in (errno.ECONNRESET, errno.EPIPE)
        client.close()

    machine.run(body)


def test_nobody_listening_means_refused(machine: Machine) -> None:
    async def body(world: World) -> None:
        listener = await world.net.listen("127.0.0.1", 0)
        port = port_of(listener.address)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await world.net.connect("127.0.0.1", port)

    machine.run(body)


def test_an_occupied_port_is_told(machine: Machine) -> None:
    async def body(world: World) -> None:
        listener = await world.net.listen("127.0.0.1", 0)
        with pytest.raises(OSError) as caught:
            await world.net.listen("127.0.0.1", port_of(listener.address))
        assert caught.value.errno == errno.EADDRINUSE
        listener.close()

    machine.run(body)


def test_closing_a_listener_wakes_accept(machine: Machine) -> None:
    async def body(world: World) -> None:
        listener = await world.net.listen("127.0.0.1", 0)

        async def accept() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            listener.close()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    machine.run(body)


def test_the_ends_know_each_other(machine: Machine) -> None:
    async def body(world: World) -> None:
        listener = await world.net.listen("localhost", 0)
        client = await world.net.connect("localhost", port_of(listener.address))
        server = await listener.accept()
        assert client.remote == listener.address
        assert port_of(server.remote) > 0
        for thing in (client, server, listener):
            thing.close()

    machine.run(body)
