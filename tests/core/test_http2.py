"""How a server connection behaves: cutting of the input, order of answers, windows, deadlines, draining."""

from __future__ import annotations

import random
import struct

import pytest

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2 import ServerConnection
from tercet.core.wire.http2_frames import ErrorCode, settings_frame
from tercet.core.wire.http2_limits import Http2Limits
from tercet.core.wire.http2_streams import (
    Event,
    HalfClosed,
    MessageReceived,
    Stream,
    StreamOpened,
    StreamReset,
    StreamWritable,
    UnaryRequest,
)

from . import fuzz_wire
from .http2_tools import (
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PUT,
    ROUTES,
    RST,
    WATCH,
    WINDOW,
    Client,
    fields,
    frame,
    split_frames,
    window,
)


def _unary(events: list[Event]) -> UnaryRequest:
    (event,) = events
    assert isinstance(event, UnaryRequest)
    return event


def _stream(events: list[Event]) -> Stream:
    assert isinstance(events[0], StreamOpened)
    return events[0].stream


def _told(event: Event) -> tuple[object, ...]:
    if isinstance(event, UnaryRequest):
        return ("unary", event.stream_id, event.path, event.message, event.deadline, dict(event.metadata))
    message = event.message if isinstance(event, MessageReceived) else b""
    return (type(event).__name__, event.stream.stream_id, message)


def _play(data: bytes, size: int) -> tuple[list[tuple[object, ...]], bytes, str]:
    server = ServerConnection(Http2Limits(), ROUTES, [])
    told = []
    for start in range(0, len(data), size):
        told += [_told(event) for event in server.receive(data[start : start + size], 5.0)]
    return told, server.take_output(), server.reason


@pytest.mark.parametrize("seed", range(150))
def test_how_the_input_is_cut_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    data = fuzz_wire.session_bytes(rng)
    whole = _play(data, len(data))
    assert _play(data, 1) == whole
    assert _play(data, rng.randrange(2, 200)) == whole


def test_a_repeated_block_means_something_else_once_the_table_has_changed() -> None:
    client = Client()
    path = b"\x44" + bytes((len(PUT),)) + PUT.encode()  # literals into the table
    first = b"\x83\x86" + path + b"\x5f\x10application/grpc"
    block = b"\x83\x86\xbf\xbe"  # the same fields by their indices
    body = frame_message(b"")

    def ask(stream_id: int, block: bytes) -> list[Event]:
        return client.send(frame(HEADERS, 4, stream_id, block) + frame(DATA, 1, stream_id, body))

    for stream_id, fine in [(1, first), (3, block), (5, block)]:
        assert _unary(ask(stream_id, fine)).path == PUT
    assert _unary(ask(7, block + b"\x40\x01x\x01y")).metadata == {"x": "y"}
    client.frames()
    assert ask(9, block) == []  # the indices name content-type and x by now: there is no :path
    assert [f.code for f in client.frames() if f.kind == RST] == [ErrorCode.PROTOCOL_ERROR]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (frame_message(b"one") + frame_message(b"two"), b"one"),
        (frame_message(b"one") + b"\0\0", b"one"),
        (b"\0\0\0\0\2one", b"on"),
    ],
)
def test_of_a_unary_request_only_the_first_message_counts(body: bytes, message: bytes) -> None:
    client = Client()
    client.send(client.request(1) + client.request(3))
    assert _unary(client.send(client.headers(5) + frame(DATA, 1, 5, body))).message == message


def test_a_compressed_message_is_refused_however_often_the_head_was_seen() -> None:
    client = Client()
    client.send(client.request(1) + client.request(3))
    assert client.send(client.headers(5) + frame(DATA, 1, 5, b"\1" + frame_message(b"zip")[1:])) == []
    assert client.answer(client.frames(), 5)[0]["grpc-status"] == "13"
    assert 5 not in client.server.streams


def test_small_answers_use_up_the_window_to_the_byte() -> None:
    client = Client()
    sent = 0
    for number in range(700):
        _unary(client.send(client.request(2 * number + 1))).reply(bytes(95))
        sent += sum(len(f.payload) for f in client.frames() if f.kind == DATA)
    assert sent == 65535
    assert client.server.queued_bytes == 70_000 - 65535


def test_an_answer_is_three_frames_and_marks_the_connection_dirty_once() -> None:
    client = Client()
    requests = client.send(client.request(1, b"a") + client.request(3, b"b"))
    client.dirty.clear()
    for request in reversed(requests):
        assert isinstance(request, UnaryRequest)
        request.reply(request.message * 2)
        request.reply(b"again")
        request.fail(2, "again")
    assert client.dirty == [client.server]
    frames = client.frames()
    assert [(f.kind, f.stream_id, f.flags) for f in frames] == [
        (kind, stream_id, flags)
        for stream_id in (3, 1)
        for kind, flags in ((HEADERS, 4), (DATA, 0), (HEADERS, 5))
    ]
    head, data, trailers = client.answer(frames, 1)
    assert (head[":status"], head["content-type"]) == ("200", "application/grpc")
    assert data == frame_message(b"aa")
    assert trailers["grpc-status"] == "0"


def test_answers_leave_as_the_windows_open_and_in_turn() -> None:
    client = Client()
    client.send(settings_frame(((4, 2**31 - 1),)))
    for request in client.send(client.request(1) + client.request(3)):
        assert isinstance(request, UnaryRequest)
        request.reply(bytes(100_000))
    frames = client.frames()
    assert sum(len(f.payload) for f in frames if f.kind == DATA) == 65535
    sent = {1: 0, 3: 0}
    for _ in range(20):
        client.send(window(0, 16384))
        frames += client.frames()
    for one in frames:
        if one.kind == DATA:
            sent[one.stream_id] += len(one.payload)
    assert sent == {1: 100_005, 3: 100_005}
    assert [f.stream_id for f in frames if f.kind == HEADERS and f.flags & 1] == [1, 3]
    assert client.server.queued_bytes == 0


def test_a_long_answer_in_parts_leaves_a_burst_at_a_time_however_wide_the_windows_are() -> None:
    client = Client()
    client.send(settings_frame(((4, 2**31 - 1),)) + window(0, 2**31 - 1 - 65535))
    parts = [bytes([number]) * 700_000 for number in range(5)]
    _unary(client.send(client.request(1))).reply_in_parts([*parts, b""])
    outputs = [client.frames()]
    while client.server.holds_back:
        client.server.resume()
        outputs.append(client.frames())
    assert len(outputs) == 4
    assert max(sum(len(f.payload) for f in output) for output in outputs) < 1_200_000
    frames = [one for output in outputs for one in output]
    head, data, trailers = client.answer(frames, 1)
    assert data == frame_message(b"".join(parts))
    assert (head[":status"], trailers["grpc-status"]) == ("200", "0")
    assert client.server.queued_bytes == 0


def test_a_held_back_answer_lets_others_have_the_next_burst() -> None:
    client = Client()
    client.send(settings_frame(((4, 2**31 - 1),)) + window(0, 2**31 - 1 - 65535))
    for request in client.send(client.request(1) + client.request(3)):
        assert isinstance(request, UnaryRequest)
        request.reply_in_parts([bytes(1_500_000)])
    assert 3 not in {f.stream_id for f in client.frames() if f.kind == DATA}
    client.server.resume()
    assert 3 in {f.stream_id for f in client.frames() if f.kind == DATA}


def test_one_answer_of_any_size_may_wait_and_others_beside_it() -> None:
    client = Client(Http2Limits(max_queued_bytes=100_000))
    for number, size in enumerate((900_000, 90_000, 20_000)):
        _unary(client.send(client.request(2 * number + 1))).reply(bytes(size))
    assert not client.server.closed
    _unary(client.send(client.request(7))).reply(bytes(10))
    assert client.server.closed


def test_a_starved_stream_hears_when_it_may_send_again() -> None:
    client = Client()
    stream = _stream(client.send(client.headers(1, path=WATCH)))
    assert client.server.send_message(stream, bytes(70_000)) == 70_005 - 65535
    stream.starved = True
    assert client.send(window(0, 100_000)) == []
    (event,) = client.send(window(1, 100_000))
    assert isinstance(event, StreamWritable)
    assert not stream.queued


def test_a_smaller_initial_window_may_make_a_streams_window_negative() -> None:
    client = Client()
    request = _unary(client.send(client.request(1)))
    client.send(settings_frame(((4, 0),)))
    request.reply(b"x" * 10)
    assert [f.kind for f in client.frames()] == [1 + 3, HEADERS]  # SETTINGS acknowledged, no DATA
    client.send(window(1, 14))
    assert sum(len(f.payload) for f in client.frames() if f.kind == DATA) == 14
    client.send(settings_frame(((4, 1),)))
    frames = client.frames()
    assert [f.payload for f in frames if f.kind == DATA] == [b"x"]
    assert [f.kind for f in frames] == [DATA, HEADERS, 4]


def test_a_client_without_a_header_table_is_told_so_once() -> None:
    client = Client()
    client.send(settings_frame(((1, 0),)))
    client.decoder.max_allowed_table_size = 0
    for stream_id in (1, 3):
        _unary(client.send(client.request(stream_id))).reply(b"ok")
    frames = client.frames()
    assert [f.payload[:1] == b"\x20" for f in frames if f.kind == HEADERS] == [True, False, False, False]
    assert client.answer(frames, 3)[1] == frame_message(b"ok")


def test_a_deadline_counts_from_the_arrival_of_the_head() -> None:
    client = Client()
    client.send(client.headers(1, more=(("grpc-timeout", "500m"),)))
    client.now += 0.4
    request = _unary(client.send(frame(DATA, 1, 1, frame_message(b""))))
    assert request.deadline == pytest.approx(1000.5)
    assert "grpc-timeout" not in request.metadata
    client.server.expire(1000.49)
    assert not request.answered
    client.server.expire(1000.51)
    assert request.answered
    assert client.answer(client.frames(), 1)[2]["grpc-status"] == "4"
    assert client.server.next_deadline is None


def test_windows_are_given_back_in_batches() -> None:
    client = Client(Http2Limits(connection_window=100_000, stream_window=65536))
    given = []
    for number in range(40):
        _unary(client.send(client.request(2 * number + 1, bytes(5000)))).reply(b"")
        given += [f for f in client.frames() if f.kind == WINDOW]
    assert all(f.stream_id == 0 for f in given)
    assert 4 <= len(given) <= 8
    total = sum(int.from_bytes(f.payload, "big") for f in given)
    assert 40 * 5005 - 30_005 <= total <= 40 * 5005


def test_a_streaming_call_hears_its_messages_its_end_and_its_reset() -> None:
    client = Client()
    events = client.send(
        client.headers(1, path=WATCH) + frame(DATA, 1, 1, frame_message(b"a") + frame_message(b"b"))
    )
    assert [type(e) for e in events] == [StreamOpened, MessageReceived, MessageReceived, HalfClosed]
    stream = _stream(events)
    client.server.send_message(stream, b"answer")
    (event,) = client.send(frame(RST, 0, 1, struct.pack(">I", ErrorCode.CANCEL)))
    assert isinstance(event, StreamReset)
    client.frames()
    client.server.send_message(stream, b"nobody listens")
    client.server.finish(stream)
    assert client.frames() == []


def test_a_server_that_ends_a_stream_first_stops_the_client() -> None:
    client = Client()
    stream = _stream(client.send(client.headers(1, path=WATCH)))
    client.server.finish(stream, 14, "etcdserver: server stopped")
    frames = client.frames()
    assert [(f.kind, f.flags) for f in frames] == [(HEADERS, 5), (RST, 0)]
    assert frames[1].code == ErrorCode.NO_ERROR
    head = client.answer(frames, 1)[0]
    assert (head[":status"], head["grpc-status"]) == ("200", "14")
    assert client.send(frame(DATA, 0, 1, frame_message(b"still under way"))) == []
    assert not [f for f in client.frames() if f.kind in (RST, GOAWAY)]


def test_a_drain_says_goodbye_twice_and_refuses_what_comes_after() -> None:
    client = Client()
    first = _unary(client.send(client.request(1)))
    client.server.drain()
    goaway, ping = client.frames()
    assert (goaway.kind, goaway.payload[:4], ping.kind) == (GOAWAY, b"\x7f\xff\xff\xff", PING)
    second = _unary(client.send(client.request(3)))
    client.send(frame(PING, 1, 0, ping.payload))
    (final,) = client.frames()
    assert (final.kind, final.payload[:8]) == (GOAWAY, struct.pack(">II", 3, 0))
    assert client.send(client.request(5)) == []
    assert client.frames()[0].code == ErrorCode.REFUSED_STREAM
    assert not client.server.drained
    first.reply(b"")
    second.reply(b"")
    assert client.server.drained
    assert not client.server.closed


@pytest.mark.parametrize(
    ("header_fields", "status"),
    [(fields(method="GET"), "405"), (fields(content_type="text/html"), "415"), (fields("/x"), "200")],
)
def test_what_is_no_call_of_ours_is_answered_without_a_handler(
    header_fields: list[tuple[str, str]], status: str
) -> None:
    client = Client()
    assert client.send(frame(HEADERS, 5, 1, client.block(header_fields))) == []
    assert client.answer(client.frames(), 1)[0][":status"] == status


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("abc", "8", 'malformed method name: "abc"'),
        ("/abc", "8", 'malformed method name: "/abc"'),
        ("/a.B/c", "12", "unknown service a.B"),
        ("/etcdserverpb.KV/c", "12", "unknown method c for service etcdserverpb.KV"),
    ],
)
def test_a_path_without_a_handler_is_refused_in_etcds_words(path: str, status: str, text: str) -> None:
    client = Client()
    client.send(client.headers(1, path=path))
    told = client.answer(client.frames(), 1)[0]
    assert (told["grpc-status"], told["grpc-message"]) == (status, text)


def test_a_unary_request_without_a_message_fails_alone() -> None:
    client = Client()
    assert client.send(client.headers(1, end=True) + client.headers(3) + frame(DATA, 1, 3, b"\0\0")) == []
    frames = client.frames()
    told = [client.answer([f], f.stream_id)[0] for f in frames]
    assert [(t["grpc-status"], t["grpc-message"]) for t in told] == [("2", "EOF"), ("2", "unexpected EOF")]
    _unary(client.send(client.request(5, path=PUT)))


def test_output_before_any_input_is_the_servers_settings() -> None:
    server = ServerConnection(Http2Limits(), ROUTES, [])
    first = split_frames(server.take_output())[0]
    assert (first.kind, first.flags) == (4, 0)
