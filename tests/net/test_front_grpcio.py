"""grpcio, the C core's client, against the front door: what etcd's clients in other languages do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import grpc
import pytest
import trio

from tercet.core import rpc_errors
from tercet.net.server.call import StreamCall, UnaryCall

from .front_server import Services, echo, echo_stream, serving

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
WATCH = "/etcdserverpb.Watch/Watch"
SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
T = TypeVar("T")


def _same(data: bytes) -> bytes:
    return data


@contextlib.asynccontextmanager
async def _channel(address: str) -> AsyncIterator[grpc.Channel]:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(address, options=unlimited)
    try:
        yield channel
    finally:
        await trio.to_thread.run_sync(channel.close)


def _unary(channel: grpc.Channel, path: str = PUT) -> Callable[..., bytes]:
    return channel.unary_unary(path, _same, _same)


async def _run(function: Callable[..., T], *args: Any, **named: Any) -> T:
    return await trio.to_thread.run_sync(lambda: function(*args, timeout=90, **named))


async def _fails(function: Callable[..., Any], *args: Any, **named: Any) -> tuple[int, str]:
    named.setdefault("timeout", 90)
    with pytest.raises(grpc.RpcError) as caught:
        await trio.to_thread.run_sync(lambda: function(*args, **named))
    return caught.value.code().value[0], caught.value.details()


async def test_unary_calls_of_all_sizes_come_back() -> None:
    async with serving(Services({PUT: echo})) as (_, address), _channel(address) as channel:
        for size in (0, 1, 16379, 16380, 65535, 70_000, 1_048_576, 2 * 1024 * 1024):
            message = bytes([size % 251]) * size
            assert await _run(_unary(channel), message) == message


async def test_an_answer_of_many_megabytes_arrives() -> None:
    def big(call: UnaryCall) -> None:
        call.reply(bytes(20_000_000))

    async with serving(Services({RANGE: big})) as (_, address), _channel(address) as channel:
        assert len(await _run(_unary(channel, RANGE), b"")) == 20_000_000


async def test_statuses_arrive_with_their_texts() -> None:
    def handle(call: UnaryCall) -> None:
        call.fail(int(call.message), "etcdserver: naïve 100 %\n")

    async with serving(Services({PUT: handle})) as (_, address), _channel(address) as channel:
        for code in range(1, 17):
            assert await _fails(_unary(channel), b"%d" % code) == (code, "etcdserver: naïve 100 %\n")


async def test_refusals_are_worded_as_grpc_go_words_them() -> None:
    async with serving(Services({PUT: echo})) as (_, address), _channel(address) as channel:
        put = _unary(channel)
        assert await _fails(put, bytes(2097153)) == (
            8,
            "grpc: received message larger than max (2097153 vs. 2097152)",
        )
        assert await _fails(put, b"x" * 100, compression=grpc.Compression.Gzip) == (
            12,
            'grpc: Decompressor is not installed for grpc-encoding "gzip"',
        )
        assert await _fails(_unary(channel, "/etcdserverpb.KV/Nope"), b"") == (
            12,
            "unknown method Nope for service etcdserverpb.KV",
        )
        assert await _fails(_unary(channel, "/no.Service/Put"), b"") == (12, "unknown service no.Service")
        assert await _run(put, b"still here") == b"still here"


async def test_a_unary_method_may_be_served_by_a_task_that_ends_with_its_client() -> None:
    asked, gone = trio.Event(), trio.Event()

    async def lock(call: StreamCall) -> None:
        message = await call.receive()
        if message == b"refuse":
            raise rpc_errors.LEASE_NOT_FOUND.with_traceback(None)
        if message == b"wait":
            try:
                asked.set()
                await trio.sleep_forever()
            finally:
                gone.set()
        await call.send(message or b"")

    services = Services(stream={"/v3lockpb.Lock/Lock": lock})
    async with serving(services) as (_, address), _channel(address) as channel:
        method = _unary(channel, "/v3lockpb.Lock/Lock")
        assert await _run(method, b"a lock") == b"a lock"
        assert await _fails(method, b"refuse") == (5, "etcdserver: requested lease not found")
        future = channel.unary_unary("/v3lockpb.Lock/Lock", _same, _same).future(b"wait")
        with trio.fail_after(90):
            await asked.wait()
            future.cancel()
            await gone.wait()


async def test_metadata_arrives() -> None:
    def handle(call: UnaryCall) -> None:
        call.reply(f"{call.metadata['token']} {call.metadata['hasleader']}".encode())

    async with serving(Services({PUT: handle})) as (_, address), _channel(address) as channel:
        metadata = [("token", "abc.1"), ("hasleader", "true")]
        assert await _run(_unary(channel), b"", metadata=metadata) == b"abc.1 true"


async def test_a_deadline_reaches_the_server_and_ends_the_call() -> None:
    deadlines: list[float | None] = []

    def handle(call: UnaryCall) -> None:
        deadlines.append(call.deadline)

    async with serving(Services({PUT: handle})) as (front, address), _channel(address) as channel:
        now = front.world.clock.monotonic()
        future = channel.unary_unary(PUT, _same, _same).future(b"", timeout=1000)
        with trio.fail_after(90):
            while not deadlines:
                await front.world.clock.sleep(0.01)
        future.cancel()
        assert deadlines[0] is not None
        assert now + 900 < deadlines[0] < front.world.clock.monotonic() + 1100  # gRPC rounds it
        code, _ = await _fails(_unary(channel), b"", timeout=0.3)
        assert code == 4


async def test_a_cancelled_call_and_a_cancelled_stream_are_gone_for_the_server() -> None:
    kept: list[UnaryCall] = []
    gone = trio.Event()

    async def watch(call: StreamCall) -> None:
        try:
            while (message := await call.receive()) is not None:
                await call.send(message)
        finally:
            gone.set()

    services = Services({PUT: kept.append, RANGE: echo}, {WATCH: watch})
    async with serving(services) as (front, address), _channel(address) as channel:
        future = channel.unary_unary(PUT, _same, _same).future(b"x")
        with trio.fail_after(90):
            while not kept:
                await front.world.clock.sleep(0.01)
        future.cancel()
        blocker = trio.Event()

        def requests() -> Iterator[bytes]:
            yield b"one"
            trio.from_thread.run(blocker.wait, trio_token=token)

        token = trio.lowlevel.current_trio_token()
        call = channel.stream_stream(WATCH, _same, _same)(requests())
        assert await trio.to_thread.run_sync(next, call) == b"one"
        call.cancel()
        with trio.fail_after(90):
            await gone.wait()
        blocker.set()
        kept[0].reply(b"too late")
        front.flusher.flush()
        assert await _run(_unary(channel, RANGE), b"fine") == b"fine"


async def test_streams_in_both_directions_keep_order_and_end() -> None:
    async def snapshot(call: StreamCall) -> None:
        assert await call.receive() == b"go"
        for number in range(200):
            await call.send(b"%d" % number * 5000)

    services = Services(stream={WATCH: echo_stream, SNAPSHOT: snapshot})
    async with serving(services) as (_, address), _channel(address) as channel:
        sent = [b"%d" % number * (number * 10) for number in range(300)]
        both = channel.stream_stream(WATCH, _same, _same)
        assert await trio.to_thread.run_sync(lambda: list(both(iter(sent), timeout=90))) == sent
        down = channel.unary_stream(SNAPSHOT, _same, _same)
        got = await trio.to_thread.run_sync(lambda: list(down(b"go", timeout=90)))
        assert got == [b"%d" % number * 5000 for number in range(200)]


async def test_hundreds_of_calls_at_once_are_told_apart() -> None:
    waiting: list[UnaryCall] = []

    def handle(call: UnaryCall) -> None:
        waiting.append(call)
        if len(waiting) == 300:
            for kept in reversed(waiting):
                kept.reply(b"<" + kept.message + b">")

    async with serving(Services({PUT: handle})) as (_, address), _channel(address) as channel:
        put = channel.unary_unary(PUT, _same, _same)

        def all_at_once() -> list[bytes]:
            futures = [put.future(b"%d" % number, timeout=90) for number in range(300)]
            return [future.result() for future in futures]

        assert await trio.to_thread.run_sync(all_at_once) == [b"<%d>" % number for number in range(300)]
