"""HTTP/2's constants, limits and the frames a server writes (RFC 9113, sections 4, 6 and 7)."""

from __future__ import annotations

import struct
from enum import IntEnum

import msgspec

from .grpc import MAX_MESSAGE_BYTES

__all__ = [
    "DEFAULT_WINDOW",
    "FRAME",
    "FRAME_BYTES",
    "MAX_STREAM_ID",
    "MAX_WINDOW",
    "PREFACE",
    "ErrorCode",
    "Flag",
    "FrameType",
    "Http2Limits",
    "Setting",
    "goaway_frame",
    "headers_frames",
    "reset_frame",
    "settings_frame",
    "window_frame",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: length (high 16 bits, low 8), type, flags, stream id
FRAME = struct.Struct(">HBBBI")
FRAME_BYTES = 9
MAX_STREAM_ID = (1 << 31) - 1
MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65535


class FrameType(IntEnum):
    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag:
    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Http2Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may cost. Sizes in bytes, rates in events per second."""

    max_streams: int = 4096  # open at once; more are refused, one by one
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_frame_bytes: int = 16384  # announced; 16384 .. 2**24 - 1
    stream_window: int = 1 << 20  # receive window of a stream
    connection_window: int = 16 << 20
    max_header_list_bytes: int = 64 << 10
    max_header_block_bytes: int = 64 << 10  # compressed, over all CONTINUATION frames
    max_continuations: int = 32
    max_buffered_bytes: int = 64 << 20  # received, not yet given to a handler
    max_queued_bytes: int = 64 << 20  # answers waiting for the client's windows before one more is refused
    nuisance_burst: int = 2000  # frames without use: empty DATA, PING, SETTINGS, PRIORITY, stray ones
    nuisance_rate: float = 500.0
    reset_burst: int = 500  # cancelled or refused streams (rapid reset)
    reset_rate: float = 200.0
    ping_min_seconds: float = 5.0  # etcd's --grpc-keepalive-min-time
    ping_idle_seconds: float = 7200.0  # the same without an open stream, as grpc-go has it
    ping_strikes: int = 2  # pings too early that are forgiven


def headers_frames(stream_id: int, block: bytes, end_stream: bool, max_frame_bytes: int) -> bytes:
    """HEADERS and, should the block not fit one frame, CONTINUATIONs."""
    flags = Flag.END_STREAM if end_stream else 0
    first = block[:max_frame_bytes]
    rest = block[max_frame_bytes:]
    if not rest:
        flags |= Flag.END_HEADERS
    size = len(first)
    out = [FRAME.pack(size >> 8, size & 255, FrameType.HEADERS, flags, stream_id), first]
    while rest:
        first, rest = rest[:max_frame_bytes], rest[max_frame_bytes:]
        size = len(first)
        flags = 0 if rest else Flag.END_HEADERS
        out.append(FRAME.pack(size >> 8, size & 255, FrameType.CONTINUATION, flags, stream_id))
        out.append(first)
    return b"".join(out)


def settings_frame(settings: tuple[tuple[int, int], ...]) -> bytes:
    body = b"".join(struct.pack(">HI", key, value) for key, value in settings)
    return FRAME.pack(len(body) >> 8, len(body) & 255, FrameType.SETTINGS, 0, 0) + body


def window_frame(stream_id: int, increment: int) -> bytes:
    return struct.pack(">HBBBII", 0, 4, FrameType.WINDOW_UPDATE, 0, stream_id, increment)


def reset_frame(stream_id: int, code: int) -> bytes:
    return struct.pack(">HBBBII", 0, 4, FrameType.RST_STREAM, 0, stream_id, code)


def goaway_frame(last_stream_id: int, code: int, text: bytes = b"") -> bytes:
    size = 8 + len(text)
    head = FRAME.pack(size >> 8, size & 255, FrameType.GOAWAY, 0, 0)
    return head + struct.pack(">II", last_stream_id, code) + text
