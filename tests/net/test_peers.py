"""The transport between members: messages, calls, refusals, and bounded damage by strangers."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from tercet.core import rpc_errors
from tercet.core.raft.types import AppendRequest, Entry, HeartbeatRequest, Message, ProposeRequest
from tercet.core.rpc_errors import RpcError, RpcUnknown, Status
from tercet.core.wire.peer import (
    FORMAT_VERSION,
    FRAME_BYTES_MAX,
    MAGIC,
    Answer,
    Batch,
    Call,
    Frame,
    FrameDecoder,
    Hello,
    PeerProtocolError,
    Ping,
    Pong,
    Refusal,
    Welcome,
    encode,
    encode_batches,
)
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.channel import Channel, Identity
from tercet.net.dial import Dialer
from tercet.net.peer_server import MEMBER_CONNECTIONS_MAX, PeerServer
from tercet.net.peers import STRANGERS_MAX, Peers
from tercet.net.real import real_world
from tercet.net.world import Connection

from .fuzz_peers import fuzz, only_one

CLUSTER = 0xC1


def heartbeat(sender: int, to: int, commit: int = 0) -> Message:
    return HeartbeatRequest(sender=sender, to=to, term=1, leader_commit=commit)


class Harness:
    """One accepting member (2) on a real port, which records what it gets."""

    def __init__(self) -> None:
        self.world = real_world("test", seed=1, write_log=lambda line: None)
        self.received: list[Message] = []
        self.arrived = trio.Event()
        self.wanted = 1
        self.http: list[bytes] = []
        self.address = ""
        self.connections: list[Connection] = []
        self.server = PeerServer(
            self.world,
            Identity(CLUSTER, 2),
            admit=only_one,
            deliver=self.deliver,
            answer=self.answer,
            http_handler=self.serve_http,
        )

    def deliver(self, messages: tuple[Message, ...]) -> None:
        self.received += messages
        if len(self.received) >= self.wanted:
            self.arrived.set()

    async def answer(self, method: str, payload: bytes) -> bytes:
        if method == "fail":
            raise rpc_errors.LEASE_NOT_FOUND
        if method == "unknown":
            raise rpc_errors.TIMEOUT
        if method == "decode":
            rpc.LeaseKeepAliveRequest.FromString(payload)
        if method == "never":
            await trio.sleep_forever()
        return method.encode() + b":" + payload

    async def serve_http(self, connection: Connection, first: bytes) -> None:
        self.http.append(first)
        await connection.send_all(b"HTTP/1.1 200 OK\r\n\r\n")

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        listener = await self.world.net.listen("127.0.0.1", 0)
        self.address = listener.address
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    connection = await listener.accept()
                    self.connections.append(connection)
                    nursery.start_soon(self.server.serve, connection)
        finally:
            listener.close()

    async def dial(self) -> Connection:
        return await Dialer(self.world).dial(f"http://{self.address}")

    def peers(self, identity: Identity) -> Peers:
        return Peers(self.world, identity, {2: (f"http://{self.address}",)})


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until the condition holds; the caller bounds the wait."""
    while not condition():  # noqa: ASYNC110 - the state has no event of its own
        await trio.sleep(0.001)


@asynccontextmanager
async def harness() -> Any:
    one = Harness()
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        with trio.fail_after(90):
            yield one
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def dialled(one: Harness) -> Any:
    peers = one.peers(Identity(CLUSTER, 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peers.run)
        await until(lambda: peers.peers[2].channel is not None)
        yield peers
        nursery.cancel_scope.cancel()


HarnessFactory = Callable[[], AbstractAsyncContextManager[Harness]]


async def test_messages_arrive_in_order_and_only_at_their_receiver() -> None:
    async with harness() as one, dialled(one) as peers:
        one.wanted = 100
        for commit in range(100):
            peers.send([heartbeat(1, 2, commit), heartbeat(1, 3, commit)])
        await one.arrived.wait()
        assert one.received == [heartbeat(1, 2, commit) for commit in range(100)]


async def test_a_batch_beyond_the_socket_buffers_arrives_whole() -> None:
    async with harness() as one, dialled(one) as peers:
        entries = tuple(Entry(1, index, bytes([index]) * 1_000_000) for index in range(1, 13))
        sent = [
            AppendRequest(
                sender=1,
                to=2,
                term=1,
                prev_log_index=entry.index - 1,
                prev_log_term=0,
                entries=(entry,),
                leader_commit=0,
            )
            for entry in entries
        ]
        one.wanted = 12
        peers.send(list(sent))
        await one.arrived.wait()
        assert one.received == sent


async def test_a_call_is_answered_with_its_payload_or_its_error() -> None:
    async with harness() as one, dialled(one) as peers:
        assert await peers.call(2, "echo", b"x", 90) == b"echo:x"
        with pytest.raises(RpcError) as rejected:
            await peers.call(2, "fail", b"", 90)
        assert rejected.value == rpc_errors.LEASE_NOT_FOUND
        with pytest.raises(RpcUnknown):
            await peers.call(2, "unknown", b"", 90)
        with pytest.raises(RpcError, match="failed to unmarshal"):
            await peers.call(2, "decode", b"\xff", 90)
        assert await peers.call(2, "echo", b"still", 90) == b"echo:still"


async def test_a_call_without_an_answer_ends_at_its_timeout_or_with_its_connection() -> None:
    async with harness() as one, dialled(one) as peers:
        with pytest.raises(RpcError) as error:
            await peers.call(2, "never", b"", 0.01)
        assert error.value == rpc_errors.TIMEOUT
        assert not peers.peers[2].calls

        async def cut() -> None:
            while not peers.peers[2].calls:
                await trio.lowlevel.checkpoint()
            one.connections[-1].close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            with pytest.raises(RpcUnknown):
                await peers.call(2, "never", b"", 60)


async def test_a_call_to_an_unconnected_peer_is_definitely_not_made() -> None:
    world = real_world("test", seed=1, write_log=lambda line: None)
    peers = Peers(world, Identity(CLUSTER, 1), {2: ("http://127.0.0.1:1",)})
    with pytest.raises(RpcError) as error:
        await peers.call(2, "echo", b"", 1)
    assert error.value.code == Status.UNAVAILABLE


async def test_a_lost_connection_is_dialled_again() -> None:
    async with harness() as one, dialled(one) as peers:
        first = peers.peers[2].channel
        one.connections[-1].close()
        await until(lambda: peers.peers[2].channel not in (first, None))
        peers.send([heartbeat(1, 2)])
        await one.arrived.wait()


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(FORMAT_VERSION + 1, CLUSTER, 1, 2), "format version 2 is not spoken here, only 1"),
        (Hello(FORMAT_VERSION, 0xBAD, 1, 2), "cluster ID mismatch: got bad, this is c1"),
        (Hello(FORMAT_VERSION, CLUSTER, 1, 5), "member ID mismatch: dialled 5, this is 2"),
        (Hello(FORMAT_VERSION, CLUSTER, 9, 2), "member 9 is not part of this cluster"),
    ],
)
async def test_a_stranger_is_refused_with_the_reason(hello: Hello, reason: str) -> None:
    async with harness() as one:
        connection = await one.dial()
        await connection.send_all(MAGIC + encode(hello))
        assert FrameDecoder().feed(await connection.receive(4096)) == [Refusal(reason)]
        assert await connection.receive(4096) == b""
        connection.close()


async def test_a_message_in_another_members_name_closes_the_connection() -> None:
    async with harness() as one:
        connection = await one.dial()
        await connection.send_all(MAGIC + encode(Hello(FORMAT_VERSION, CLUSTER, 1, 2)))
        assert FrameDecoder().feed(await connection.receive(4096)) == [Welcome(2)]
        await connection.send_all(encode(Batch((heartbeat(3, 2),))))
        assert await connection.receive(4096) == b""
        assert one.received == []
        connection.close()


async def speaking(one: Harness) -> Connection:
    """A new connection on which member 1 has spoken."""
    connection = await one.dial()
    await connection.send_all(MAGIC + encode(Hello(FORMAT_VERSION, CLUSTER, 1, 2)))
    assert FrameDecoder().feed(await connection.receive(4096)) == [Welcome(2)]
    await connection.send_all(encode(Ping()))
    assert FrameDecoder().feed(await connection.receive(4096)) == [Pong()]
    return connection


async def test_what_is_under_way_on_a_members_earlier_connection_is_not_lost() -> None:
    """A forwarded proposal is never repeated; who pushed its connection out could have been a stranger."""
    proposal = ProposeRequest(sender=1, to=2, term=1, entries=(bytes(17),))
    async with harness() as one:
        earlier = await speaking(one)
        later = await speaking(one)
        await earlier.send_all(encode(Batch((proposal,))))
        await one.arrived.wait()
        assert one.received == [proposal]
        earlier.close()
        later.close()


async def answers(connection: Connection) -> bool:
    """Whether a ping is answered: a connection that merely waits to fall silent would."""
    try:
        await connection.send_all(encode(Ping()))
        return await connection.receive(4096) == encode(Pong())
    except OSError:
        return False


async def test_of_too_many_connections_of_one_member_the_one_longest_silent_is_closed() -> None:
    async with harness() as one:
        connections = [await speaking(one) for _ in range(MEMBER_CONNECTIONS_MAX)]
        assert await answers(connections[0])
        connections.append(await speaking(one))
        assert [await answers(each) for each in connections] == [True, False, True, True, True]
        one.server.let_go(1)
        assert not any([await answers(connection) for connection in connections])
        for connection in connections:
            connection.close()


async def test_an_http_request_on_the_peer_port_goes_to_its_handler() -> None:
    async with harness() as one:
        connection = await one.dial()
        await connection.send_all(b"GET /version HTTP/1.1\r\n\r\n")
        assert await connection.receive(4096) == b"HTTP/1.1 200 OK\r\n\r\n"
        assert one.http == [b"GET /version HTTP/1.1\r\n\r\n"]
        connection.close()


async def test_fuzzed_bytes_close_their_connection_and_harm_nobody_else() -> None:
    chance = random.Random(7)
    valid = MAGIC + encode(Hello(FORMAT_VERSION, CLUSTER, 1, 2)) + encode(Batch((heartbeat(1, 2),)))
    async with harness() as one:
        for _ in range(200):
            data = bytearray(valid)
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            connection = await one.dial()
            try:
                await connection.send_all(bytes(data))
                connection.close_sending()
                while await connection.receive(4096):
                    pass
            except OSError:
                pass
            connection.close()
        one.received.clear()
        async with dialled(one) as peers:
            peers.send([heartbeat(1, 2)])
            await one.arrived.wait()


def test_a_decoder_refuses_frames_that_are_too_long_damaged_or_of_another_shape() -> None:
    good = encode(Call(1, "method", b"payload"))
    with pytest.raises(PeerProtocolError, match="at most 1024"):
        FrameDecoder().feed((FRAME_BYTES_MAX).to_bytes(4, "big") + bytes(4))
    damaged = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(PeerProtocolError, match="checksum"):
        FrameDecoder().feed(damaged)
    with pytest.raises(PeerProtocolError, match="not a frame"):
        FrameDecoder().feed(encode("text"))  # type: ignore[arg-type]


def test_thousands_of_fuzzed_streams_end_in_a_clean_close() -> None:
    assert fuzz(11, 3000) > 100, "some streams must have got past the hello"


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 4096])
def test_a_decoder_does_not_care_how_the_bytes_are_cut(step: int) -> None:
    batch = Batch((heartbeat(1, 2),))
    frames: list[Frame] = [Ping(), Call(1, "a", b"b" * 300), batch, Answer(1, 0, "", b"c"), Pong()]
    data = b"".join(encode(frame) for frame in frames)
    decoder = FrameDecoder()
    assert [f for i in range(0, len(data), step) for f in decoder.feed(data[i : i + step])] == frames


def test_large_messages_are_cut_into_frames_below_the_limit() -> None:
    entry = Entry(1, 1, bytes(1_500_000))
    messages: list[Message] = [
        AppendRequest(
            sender=1, to=2, term=1, prev_log_index=0, prev_log_term=0, entries=(entry,), leader_commit=0
        )
    ] * 20
    frames = FrameDecoder(FRAME_BYTES_MAX).feed(encode_batches(messages))
    assert [m for frame in frames if isinstance(frame, Batch) for m in frame.messages] == messages
    assert len(frames) > 1


class FullConnection:
    """Takes three bytes at once, and nothing more until asked to send everything."""

    def __init__(self) -> None:
        self.room = 3
        self.sent = b""

    def try_send(self, data: bytes) -> int:
        taken = min(self.room, len(data))
        self.room -= taken
        self.sent += data[:taken]
        return taken

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data


async def test_a_channel_keeps_the_order_of_what_must_wait_and_refuses_beyond_its_bound() -> None:
    connection: Any = FullConnection()
    channel = Channel(connection, 6)
    assert channel.send(b"abcdef")
    assert channel.send(b"ghi")
    assert not channel.send(b"too much")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.write_rest)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.sent == b"abcdefghi"
        connection.room = 100
        assert channel.send(b"jkl")
        assert connection.sent == b"abcdefghijkl"
        nursery.cancel_scope.cancel()


async def test_a_member_that_comes_is_dialled_and_one_that_goes_is_let_go() -> None:
    async with harness() as one:
        peers = Peers(one.world, Identity(CLUSTER, 1), {})
        lost: list[int] = []
        peers.on_lost = lost.append
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers.run)
            await until(lambda: peers._nursery is not None)
            assert peers.connected_since(2) is None
            peers.follow({1: ("http://127.0.0.1:1",), 2: (f"http://{one.address}",)})
            assert list(peers.peers) == [2], "nobody dials itself"
            await until(lambda: peers.connected_since(2) is not None)
            peers.follow({})
            assert peers.peers == {} and peers.connected_since(2) is None
            await until(lambda: lost == [2])
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("url", [
    "", "x", "http://127.0.0.1:99999999", f"http://{'a' * 70}.invalid:1", "unix:///nul\0byte", "http://[::1:1",
])  # fmt: skip
async def test_what_is_no_url_cannot_be_dialled_and_that_is_all(url: str) -> None:
    """A member that dies of it would die again at every start: the URL is in the log."""
    with pytest.raises(OSError):
        await Dialer(real_world("one")).dial(url)


async def test_a_member_without_urls_is_not_reached_until_it_has_some() -> None:
    async with harness() as one:
        peers = Peers(one.world, Identity(CLUSTER, 1), {2: ()})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers.run)
            await trio.testing.wait_all_tasks_blocked()
            assert peers.connected_since(2) is None
            peers.follow({2: (f"http://{one.address}",)})
            await until(lambda: peers.connected_since(2) is not None)
            nursery.cancel_scope.cancel()


async def test_who_is_not_known_yet_is_dialled_back_until_it_is_removed() -> None:
    async with harness() as one:
        peers = Peers(one.world, Identity(CLUSTER, 1), {})
        urls = (f"http://{one.address}",)
        assert peers.meet(2, urls)
        peers.follow({})
        assert list(peers.peers) == [2], "it may become a member with an entry that is still to come"
        peers.follow({}, removed={2: None})
        assert peers.peers == {}
        for stranger in range(100, 100 + STRANGERS_MAX):
            assert peers.meet(stranger, urls)
        assert not peers.meet(99, urls)


async def test_a_removed_member_is_told_so_by_whom_it_dials() -> None:
    async with harness() as one:
        one.server._may = lambda sender, urls: Refusal("gone", removed=True)
        told = trio.Event()
        peers = one.peers(Identity(CLUSTER, 1))
        peers.on_removed = told.set
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers.run)
            await told.wait()
            nursery.cancel_scope.cancel()


async def test_a_hello_tells_where_its_sender_is_found() -> None:
    async with harness() as one:
        seen: list[tuple[int, tuple[str, ...]]] = []

        def admit(sender: int, urls: tuple[str, ...]) -> None:
            seen.append((sender, urls))

        one.server._may = admit
        peers = Peers(one.world, Identity(CLUSTER, 1), {2: (f"http://{one.address}",)}, ("http://me:1",))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peers.run)
            await until(lambda: bool(seen))
            nursery.cancel_scope.cancel()
        assert seen == [(1, ("http://me:1",))]
