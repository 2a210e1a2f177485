"""HTTP/2 sessions with gRPC requests, as their frames, and what is done to them."""

from __future__ import annotations

import random
import struct
from typing import Final

from hpack import Encoder, HeaderTuple

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2_frames import FRAME, PREFACE, settings_frame

from .fuzz_damage import damage_bytes, damage_pieces
from .fuzz_every import Guise, every
from .fuzz_messages import ask, change, garbage

__all__ = ["http2_stream"]

_DATA, _HEADERS, _RESET, _PING, _WINDOW, _CONTINUATION = 0, 1, 3, 6, 8, 9
_END_STREAM, _END_HEADERS = 1, 4
_ODD_HEADERS: Final = (
    ("grpc-timeout", "1m"), ("grpc-timeout", "99999999H"), ("grpc-timeout", "-1S"), ("grpc-timeout", ""),
    ("grpc-encoding", "gzip"), ("content-length", "3"), ("content-length", "99999999999999999999"),
    ("hasleader", "true"), ("token", "nobody.1"), ("te", "gzip"), ("connection", "close"), ("X-Upper", "1"),
    ("x-null", "a\0b"), ("x-long", "y" * 9000),
)  # fmt: skip


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    size = len(payload)
    return FRAME.pack(size >> 8, size & 255, kind, flags, stream_id) + payload


def _block(rng: random.Random, encoder: Encoder, path: str, token: str = "") -> bytes:
    fields = [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "fuzz"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ]  # fmt: skip
    if token:
        fields.append(("token", token))
    if rng.random() < 0.01:
        fields.append(("cookie", "c" * 70_000))
        return bytes(encoder.encode([HeaderTuple(*field) for field in fields], huffman=False))
    while rng.random() < 0.15:
        fields.insert(rng.randrange(1, len(fields) + 1), rng.choice(_ODD_HEADERS))
    if rng.random() < 0.05:
        fields[rng.randrange(len(fields))] = rng.choice(
            ((":method", "GET"), (":path", ""), ("content-type", "x"))
        )
    return bytes(encoder.encode([HeaderTuple(*field) for field in fields], huffman=rng.random() < 0.2))


def _request(
    rng: random.Random, encoder: Encoder, stream_id: int, path: str, message: bytes, token: str
) -> list[bytes]:
    """HEADERS and DATA, now and then cut into odd frames."""
    block = _block(rng, encoder, path, token)
    data = frame_message(message)
    shape = rng.randrange(10)
    if shape == 0 or len(block) > 16_000:
        step = 8000 if len(block) > 1000 else 1 + len(block) // 2
        parts = [block[at : at + step] for at in range(0, len(block), step)]
        pieces = [_frame(_HEADERS, 0, stream_id, parts[0])]
        pieces += [_frame(_CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
        pieces.append(_frame(_CONTINUATION, _END_HEADERS, stream_id, parts[-1] if len(parts) > 1 else b""))
    else:
        pieces = [_frame(_HEADERS, _END_HEADERS, stream_id, block)]
    if shape == 1:
        half = len(data) // 2
        pieces += [_frame(_DATA, 0, stream_id, data[:half]), _frame(_DATA, 1, stream_id, data[half:])]
    elif shape == 2:
        pieces.append(_frame(_DATA, 9, stream_id, b"\x04" + data + bytes(4)))  # padded
    elif shape == 3:  # a message of another length than it says, perhaps "compressed"
        claimed = rng.choice((0, 1, len(message) + 1, 2**21 + 1, 2**31, 2**32 - 1))
        prefix = struct.pack(">BI", rng.choice((0, 0, 1, 9)), claimed)
        pieces.append(_frame(_DATA, 1, stream_id, prefix + message))
    elif shape == 4:
        pieces += [_frame(_DATA, 0, stream_id, data), _frame(_RESET, 0, stream_id, bytes(4))]
    else:
        pieces += [
            _frame(_DATA, 0 if at + 16_000 < len(data) else _END_STREAM, stream_id, data[at : at + 16_000])
            for at in range(0, len(data), 16_000)
        ]
    return pieces


def _draw(rng: random.Random, kind: str, guise: Guise) -> tuple[str, bytes]:
    """A path and a message of one kind."""
    if kind == "every":
        return every(rng, guise.aim)
    if kind == "garbage":
        return garbage(rng, guarded=guise.aim.guarded)
    return (ask if kind == "ask" else change)(rng)


def _session(rng: random.Random, kind: str, guise: Guise) -> list[bytes]:
    encoder = Encoder()
    window = rng.choice((0, 1, 65535, 65535, 2**31 - 1, 2**31))
    pieces = [PREFACE, settings_frame(((4, window),) if rng.random() < 0.3 else ())]
    stream_id = 1
    for _ in range(rng.randrange(1, 5)):
        path, message = _draw(rng, kind, guise)
        pieces += _request(rng, encoder, stream_id, path, message, guise.token(rng))
        stream_id += 2
    return pieces


def _flood(rng: random.Random) -> list[bytes]:
    """Many small frames that are legal and useless, or nearly legal."""
    choices = (
        _frame(_PING, 0, 0, bytes(8)), settings_frame(((4, 1),)), _frame(_DATA, 0, 1, b""),
        _frame(_WINDOW, 0, 0, struct.pack(">I", 1)), _frame(2, 0, 3, bytes(5)), _frame(0x42, 0, 0, b"?"),
        _frame(_WINDOW, 0, 0, struct.pack(">I", 2**31 - 1)), _frame(7, 0, 0, bytes(8)),
    )  # fmt: skip
    return [PREFACE, settings_frame(()), *[rng.choice(choices)] * rng.choice((10, 600, 3000))]


def _rapid_reset(rng: random.Random) -> list[bytes]:
    encoder = Encoder()
    pieces = [PREFACE, settings_frame(())]
    block = b""
    for number in range(rng.choice((20, 300, 700))):
        stream_id = 2 * number + 1
        if number < 2:  # the second block is all from the table, and so is every later one
            block = _block(rng, encoder, "/etcdserverpb.Watch/Watch")[:16_000]
        pieces.append(_frame(_HEADERS, _END_HEADERS, stream_id, block))
        pieces.append(_frame(_RESET, 0, stream_id, struct.pack(">I", 8)))
    return pieces


def _table_bomb(rng: random.Random) -> list[bytes]:
    """A header that is stored once in the table and then named over and over."""
    stored = b"\x40\x01b\x7f\x81\x1e" + b"v" * 4000  # literal with indexing, name "b", 4000 bytes
    block = stored + b"\xbe" * rng.choice((10, 1000, 9000))
    frames = [_frame(_HEADERS, 0, 1, block[:9000])]
    frames.append(_frame(_CONTINUATION, _END_HEADERS, 1, block[9000:]))
    return [PREFACE, settings_frame(()), *frames]


def http2_stream(rng: random.Random, guise: Guise) -> tuple[str, bytes]:
    """One session as (what it is, its bytes)."""
    draw = rng.randrange(26)
    if draw == 0:
        return "http2/random", PREFACE + settings_frame(()) + rng.randbytes(rng.randrange(400))
    if draw == 1:
        return "http2/frames", PREFACE + settings_frame(()) + b"".join(
            struct.pack(">HBBBI", 0, 8, rng.randrange(12), rng.randrange(256), rng.randrange(6))
            + rng.randbytes(8)
            for _ in range(rng.randrange(1, 30))
        )
    if draw == 2:
        return "http2/flood", b"".join(_flood(rng))
    if draw == 3 and rng.random() < 0.2:
        return "http2/rapid-reset", b"".join(_rapid_reset(rng))
    if draw == 4:
        return "http2/table-bomb", b"".join(_table_bomb(rng))
    if draw < 7:
        return "http2/change", b"".join(_session(rng, "change", guise))  # whole: see ``fuzz_messages``
    if draw < 11:
        return "http2/garbage", b"".join(_session(rng, "garbage", guise))
    if draw < 17:
        return "http2/every", b"".join(_session(rng, "every", guise))  # whole, too
    pieces = _session(rng, "ask", guise)
    done = damage_pieces(rng, pieces, first=1) if rng.random() < 0.5 else "whole"
    data = b"".join(pieces)
    if rng.random() < 0.7:
        done, data = damage_bytes(rng, data, first=rng.choice((0, 24, 24, 24)))
    return f"http2/{done}", data
