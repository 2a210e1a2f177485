"""The flags that bound what a client may cost, from the command line to the first frame a client sees."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import pytest
import trio

from tercet.core.wire.http2_frames import PREFACE, settings_frame
from tercet.core.wire.http2_limits import Http2Limits
from tercet.net.config import MemberConfig
from tercet.net.flags import parse
from tercet.net.member import Running, run_member
from tercet.net.real import real_world
from tercet.net.server.call import StreamCall, UnaryCall
from tercet.net.server.front import FrontLimits, front_limits
from tercet.net.server.grpc_metrics import front_samples

from .front_server import Services, serving
from .test_front import _client

MAX_CONCURRENT_STREAMS = 3


def limits_of(*words: str) -> FrontLimits:
    return front_limits(parse(words, {}).config)


def test_without_flags_the_limits_are_the_fronts_own() -> None:
    assert limits_of() == FrontLimits()


@pytest.mark.parametrize(("text", "wanted"), [
    ("1", 1), ("100000", 100_000), ("4294967294", 2**32 - 2),
    ("0", Http2Limits().max_streams), ("4294967295", Http2Limits().max_streams),
])  # fmt: skip
def test_max_concurrent_streams_bounds_the_streams_of_a_connection(text: str, wanted: int) -> None:
    assert limits_of("--max-concurrent-streams", text).http2.max_streams == wanted


@pytest.mark.parametrize(("text", "wanted"), [("10ms", 0.01), ("1m", 60.0), ("0", 300.0), ("-1s", 300.0)])
def test_grpc_keepalive_min_time_is_the_least_time_between_pings(text: str, wanted: float) -> None:
    assert limits_of("--grpc-keepalive-min-time", text).http2.ping_min_seconds == wanted


@pytest.mark.parametrize(("interval", "timeout", "wanted"), [
    ("30s", "5s", (30.0, 5.0)),
    ("10ms", "10ms", (1.0, 0.01)),
    ("0", "5s", (7200.0, 20.0)),
    ("30s", "0", (7200.0, 20.0)),
])  # fmt: skip
def test_grpc_keepalive_interval_and_timeout_say_when_a_silent_client_is_asked_and_left(
    interval: str, timeout: str, wanted: tuple[float, float]
) -> None:
    limits = limits_of("--grpc-keepalive-interval", interval, "--grpc-keepalive-timeout", timeout)
    assert (limits.keepalive_seconds, limits.keepalive_timeout) == wanted


def test_the_environment_and_a_file_set_keepalive_too(tmp_path: Path) -> None:
    config = parse([], {"ETCD_GRPC_KEEPALIVE_INTERVAL": "3m"}).config
    assert config.grpc_keepalive_interval == 180.0
    file = tmp_path / "conf.yml"
    file.write_text("grpc-keepalive-min-time: 7s\nmax-concurrent-streams: 11\n")
    limits = limits_of("--config-file", str(file))
    assert (limits.http2.ping_min_seconds, limits.http2.max_streams) == (7.0, 11)


async def test_a_member_announces_its_max_concurrent_streams(tmp_path: Path) -> None:
    config = MemberConfig(
        data_dir=str(tmp_path / "data"),
        listen_client_urls=("http://127.0.0.1:0",),
        listen_peer_urls=("http://127.0.0.1:0",),
        max_concurrent_streams=77,
    )
    world = real_world("n1", write_log=lambda line: None)
    with trio.fail_after(90):
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(partial(run_member, world, config))
            port = int(running.client_addresses[0].rpartition(":")[2])
            connection = await world.net.connect("127.0.0.1", port)
            await connection.send_all(PREFACE + settings_frame(()))
            settings = b""
            while len(settings) < 9 + 24:
                settings += await connection.receive(1000)
            announced = dict(struct.iter_unpack(">HI", settings[9:33]))
            assert announced[MAX_CONCURRENT_STREAMS] == 77
            connection.close()
            nursery.cancel_scope.cancel()


async def test_calls_are_counted_when_they_start_and_by_their_shape() -> None:
    put, watch = "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"
    snapshot, own = "/etcdserverpb.Maintenance/Snapshot", "/tercet.Own/Stream"
    kept: list[UnaryCall] = []

    async def wait(call: StreamCall) -> None:
        await trio.sleep_forever()

    async def end(call: StreamCall) -> None:
        await call.receive()

    services = Services({put: kept.append}, {watch: wait, snapshot: end, own: wait})
    async with serving(services) as (front, address), _client(address) as client:
        first = await client.begin(put)
        await client.begin(put)
        await client.begin(watch, end=False)
        await client.finish(await client.begin(snapshot))
        while len(kept) < 2:
            await trio.lowlevel.checkpoint()
        kept[0].reply(b"")
        front.flusher.flush()
        await client.finish(first)
        told = {
            (s.metric, *(value for name, value in s.labels if name in ("grpc_method", "grpc_type"))): s.value
            for s in front_samples(front)
        }
        assert told["grpc_server_started_total", "Put", "unary"] == 2
        assert told["grpc_server_handled_total", "Put", "unary"] == 1
        assert told["grpc_server_started_total", "Watch", "bidi_stream"] == 1
        assert told["grpc_server_started_total", "Snapshot", "server_stream"] == 1
        assert told["grpc_server_handled_total", "Watch", "bidi_stream"] == 0
        assert told["grpc_server_started_total", "Stream", "bidi_stream"] == 0
        assert told["grpc_server_msg_received_total", "Snapshot", "server_stream"] == 1
        assert told["grpc_server_msg_received_total", "Put", "unary"] == 2
        assert told["grpc_server_msg_sent_total", "Put", "unary"] == 1
        client.transport.close()


def test_a_message_may_be_half_a_mebibyte_larger_than_a_request() -> None:
    assert limits_of().http2.max_message_bytes == 2097152  # what etcd's own message names
    assert limits_of("--max-request-bytes", "4194304").http2.max_message_bytes == 4194304 + 524288
