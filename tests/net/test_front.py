"""The front door on real sockets: sniffing, draining, deadlines, slow and silent clients."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing
from google.protobuf.message import DecodeError
from hpack import Encoder

from tercet.core.rpc_errors import KEY_NOT_FOUND
from tercet.core.wire.grpc import MessageReader, frame_message
from tercet.core.wire.http2_frames import PREFACE, settings_frame
from tercet.core.wire.http2_limits import Http2Limits
from tercet.net.real import real_world
from tercet.net.server.call import StreamCall, UnaryCall
from tercet.net.server.front import FrontLimits
from tercet.net.server.grpc_metrics import front_samples
from tercet.net.world import Connection, World

from ..core.http2_tools import DATA, GOAWAY, HEADERS, Frame, frame, split_frames
from .front_server import Services, echo, echo_stream, serving

PUT = "/etcdserverpb.KV/Put"
WATCH = "/etcdserverpb.Watch/Watch"


class Client:
    """A gRPC client on the ``h2`` package, one connection."""

    def __init__(self, transport: Connection) -> None:
        self.transport = transport
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.data: dict[int, bytes] = {}
        self.status: dict[int, dict[str, str]] = {}
        self.ended: list[int] = []
        self.goaways: list[tuple[int, int]] = []
        self.acknowledge = True

    async def begin(
        self, path: str, *more: tuple[str, str], message: bytes | None = b"hello", end: bool = True
    ) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")]
        fields += [("content-type", "application/grpc"), ("te", "trailers"), *more]
        self.h2.send_headers(stream_id, fields)
        if message is not None:
            data = frame_message(message)
            while len(data) > 16000:
                self.h2.send_data(stream_id, data[:16000])
                data = data[16000:]
            self.h2.send_data(stream_id, data, end_stream=end)
        await self.push()
        return stream_id

    async def push(self) -> None:
        await self.transport.send_all(self.h2.data_to_send())

    async def pump(self) -> bool:
        """Take in one read; False at the end of the connection."""
        data = await self.transport.receive(65536)
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                if self.acknowledge:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                named = {bytes(k).decode(): bytes(v).decode() for k, v in event.headers}
                self.status.setdefault(event.stream_id, {}).update(named)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.append(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaways.append((int(event.error_code or 0), int(event.last_stream_id or 0)))
        with contextlib.suppress(OSError):
            await self.push()
        return bool(data)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(90):
            while not condition():
                assert await self.pump(), "the connection ended"

    async def finish(self, stream_id: int) -> tuple[str, list[bytes]]:
        """Wait for the end of a call: its status and its messages."""
        await self.until(lambda: stream_id in self.ended)
        messages = MessageReader(1 << 30, "").feed(self.data.get(stream_id, b""))
        return self.status[stream_id]["grpc-status"], messages


@contextlib.asynccontextmanager
async def _client(address: str):  # type: ignore[no-untyped-def]
    host, _, port = address.rpartition(":")
    world = real_world("front-client", write_log=lambda line: None)
    transport = await world.net.connect(host, int(port))
    try:
        yield Client(transport)
    finally:
        transport.close()


async def test_unary_calls_and_streams_share_a_connection() -> None:
    async with (
        serving(Services({PUT: echo}, {WATCH: echo_stream})) as (_, address),
        _client(address) as client,
    ):
        watch = await client.begin(WATCH, message=b"one", end=False)
        put = await client.begin(PUT, message=b"x" * 30_000)
        assert await client.finish(put) == ("0", [b"x" * 30_000])
        client.h2.send_data(watch, frame_message(b"two"), end_stream=True)
        await client.push()
        assert await client.finish(watch) == ("0", [b"one", b"two"])


async def test_an_answer_may_come_later_from_anywhere_and_only_once() -> None:
    kept: list[UnaryCall] = []
    async with serving(Services({PUT: kept.append})) as (front, address), _client(address) as client:
        first = await client.begin(PUT)
        second = await client.begin(PUT, ("token", "abc"))
        with trio.fail_after(90):
            while len(kept) < 2:
                await trio.lowlevel.checkpoint()
        assert kept[1].metadata["token"] == "abc"
        kept[1].reply(b"second")
        kept[0].fail(5, "gone")
        kept[0].reply(b"too late")
        front.flusher.flush()
        assert await client.finish(second) == ("0", [b"second"])
        assert await client.finish(first) == ("5", [])
        assert client.status[first]["grpc-message"] == "gone"


async def test_a_handler_that_refuses_or_cannot_decode_fails_one_call_only() -> None:
    def handle(call: UnaryCall) -> None:
        if call.message == b"key":
            raise KEY_NOT_FOUND.with_traceback(None)
        if call.message == b"junk":
            raise DecodeError("bad bytes")
        call.reply(b"fine")

    async def stream(call: StreamCall) -> None:
        await call.receive()
        raise KEY_NOT_FOUND.with_traceback(None)

    async with serving(Services({PUT: handle}, {WATCH: stream})) as (_, address), _client(address) as client:
        for message, status in [(b"key", "3"), (b"junk", "13"), (b"x", "0")]:
            assert (await client.finish(await client.begin(PUT, message=message)))[0] == status
        assert (await client.finish(await client.begin(WATCH)))[0] == "3"


async def test_a_deadline_that_passes_is_answered_for_calls_and_streams() -> None:
    ended = trio.Event()

    async def stream(call: StreamCall) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    services = Services({PUT: lambda call: None}, {WATCH: stream})
    async with serving(services) as (front, address), _client(address) as client:
        short = ("grpc-timeout", "20m")
        for path in (PUT, WATCH):
            stream_id = await client.begin(path, short)
            assert (await client.finish(stream_id))[0] == "4"
        partial = await client.begin(PUT, short, message=None)
        assert (await client.finish(partial))[0] == "4"
        with trio.fail_after(90):
            await ended.wait()
        assert front.open_connections == 1


async def test_a_reset_cancels_the_handler_of_a_stream() -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def stream(call: StreamCall) -> None:
        started.set()
        try:
            await call.receive()
            await call.receive()
        finally:
            cancelled.set()

    async with serving(Services(stream={WATCH: stream})) as (_, address), _client(address) as client:
        stream_id = await client.begin(WATCH, end=False)
        with trio.fail_after(90):
            await started.wait()
            client.h2.reset_stream(stream_id, 8)
            await client.push()
            await cancelled.wait()


async def test_the_end_of_a_connection_cancels_its_streams_and_silences_its_calls() -> None:
    kept: list[UnaryCall] = []
    cancelled = trio.Event()

    async def stream(call: StreamCall) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(Services({PUT: kept.append}, {WATCH: stream})) as (front, address):
        async with _client(address) as client:
            await client.begin(WATCH, end=False)
            await client.begin(PUT)
            with trio.fail_after(90):
                while not kept:
                    await trio.lowlevel.checkpoint()
        with trio.fail_after(90):
            await cancelled.wait()
            while front.open_connections:
                await trio.lowlevel.checkpoint()
        kept[0].reply(b"nobody hears")
        front.flusher.flush()
        assert not front.flusher.dirty


async def test_other_first_bytes_go_to_the_http1_handler_however_they_are_cut() -> None:
    async def http1(world: World, conn: Connection, first: bytes) -> None:
        while b"\r\n\r\n" not in first:
            first += await conn.receive(100)
        await conn.send_all(b"HTTP/1.1 200 OK\r\n\r\n" + first.split()[0])

    async with serving(Services({PUT: echo}), http1=http1) as (_, address):
        for cut in (1, 3, 30):
            async with _client(address) as client:
                data = b"PRINT / HTTP/1.1\r\nhost: x\r\n\r\n"
                await client.transport.send_all(data[:cut])
                await trio.testing.wait_all_tasks_blocked()
                await client.transport.send_all(data[cut:])
                answer = b""
                with trio.fail_after(90):
                    while more := await client.transport.receive(100):
                        answer += more
                assert answer == b"HTTP/1.1 200 OK\r\n\r\nPRINT"


async def test_a_cut_preface_is_still_http2() -> None:
    async with serving(Services({PUT: echo})) as (_, address), _client(address) as client:
        hello = client.h2.data_to_send()
        for cut in (hello[:2], hello[2:20], hello[20:]):
            await client.transport.send_all(cut)
            await trio.testing.wait_all_tasks_blocked()
        assert await client.finish(await client.begin(PUT)) == ("0", [b"hello"])


async def test_a_client_that_says_nothing_is_let_go() -> None:
    limits = FrontLimits(first_bytes_seconds=0.05)
    async with serving(Services(), limits=limits) as (_, address), _client(address) as client:
        with trio.fail_after(90):
            assert await client.transport.receive(10) == b""


async def test_connections_beyond_the_limit_are_closed_at_once() -> None:
    limits = FrontLimits(max_connections=1)
    async with serving(Services({PUT: echo}), limits=limits) as (_, address), _client(address) as first:
        assert (await first.finish(await first.begin(PUT)))[0] == "0"
        async with _client(address) as second:
            with trio.fail_after(90):
                assert await second.transport.receive(10) == b""
        assert (await first.finish(await first.begin(PUT)))[0] == "0"


async def _raw_request(transport: Connection) -> None:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", PUT), ("content-type", "application/grpc")]
    request = frame(HEADERS, 4, 1, Encoder().encode(fields)) + frame(DATA, 1, 1, frame_message(b"x"))
    await transport.send_all(PREFACE + settings_frame(()) + request)


async def _raw_frames(transport: Connection) -> list[Frame]:
    """All frames until the server closes; acknowledges no PING."""
    data = b""
    with trio.fail_after(90), contextlib.suppress(OSError):
        while more := await transport.receive(65536):
            data += more
    return split_frames(data)


async def test_a_drain_lets_accepted_calls_finish_and_closes() -> None:
    kept: list[UnaryCall] = []
    async with serving(Services({PUT: kept.append})) as (front, address), _client(address) as client:
        await _raw_request(client.transport)
        with trio.fail_after(90):
            while not kept:
                await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.drain, 90.0)
            await trio.testing.wait_all_tasks_blocked()
            kept[0].reply(b"done")
            front.flusher.flush()
            frames = await _raw_frames(client.transport)
            client.transport.close()
        goaways = [int.from_bytes(f.payload[:4], "big") for f in frames if f.kind == GOAWAY]
        assert goaways == [2**31 - 1, 1]
        assert [f.payload for f in frames if f.kind == DATA] == [frame_message(b"done")]
        assert front.open_connections == 0


@pytest.mark.parametrize("seconds", [0.0, 0.2])
async def test_a_drain_cuts_what_does_not_finish_in_time_and_says_what_it_took(seconds: float) -> None:
    async with serving(Services({PUT: lambda call: None})) as (front, address), _client(address) as client:
        await _raw_request(client.transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(front.drain, seconds)
            frames = await _raw_frames(client.transport)
        goaways = [int.from_bytes(f.payload[:4], "big") for f in frames if f.kind == GOAWAY]
        assert goaways == [2**31 - 1, 1]


async def test_the_sender_of_a_stream_waits_for_a_slow_client() -> None:
    sent: list[int] = []

    async def stream(call: StreamCall) -> None:
        for number in range(100):
            await call.send(bytes(30_000))
            sent.append(number)

    limits = FrontLimits(stream_queue_bytes=100_000)
    async with (
        serving(Services(stream={WATCH: stream}), limits=limits) as (_, address),
        _client(address) as client,
    ):
        client.acknowledge = False
        stream_id = await client.begin(WATCH)
        await client.until(lambda: len(client.data.get(stream_id, b"")) == 65535)
        await trio.testing.wait_all_tasks_blocked()
        assert len(sent) <= 6
        client.acknowledge = True
        client.h2.acknowledge_received_data(65535, stream_id)
        await client.push()
        status, messages = await client.finish(stream_id)
        assert (status, len(messages)) == ("0", 100)


@pytest.mark.parametrize("reads_later", [True, False])
async def test_a_client_that_does_not_read_is_paused_and_then_cut(reads_later: bool) -> None:
    answered = 0

    def big(call: UnaryCall) -> None:
        nonlocal answered
        answered += 1
        call.reply(bytes(1_000_000))

    stall = 60.0 if reads_later else 0.05
    limits = FrontLimits(pause_bytes=100_000, stall_seconds=stall, http2=Http2Limits())
    async with serving(Services({PUT: big}), limits=limits) as (front, address), _client(address) as client:
        huge = settings_frame(((4, 2**31 - 1),)) + struct.pack(">HBBBII", 0, 4, 8, 0, 0, 2**30)
        encoder = client.h2.encoder
        await client.transport.send_all(PREFACE + huge)
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", PUT),
            ("content-type", "application/grpc"),
        ]
        body = frame_message(b"x")
        with contextlib.suppress(*(() if reads_later else (OSError,))):  # it may be cut while it asks
            for number in range(60):
                block = encoder.encode(fields)
                head = struct.pack(">HBBBI", 0, len(block), 1, 4, 2 * number + 1) + block
                await client.transport.send_all(
                    head + struct.pack(">HBBBI", 0, len(body), 0, 1, 2 * number + 1) + body
                )
                await trio.testing.wait_all_tasks_blocked()
        assert 0 < answered < 40
        received = 0
        with trio.fail_after(90), contextlib.suppress(OSError):
            if not reads_later:
                while front.open_connections:
                    await trio.lowlevel.checkpoint()
            while received < 60_000_000 and (data := await client.transport.receive(1 << 20)):
                received += len(data)
        assert (received >= 60_000_000) is reads_later


async def test_calls_and_bytes_are_counted_for_the_metrics() -> None:
    def handle(call: UnaryCall) -> None:
        if call.message == b"key":
            raise KEY_NOT_FOUND.with_traceback(None)
        call.reply(call.message)

    services = Services({PUT: handle}, {WATCH: echo_stream})
    async with serving(services) as (front, address), _client(address) as client:
        for message in (b"key", b"a", b"b"):
            await client.finish(await client.begin(PUT, message=message))
        watch = await client.begin(WATCH, end=False)
        await client.until(lambda: watch in client.data)
        client.h2.reset_stream(watch, 8)
        await client.push()
        await client.finish(await client.begin(PUT))
        told = {(s.metric, s.labels[:2]): s.value for s in front_samples(front)}
        for code, method, count in [
            ("OK", "Put", 3),
            ("InvalidArgument", "Put", 1),
            ("Canceled", "Watch", 1),
        ]:
            key = ("grpc_server_handled_total", (("grpc_code", code), ("grpc_method", method)))
            assert told[key] == count
        assert told["etcd_network_client_grpc_received_bytes_total", ()] > 100
        assert b'grpc_server_handled_total{grpc_code="Canceled"' in front.world.probe.metrics.render()  # type: ignore[attr-defined]
