"""HTTP/2's constants and the frames a server writes (RFC 9113, sections 4, 6 and 7)."""

from __future__ import annotations

import struct
from enum import IntEnum

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
