"""Frames by hand: what the tests of the HTTP/2 side write, and how they read what the server wrote."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from hpack import Decoder, Encoder

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2 import ServerConnection
from tercet.core.wire.http2_frames import FRAME, PREFACE, settings_frame
from tercet.core.wire.http2_head import Route
from tercet.core.wire.http2_limits import Http2Limits
from tercet.core.wire.http2_streams import Event

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
PUT = "/etcdserverpb.KV/Put"
WATCH = "/etcdserverpb.Watch/Watch"
ROUTES = {PUT: Route(streaming=False, handler=None), WATCH: Route(streaming=True, handler=None)}


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    size = len(payload)
    return FRAME.pack(size >> 8, size & 255, kind, flags, stream_id) + payload


def fields(path: str = PUT, *more: tuple[str, str], **replace: str) -> list[tuple[str, str]]:
    """The header fields of a request; ``replace`` takes method, scheme, content_type."""
    base = [
        (":method", replace.get("method", "POST")),
        (":scheme", replace.get("scheme", "http")),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", replace.get("content_type", "application/grpc")),
        ("te", "trailers"),
    ]
    return [*base, *more]


def window(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream_id, struct.pack(">I", increment))


def split_frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        high, low, kind, flags, stream_id = FRAME.unpack_from(data)
        size = high << 8 | low
        found.append(Frame(kind, flags, stream_id, data[9 : 9 + size]))
        data = data[9 + size :]
    return found


class Client:
    """A client made of frames, wired to a ``ServerConnection``."""

    def __init__(self, limits: Http2Limits | None = None, *, hello: bool = True) -> None:
        self.dirty: list[Any] = []
        self.server = ServerConnection(limits or Http2Limits(), ROUTES, self.dirty)
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.now = 1000.0
        if hello:
            self.send(PREFACE + settings_frame(()))
            self.frames()

    def send(self, data: bytes) -> list[Event]:
        return self.server.receive(data, self.now)

    def frames(self) -> list[Frame]:
        """What the server wrote since the last time."""
        self.dirty.clear()
        return split_frames(self.server.take_output())

    def block(self, header_fields: list[tuple[str, str]]) -> bytes:
        return self.encoder.encode(header_fields)

    def headers(
        self, stream_id: int, *, end: bool = False, path: str = PUT, more: tuple[tuple[str, str], ...] = ()
    ) -> bytes:
        flags = 0x4 | (0x1 if end else 0)
        return frame(HEADERS, flags, stream_id, self.block(fields(path, *more)))

    def request(self, stream_id: int, message: bytes = b"hello", *, path: str = PUT) -> bytes:
        return self.headers(stream_id, path=path) + frame(DATA, 0x1, stream_id, frame_message(message))

    def answer(self, frames: list[Frame], stream_id: int) -> tuple[dict[str, str], bytes, dict[str, str]]:
        """Header fields, DATA bytes and trailers of one stream."""
        heads: list[dict[str, str]] = []
        data = b""
        for one in frames:
            if one.kind == HEADERS:
                decoded = {str(k): str(v) for k, v in self.decoder.decode(one.payload)}
                if one.stream_id == stream_id:
                    heads.append(decoded)
            elif one.kind == DATA and one.stream_id == stream_id:
                data += one.payload
        return heads[0], data, heads[-1]
