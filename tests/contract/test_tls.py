"""TLS over the Network port keeps the promises of a Connection, on the real and on the simulated machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from tercet.net.dial import Dialer
from tercet.net.tls_context import ServerCredentials
from tercet.net.tls_listener import TlsListener
from tercet.net.tls_settings import ClientTls, TlsSettings
from tercet.net.world import Connection, World

from ..net.tls_files import Authority, Pair
from .conftest import Machine
from .test_network import Stream, port_of, receive_exactly

SEVERAL_RECORDS = bytes(range(256)) * 1200


@dataclass(frozen=True)
class Files:
    """Made before the world, which has no chance of its own to make keys from."""

    authority: Authority
    server: Pair
    client: Pair


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = Authority(tmp_path, fixed_size=True)
    return Files(authority, authority.sign("server", hosts=["127.0.0.1"]), authority.sign("client"))


async def tls_pair(world: World, files: Files, *, mutual: bool = True) -> tuple[Connection, Connection]:
    """Both ends of a new TLS connection, hands shaken: (who connected, who accepted)."""
    authority, server, client = files.authority, files.server, files.client
    world.disk.make_dirs(str(authority.folder))
    for pair in (server, client):
        world.disk.write_atomic(pair.cert_file, pair.certificate)
        world.disk.write_atomic(pair.key_file, pair.key)
    world.disk.write_atomic(authority.file, authority.certificate)
    settings = TlsSettings(
        cert_file=server.cert_file, key_file=server.key_file, trusted_ca_file=authority.file if mutual else ""
    )
    listener = TlsListener(world, await world.net.listen("127.0.0.1", 0), ServerCredentials(world, settings))
    tls = ClientTls(
        ca_file=authority.file,
        cert_file=client.cert_file if mutual else "",
        key_file=client.key_file if mutual else "",
    )
    accepted: list[Connection] = []

    async def accept() -> None:
        connection = await listener.accept()
        assert await connection.receive(1) == b"!"
        accepted.append(connection)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        connected = await Dialer(world, tls).dial(f"https://127.0.0.1:{port_of(listener.address)}")
        await connected.send_all(b"!")
    listener.close()
    return connected, accepted[0]


def test_bytes_arrive_as_they_were_sent_both_ways(machine: Machine, files: Files) -> None:
    async def body(world: World) -> None:
        near, far = await tls_pair(world, files)
        for sender, receiver in ((near, far), (far, near)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.send_all, SEVERAL_RECORDS)
                assert await receive_exactly(receiver, len(SEVERAL_RECORDS)) == SEVERAL_RECORDS
        assert getattr(far, "client_common_name", None) == "client"
        near.close()
        far.close()

    machine.run(body)


def test_try_send_counts_only_what_left_and_loses_nothing(machine: Machine, files: Files) -> None:
    """The kernel's buffer fills up in the middle; the rest is offered again, by either way of sending."""

    async def body(world: World) -> None:
        near, far = await tls_pair(world, files)
        data = SEVERAL_RECORDS * 64
        sent = 0
        while taken := near.try_send(data[sent:]):
            sent += taken
        assert 0 < sent < len(data)
        received = bytearray()

        async def receive() -> None:
            while len(received) < len(data) + 4:
                received.extend(await far.receive(65536))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            while not received:
                await world.clock.sleep(0.01)
            sent += near.try_send(data[sent:])
            await near.send_all(data[sent:])
            while near.try_send(b"done") == 0:
                await world.clock.sleep(0.01)
        assert bytes(received) == data + b"done"
        near.close()
        far.close()

    machine.run(body)


def test_a_half_close_is_seen_and_the_other_direction_goes_on(machine: Machine, files: Files) -> None:
    async def body(world: World) -> None:
        near, far = await tls_pair(world, files)
        await near.send_all(b"last words")
        near.close_sending()
        assert await receive_exactly(far, 10) == b"last words"
        assert await far.receive(10) == b""
        await far.send_all(b"answer")
        assert await receive_exactly(near, 6) == b"answer"
        far.close()
        assert await near.receive(10) == b""
        near.close()

    machine.run(body)


def test_a_connection_that_is_cut_is_an_error_and_not_an_end(machine: Machine, files: Files) -> None:
    """Without TLS's goodbye nobody knows whether something is missing."""

    async def body(world: World) -> None:
        near, far = await tls_pair(world, files)
        near._transport.close_sending()  # type: ignore[attr-defined]
        with pytest.raises(OSError, match="mid-stream"):
            await far.receive(10)
        near.close()
        far.close()

    machine.run(body)


def test_a_closed_connection_refuses_everything(machine: Machine, files: Files) -> None:
    async def body(world: World) -> None:
        near, far = await tls_pair(world, files, mutual=False)
        near.close()
        near.close()
        with pytest.raises(trio.ClosedResourceError):
            await near.receive(1)
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            near.try_send(b"x")
        assert await far.receive(1) == b""
        far.close()

    machine.run(body)


def test_closing_wakes_a_pending_receive(machine: Machine, files: Files) -> None:
    async def body(world: World) -> None:
        near, far = await tls_pair(world, files)

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await near.receive(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await world.clock.sleep(0.01)
            near.close()
        far.close()

    machine.run(body)


def test_unix_sockets_connect_and_carry_bytes(machine: Machine, tmp_path: Path) -> None:
    async def body(world: World) -> None:
        path = str(tmp_path / "socket") if machine.folder != "/" else "/socket"
        listener = await world.net.listen_unix(path)
        accepted: list[Connection] = []

        async def accept() -> None:
            accepted.append(await listener.accept())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            near = await Dialer(world).dial(f"unix://{path}")
        await near.send_all(b"hello")
        assert await receive_exactly(accepted[0], 5) == b"hello"
        near.close()
        accepted[0].close()
        listener.close()
        with pytest.raises(OSError):
            await world.net.connect_unix(path)

    machine.run(body)


def test_trios_own_checks_find_nothing_wrong(files: Files) -> None:
    """On the real machine alone: they need Trio's own clock."""
    from tercet.net.real import real_world

    async def main() -> None:
        world = real_world("real", seed=1, log_level="fatal", environment={})

        async def maker() -> tuple[Stream, Stream]:
            near, far = await tls_pair(world, files)
            return Stream(near), Stream(far)

        await trio.testing.check_two_way_stream(maker, None)

    trio.run(main)
