"""Every flood of RFC 9113's security section meets a bound, and honest load does not."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2_frames import ErrorCode, settings_frame
from tercet.core.wire.http2_guard import Bucket
from tercet.core.wire.http2_limits import Http2Limits
from tercet.core.wire.http2_streams import UnaryRequest

from .http2_tools import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUT,
    RST,
    SETTINGS,
    WATCH,
    Client,
    fields,
    frame,
    window,
)

Flood = Callable[[Client], Iterator[bytes]]
CALM = ErrorCode.ENHANCE_YOUR_CALM


def _rapid_reset(client: Client) -> Iterator[bytes]:
    for stream_id in range(1, 40_001, 2):
        yield client.request(stream_id) + frame(RST, 0, stream_id, struct.pack(">I", 8))


def _made_you_reset(client: Client) -> Iterator[bytes]:
    for stream_id in range(1, 40_001, 2):
        yield client.request(stream_id) + window(stream_id, 0)


def _refused_streams(client: Client) -> Iterator[bytes]:
    for stream_id in range(1, 40_001, 2):
        yield client.headers(stream_id)


def _unknown_methods(client: Client) -> Iterator[bytes]:
    for stream_id in range(1, 40_001, 2):
        yield client.request(stream_id, path="/no.Service/Method")


def _repeat(data: bytes, times: int = 40_000) -> Flood:
    def flood(client: Client) -> Iterator[bytes]:
        for _ in range(times):
            yield data

    return flood


def _empty_data(client: Client) -> Iterator[bytes]:
    yield client.headers(1)
    yield from _repeat(frame(DATA, 0, 1))(client)


def _padding_only(client: Client) -> Iterator[bytes]:
    yield client.headers(1, path=WATCH)
    yield from _repeat(frame(DATA, 8, 1, b"\xff" + bytes(255)))(client)


def _continuations(client: Client) -> Iterator[bytes]:
    yield frame(HEADERS, 1, 1, client.block(fields()))
    yield from _repeat(frame(CONTINUATION, 0, 1))(client)


def _long_block(client: Client) -> Iterator[bytes]:
    yield frame(HEADERS, 1, 1, client.block(fields()))
    yield from _repeat(frame(CONTINUATION, 0, 1, bytes(16384)), 20)(client)


def _header_bomb(client: Client) -> Iterator[bytes]:
    entry = b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000
    yield frame(HEADERS, 5, 1, entry + b"\xbe" * 10_000)


def _tiny_windows(client: Client) -> Iterator[bytes]:
    yield client.request(1)
    yield from _repeat(window(1, 1))(client)


FLOODS: list[tuple[str, Flood]] = [
    ("rapid reset", _rapid_reset),
    ("streams that make the server reset them", _made_you_reset),
    ("streams beyond the limit", _refused_streams),
    ("requests for unknown methods", _unknown_methods),
    ("PING", _repeat(frame(PING, 0, 0, bytes(8)))),
    ("PING answers", _repeat(frame(PING, 1, 0, bytes(8)))),
    ("SETTINGS", _repeat(settings_frame(((4, 65535),)))),
    ("SETTINGS answers", _repeat(frame(SETTINGS, 1))),
    ("a frame full of settings", _repeat(settings_frame(((255, 0),) * 100), 1)),
    ("PRIORITY", _repeat(frame(PRIORITY, 0, 1, b"\0\0\0\3\7"))),
    ("GOAWAY", _repeat(frame(GOAWAY, 0, 0, bytes(8)))),
    ("unknown frames", _repeat(frame(77))),
    ("empty DATA", _empty_data),
    ("DATA of padding", _padding_only),
    ("CONTINUATION", _continuations),
    ("a block without end", _long_block),
    ("a header bomb", _header_bomb),
    ("WINDOW_UPDATE on the connection", _repeat(window(0, 1))),
    ("WINDOW_UPDATE on a stream", _tiny_windows),
]


@pytest.mark.parametrize("flood", [pytest.param(f, id=n) for n, f in FLOODS])
def test_a_flood_ends_the_connection_with_little_output(flood: Flood) -> None:
    client = Client()
    written = 0
    for data in flood(client):
        client.send(data)
        frames = client.frames()
        written += sum(9 + len(f.payload) for f in frames)
        if client.server.closed:
            break
    assert client.server.closed
    assert (frames[-1].kind, frames[-1].code) == (GOAWAY, CALM)
    assert written < 500_000


def test_the_fourth_fast_ping_without_a_stream_is_one_too_many() -> None:
    client = Client()
    for _ in range(3):
        client.send(frame(PING, 0, 0, b"12345678"))
        client.now += 1.0
        assert [f.payload for f in client.frames()] == [b"12345678"]
    client.send(frame(PING, 0, 0, b"12345678"))
    last = client.frames()[-1]
    assert (last.code, last.payload[8:]) == (CALM, b"too_many_pings")


def test_pings_at_a_decent_pace_while_a_stream_is_open_go_on_forever() -> None:
    client = Client()
    client.send(client.headers(1, path=WATCH))
    for _ in range(1000):
        client.now += 5.0
        client.send(frame(PING, 0, 0, bytes(8)))
    assert not client.server.closed


def test_pings_between_answers_are_forgiven() -> None:
    client = Client()
    for number in range(1000):
        (request,) = client.send(client.request(2 * number + 1))
        assert isinstance(request, UnaryRequest)
        request.reply(b"")
        client.send(frame(PING, 0, 0, bytes(8)))
    assert not client.server.closed


def test_a_client_that_cancels_many_and_uses_more_goes_on() -> None:
    client = Client()
    for number in range(20_000):
        stream_id = 2 * number + 1
        (request,) = client.send(client.request(stream_id))
        assert isinstance(request, UnaryRequest)
        if number % 2:
            client.send(frame(RST, 0, stream_id, struct.pack(">I", 8)))
        else:
            request.reply(b"")
        client.frames()
    assert not client.server.closed


def test_answers_behind_closed_windows_are_bounded() -> None:
    client = Client(Http2Limits(max_queued_bytes=1_000_000))
    client.send(settings_frame(((4, 0),)))
    for number in range(1000):
        (request,) = client.send(client.request(2 * number + 1))
        assert isinstance(request, UnaryRequest)
        request.reply(bytes(10_000))
        assert client.server.queued_bytes <= 1_020_020
        if client.server.closed:
            break
    assert client.server.closed
    assert client.server.queued_bytes == 0
    assert client.frames()[-1].code == CALM


def test_unfinished_messages_are_bounded_over_all_streams() -> None:
    client = Client(Http2Limits(max_buffered_bytes=200_000))
    started = frame_message(bytes(50_000))[:16000]
    for stream_id in range(1, 101, 2):
        client.send(client.headers(stream_id) + frame(DATA, 0, stream_id, started))
        if client.server.closed:
            break
    assert stream_id == 25
    assert client.frames()[-1].code == CALM


def test_messages_that_no_handler_takes_close_the_window_of_their_stream_alone() -> None:
    client = Client(Http2Limits(stream_window=65535))
    client.send(client.headers(1, path=WATCH))
    message = frame_message(bytes(16000))
    room = 65535
    while room >= len(message):
        client.send(frame(DATA, 0, 1, message))
        room -= len(message)
        room += sum(
            int.from_bytes(f.payload, "big") for f in client.frames() if f.kind == 8 and f.stream_id == 1
        )
    assert room < 16005
    client.send(frame(DATA, 0, 1, message))
    resets = [f for f in client.frames() if f.kind == RST]
    assert [(f.stream_id, f.code) for f in resets] == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert isinstance(client.send(client.request(3, path=PUT))[-1], UnaryRequest)


def test_a_bucket_refills_with_time_and_with_work_but_never_over() -> None:
    bucket = Bucket(2, 1.0, 0.5)
    assert [bucket.take(0.0, 0) for _ in range(3)] == [True, True, False]
    assert bucket.take(2.0, 0)
    assert not bucket.take(2.0, 0)
    assert bucket.take(2.0, 100)
    assert bucket.take(1.0, 100)
    assert not bucket.take(1.0, 100)
