"""RFC 9113 rule by rule, in the spirit of h2spec: what is sent, and how the server must take it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2_frames import PREFACE, ErrorCode, settings_frame

from .http2_tools import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH,
    PUT,
    RST,
    SETTINGS,
    WINDOW,
    Client,
    fields,
    frame,
    window,
)

E = ErrorCode
Build = Callable[[Client], bytes]


def _setting(key: int, value: int) -> bytes:
    return settings_frame(((key, value),))


def _with(*changed: tuple[str, str], drop: str = "") -> Build:
    """A request whose header fields were tampered with."""

    def build(client: Client) -> bytes:
        kept = [f for f in fields(PUT) if f[0] != drop]
        return frame(HEADERS, 0x5, 1, client.block([*kept, *changed]))

    return build


def _open(client: Client, stream_id: int = 1) -> bytes:
    return client.headers(stream_id)


def _block(client: Client) -> bytes:
    return client.block(fields())


MESSAGE = frame_message(b"hello")

CONNECTION_ERRORS: list[tuple[str, Build, ErrorCode]] = [
    (
        "4.2 a DATA frame over the limit",
        lambda c: _open(c) + frame(DATA, 0, 1, bytes(16385)),
        E.FRAME_SIZE_ERROR,
    ),
    ("4.2 a HEADERS frame over the limit", lambda c: frame(HEADERS, 5, 1, bytes(16385)), E.FRAME_SIZE_ERROR),
    (
        "4.3 a block that is no HPACK",
        lambda c: frame(HEADERS, 5, 1, b"\x00\x05\x00\x00"),
        E.COMPRESSION_ERROR,
    ),
    (
        "4.3 DATA within a block",
        lambda c: frame(HEADERS, 1, 1, _block(c)) + frame(DATA, 1, 1),
        E.PROTOCOL_ERROR,
    ),
    (
        "4.3 an unknown frame within a block",
        lambda c: frame(HEADERS, 1, 1, _block(c)) + frame(99),
        E.PROTOCOL_ERROR,
    ),
    ("5.1 DATA on an idle stream", lambda c: frame(DATA, 1, 1, b"x"), E.PROTOCOL_ERROR),
    ("5.1 RST_STREAM on an idle stream", lambda c: frame(RST, 0, 1, bytes(4)), E.PROTOCOL_ERROR),
    ("5.1 WINDOW_UPDATE on an idle stream", lambda c: window(1, 100), E.PROTOCOL_ERROR),
    ("5.1 CONTINUATION on an idle stream", lambda c: frame(CONTINUATION, 4, 1, _block(c)), E.PROTOCOL_ERROR),
    ("5.1.1 an even stream", lambda c: frame(HEADERS, 5, 2, _block(c)), E.PROTOCOL_ERROR),
    ("5.1.1 a smaller stream than before", lambda c: c.request(5) + c.request(3), E.STREAM_CLOSED),
    ("6.1 DATA on stream 0", lambda c: frame(DATA, 1, 0, b"x"), E.PROTOCOL_ERROR),
    ("6.1 more padding than DATA", lambda c: _open(c) + frame(DATA, 9, 1, b"\x06hello"), E.PROTOCOL_ERROR),
    ("6.1 padded DATA without a length", lambda c: _open(c) + frame(DATA, 9, 1), E.PROTOCOL_ERROR),
    ("6.2 HEADERS on stream 0", lambda c: frame(HEADERS, 5, 0, _block(c)), E.PROTOCOL_ERROR),
    ("6.2 more padding than HEADERS", lambda c: frame(HEADERS, 13, 1, b"\xff" + _block(c)), E.PROTOCOL_ERROR),
    ("6.2 HEADERS too short for its priority", lambda c: frame(HEADERS, 37, 1, b"\0\0"), E.FRAME_SIZE_ERROR),
    ("6.2 padded HEADERS without a length", lambda c: frame(HEADERS, 13, 1), E.FRAME_SIZE_ERROR),
    ("6.3 PRIORITY on stream 0", lambda c: frame(PRIORITY, 0, 0, bytes(5)), E.PROTOCOL_ERROR),
    ("6.4 RST_STREAM on stream 0", lambda c: frame(RST, 0, 0, bytes(4)), E.PROTOCOL_ERROR),
    ("6.4 RST_STREAM of 3 bytes", lambda c: c.request(1) + frame(RST, 0, 1, bytes(3)), E.FRAME_SIZE_ERROR),
    (
        "6.5 SETTINGS acknowledged with a payload",
        lambda c: frame(SETTINGS, 1, 0, bytes(6)),
        E.FRAME_SIZE_ERROR,
    ),
    ("6.5 SETTINGS on a stream", lambda c: frame(SETTINGS, 0, 1, bytes(6)), E.PROTOCOL_ERROR),
    ("6.5 SETTINGS of 5 bytes", lambda c: frame(SETTINGS, 0, 0, bytes(5)), E.FRAME_SIZE_ERROR),
    ("6.5.2 ENABLE_PUSH 2", lambda c: _setting(2, 2), E.PROTOCOL_ERROR),
    ("6.5.2 INITIAL_WINDOW_SIZE 2**31", lambda c: _setting(4, 2**31), E.FLOW_CONTROL_ERROR),
    ("6.5.2 MAX_FRAME_SIZE 16383", lambda c: _setting(5, 16383), E.PROTOCOL_ERROR),
    ("6.5.2 MAX_FRAME_SIZE 2**24", lambda c: _setting(5, 2**24), E.PROTOCOL_ERROR),
    ("6.6 PUSH_PROMISE", lambda c: c.request(1) + frame(PUSH, 4, 1, bytes(8)), E.PROTOCOL_ERROR),
    ("6.7 PING on a stream", lambda c: frame(PING, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    ("6.7 PING of 6 bytes", lambda c: frame(PING, 0, 0, bytes(6)), E.FRAME_SIZE_ERROR),
    ("6.8 GOAWAY on a stream", lambda c: frame(GOAWAY, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    ("6.8 GOAWAY of 7 bytes", lambda c: frame(GOAWAY, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
    ("6.9 WINDOW_UPDATE by 0 on the connection", lambda c: window(0, 0), E.PROTOCOL_ERROR),
    ("6.9 WINDOW_UPDATE of 3 bytes", lambda c: frame(WINDOW, 0, 0, bytes(3)), E.FRAME_SIZE_ERROR),
    ("6.9.1 a connection window over 2**31 - 1", lambda c: window(0, 2**31 - 1), E.FLOW_CONTROL_ERROR),
    (
        "6.9.2 a setting that lifts a stream's window over 2**31 - 1",
        lambda c: c.request(1) + window(1, 2**31 - 1 - 65535) + _setting(4, 65536),
        E.FLOW_CONTROL_ERROR,
    ),
    ("6.10 CONTINUATION after END_HEADERS", lambda c: _open(c) + frame(CONTINUATION, 4, 1), E.PROTOCOL_ERROR),
    (
        "6.10 CONTINUATION of another stream",
        lambda c: frame(HEADERS, 1, 1, _block(c)) + frame(CONTINUATION, 4, 3),
        E.PROTOCOL_ERROR,
    ),
    ("5.1 HEADERS on a stream that was answered", lambda c: _answered(c) + c.headers(1), E.STREAM_CLOSED),
]


def _answered(client: Client) -> bytes:
    (request,) = client.send(client.request(1))
    request.reply(b"")  # type: ignore[union-attr]
    client.frames()
    return b""


@pytest.mark.parametrize(
    "data",
    [
        PREFACE + frame(PING, 0, 0, bytes(8)),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        PREFACE + frame(SETTINGS, 1),
    ],
    ids=["3.4 another frame than SETTINGS", "3.4 a wrong preface", "3.4 an acknowledgement first"],
)
def test_a_connection_that_begins_wrong_ends_at_once(data: bytes) -> None:
    client = Client(hello=False)
    client.send(data)
    last = client.frames()[-1]
    assert (last.kind, last.code) == (GOAWAY, E.PROTOCOL_ERROR)
    assert client.server.closed


STREAM_ERRORS: list[tuple[str, Build, ErrorCode]] = [
    ("5.1 DATA after END_STREAM", lambda c: c.request(1) + frame(DATA, 1, 1, MESSAGE), E.STREAM_CLOSED),
    ("5.1 HEADERS after END_STREAM", lambda c: c.request(1) + c.headers(1, end=True), E.STREAM_CLOSED),
    ("5.1 DATA on an answered stream", lambda c: _answered(c) + frame(DATA, 1, 1, MESSAGE), E.STREAM_CLOSED),
    (
        "5.3.1 HEADERS that depend on themselves",
        lambda c: frame(HEADERS, 0x25, 1, b"\0\0\0\1\0" + _block(c)),
        E.PROTOCOL_ERROR,
    ),
    (
        "5.3.1 PRIORITY on itself",
        lambda c: c.request(1) + frame(PRIORITY, 0, 1, b"\0\0\0\1\0"),
        E.PROTOCOL_ERROR,
    ),
    ("6.3 PRIORITY of 4 bytes", lambda c: c.request(1) + frame(PRIORITY, 0, 1, bytes(4)), E.FRAME_SIZE_ERROR),
    ("6.9 WINDOW_UPDATE by 0 on a stream", lambda c: c.request(1) + window(1, 0), E.PROTOCOL_ERROR),
    (
        "6.9.1 a stream window over 2**31 - 1",
        lambda c: c.request(1) + window(1, 2**31 - 1),
        E.FLOW_CONTROL_ERROR,
    ),
    ("8.1 trailers without END_STREAM", lambda c: _open(c) + c.headers(1), E.PROTOCOL_ERROR),
    (
        "8.1 trailers with a pseudo-header field",
        lambda c: _open(c) + frame(HEADERS, 5, 1, c.block([(":path", "/")])),
        E.PROTOCOL_ERROR,
    ),
    (
        "8.1.1 less DATA than content-length",
        lambda c: c.headers(1, more=(("content-length", "99"),)) + frame(DATA, 1, 1, MESSAGE),
        E.PROTOCOL_ERROR,
    ),
    (
        "8.1.1 more DATA than content-length",
        lambda c: c.headers(1, more=(("content-length", "1"),)) + frame(DATA, 1, 1, MESSAGE),
        E.PROTOCOL_ERROR,
    ),
    ("8.1.1 a content-length that is none", _with(("content-length", "ten")), E.PROTOCOL_ERROR),
    ("8.2.1 a field name in upper case", _with(("X-Test", "ok")), E.PROTOCOL_ERROR),
    ("8.2.1 a line break in a value", _with(("x-test", "a\r\nb")), E.PROTOCOL_ERROR),
    ("8.2.2 connection: keep-alive", _with(("connection", "keep-alive")), E.PROTOCOL_ERROR),
    ("8.2.2 transfer-encoding", _with(("transfer-encoding", "chunked")), E.PROTOCOL_ERROR),
    ("8.2.2 te other than trailers", _with(("te", "gzip")), E.PROTOCOL_ERROR),
    ("8.3 an unknown pseudo-header field", _with((":test", "ok")), E.PROTOCOL_ERROR),
    ("8.3 a pseudo-header field of a response", _with((":status", "200")), E.PROTOCOL_ERROR),
    ("8.3 a pseudo-header field after a regular one", _with((":path", "/x"), drop=":path"), E.PROTOCOL_ERROR),
    ("8.3.1 no :method", _with(drop=":method"), E.PROTOCOL_ERROR),
    ("8.3.1 no :scheme", _with(drop=":scheme"), E.PROTOCOL_ERROR),
    ("8.3.1 no :path", _with(drop=":path"), E.PROTOCOL_ERROR),
    (
        "8.3.1 an empty :path",
        lambda c: frame(HEADERS, 5, 1, c.block([(":method", "POST"), (":scheme", "http"), (":path", "")])),
        E.PROTOCOL_ERROR,
    ),
    (
        "8.3.1 :path twice",
        lambda c: frame(HEADERS, 5, 1, c.block([(":path", PUT), *fields()])),
        E.PROTOCOL_ERROR,
    ),
    ("gRPC a malformed timeout", _with(("grpc-timeout", "soon")), E.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(("build", "code"), [pytest.param(b, c, id=n) for n, b, c in CONNECTION_ERRORS])
def test_the_connection_ends_with_the_right_code(build: Build, code: ErrorCode) -> None:
    client = Client()
    client.send(build(client))
    last = client.frames()[-1]
    assert (last.kind, last.code) == (GOAWAY, code)
    assert client.server.closed
    assert client.send(PREFACE) == []
    assert client.frames() == []


@pytest.mark.parametrize(("build", "code"), [pytest.param(b, c, id=n) for n, b, c in STREAM_ERRORS])
def test_the_stream_ends_and_the_connection_goes_on(build: Build, code: ErrorCode) -> None:
    client = Client()
    client.send(build(client))
    resets = [f for f in client.frames() if f.kind == RST]
    assert [(f.stream_id, f.code) for f in resets] == [(1, code)]
    assert 1 not in client.server.streams
    (request,) = client.send(client.request(7))
    request.reply(b"fine")  # type: ignore[union-attr]
    assert client.answer(client.frames(), 7)[1] == frame_message(b"fine")


IGNORED: list[tuple[str, Build]] = [
    ("4.1 an unknown frame type", lambda c: frame(0x16, 0xFF, 0, bytes(8))),
    ("4.1 a reserved bit", lambda c: frame(PING, 0, 2**31, bytes(8))),
    ("5.1 PRIORITY on an idle stream", lambda c: frame(PRIORITY, 0, 9, b"\0\0\0\1\7")),
    ("5.1 RST_STREAM on a closed stream", lambda c: _answered(c) + frame(RST, 0, 1, bytes(4))),
    ("5.1 WINDOW_UPDATE on a closed stream", lambda c: _answered(c) + window(1, 5)),
    ("6.5.2 an unknown setting", lambda c: _setting(0xFF, 1)),
    ("6.5.3 settings that change twice", lambda c: settings_frame(((4, 100), (4, 65535)))),
    ("6.7 an unasked PING answer", lambda c: frame(PING, 1, 0, bytes(8))),
    ("6.8 GOAWAY of the client", lambda c: frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0) + b"bye")),
    (
        "8.1 an ordinary trailer section is no error",
        lambda c: c.headers(1) + frame(DATA, 0, 1, MESSAGE) + frame(HEADERS, 5, 1, c.block([("x", "y")])),
    ),
]


@pytest.mark.parametrize("build", [pytest.param(b, id=n) for n, b in IGNORED])
def test_what_is_allowed_disturbs_nothing(build: Build) -> None:
    client = Client()
    client.send(build(client) or build(client))
    assert not [f for f in client.frames() if f.kind in (RST, GOAWAY)]
    (request,) = client.send(client.request(11))
    request.reply(b"fine")  # type: ignore[union-attr]
    assert client.answer(client.frames(), 11)[1] == frame_message(b"fine")
