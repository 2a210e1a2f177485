"""Random and mutated sessions against the server half of HTTP/2: it must never raise, and stay bounded.

``python -m tests.core.fuzz_wire SEED COUNT`` runs as many streams of bytes as asked for; a stream is a
function of its seed, which is named when something goes wrong.
"""

from __future__ import annotations

import random
import struct
import sys

from hpack import Encoder

from tercet.core.wire.grpc import frame_message
from tercet.core.wire.http2 import ServerConnection
from tercet.core.wire.http2_frames import FRAME, PREFACE, settings_frame
from tercet.core.wire.http2_limits import Http2Limits
from tercet.core.wire.http2_streams import MessageReceived, Stream, StreamOpened, UnaryRequest

from .http2_tools import PUT, ROUTES, WATCH, fields, frame, window

_LIMITS = Http2Limits(max_queued_bytes=1 << 20, max_buffered_bytes=1 << 20, max_streams=20)


def _session(rng: random.Random) -> list[bytes]:
    """A session that is mostly valid, as its pieces."""
    encoder = Encoder()
    pieces = [PREFACE, settings_frame(((4, rng.choice([0, 1, 100, 65535, 1 << 20])),))]
    stream_id = 1
    for _ in range(rng.randrange(1, 12)):
        path = rng.choice([PUT, PUT, WATCH, "/no.Such/Thing", ""])
        more = [("grpc-timeout", f"{rng.randrange(1, 10**8)}m")] if rng.random() < 0.5 else []
        block = encoder.encode(fields(path, *more, method=rng.choice(["POST"] * 9 + ["GET"])))
        data = frame_message(rng.randbytes(rng.choice([0, 5, 50, 3000])))
        shape = rng.randrange(6)
        if shape == 0 and len(block) > 2:
            pieces += [frame(1, 0, stream_id, block[:2]), frame(9, 4, stream_id, block[2:])]
        else:
            pieces.append(frame(1, 4, stream_id, block))
        if shape == 1:
            pieces += [frame(0, 0, stream_id, data[:3]), frame(0, 9, stream_id, b"\2" + data[3:] + b"\0\0")]
        elif shape == 2:
            pieces.append(frame(3, 0, stream_id, bytes(4)))
        elif shape == 3:
            pieces += [frame(0, 0, stream_id, data), frame(1, 5, stream_id, encoder.encode([("x", "y")]))]
        else:
            pieces.append(frame(0, 1, stream_id, data))
        pieces.append(rng.choice([b"", window(0, 1000), window(stream_id, 70000), frame(6, 0, 0, bytes(8))]))
        stream_id += rng.choice([2, 2, 2, 4])
    return pieces


def _mutate(rng: random.Random, pieces: list[bytes]) -> bytes:
    """Swap, drop, repeat and forge frames, then change single bytes."""
    for _ in range(rng.randrange(4)):
        index = rng.randrange(1, len(pieces))
        act = rng.randrange(4)
        if act == 0:
            del pieces[index]
        elif act == 1:
            pieces.insert(index, rng.choice(pieces))
        elif act == 2:
            head = struct.pack(">HBBBI", 0, 8, rng.randrange(12), rng.randrange(256), rng.randrange(6))
            pieces.insert(index, head + rng.randbytes(8))
        else:
            other = rng.randrange(1, len(pieces))
            pieces[index], pieces[other] = pieces[other], pieces[index]
    data = bytearray(b"".join(pieces))
    if rng.random() < 0.6:
        for _ in range(rng.randrange(4)):
            data[rng.randrange(24, len(data))] = rng.randrange(256)
    return bytes(data)


def session_bytes(rng: random.Random) -> bytes:
    """A mostly valid session in which at most some frames were tampered with."""
    return _mutate(rng, _session(rng))


def one_stream(seed: int) -> bool:
    """Run one stream of bytes; whether the connection survived it."""
    rng = random.Random(seed)
    kind = rng.randrange(10)
    if kind == 0:
        data = rng.randbytes(rng.randrange(200))
    elif kind == 1:
        data = PREFACE + settings_frame(()) + rng.randbytes(rng.randrange(400))
    else:
        data = session_bytes(rng)
    server = ServerConnection(_LIMITS, ROUTES, [])
    held: list[UnaryRequest] = []
    streams: list[Stream] = []
    now = 0.0
    while data:
        size = rng.choice([1, 9, 100, len(data)])
        part, data = data[:size], data[size:]
        now += rng.random()
        for event in server.receive(part, now):
            if isinstance(event, UnaryRequest):
                held.append(event)
            elif isinstance(event, StreamOpened):
                streams.append(event.stream)
            elif isinstance(event, MessageReceived) and rng.random() < 0.8:
                server.consumed(event.stream, event.message)
        while held and rng.random() < 0.7:
            request = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.8:
                request.reply(rng.randbytes(rng.choice([0, 30, 40_000])))
            else:
                request.fail(rng.randrange(1, 17), "because ü%")
        for stream in streams:
            if rng.random() < 0.2:
                server.send_message(stream, rng.randbytes(rng.choice([0, 30, 40_000])))
            if rng.random() < 0.05:
                server.finish(stream, rng.randrange(17), "")
        if rng.random() < 0.05:
            server.drain()
        server.expire(now)
        check_output(server.take_output())
        check_books(server)
    server.cut_off()
    assert not server.streams
    assert server.queued_bytes == 0
    return not server.reason


def check_output(data: bytes) -> None:
    """What the server writes is whole frames of legal size."""
    position = 0
    while position < len(data):
        high, low, kind, _, stream_id = FRAME.unpack_from(data, position)
        assert kind in (0, 1, 3, 4, 6, 7, 8, 9)
        assert stream_id < 1 << 31
        position += 9 + (high << 8 | low)
    assert position == len(data)


def check_books(server: ServerConnection) -> None:
    """The sums that bound the memory are the sums of their parts."""
    streams = list(server.streams.values())
    assert server.queued_bytes == sum(getattr(s, "queued", 0) for s in streams)
    held = 0
    for stream in streams:
        reader = getattr(stream, "reader", None)
        if reader is not None:
            held += (
                reader.pending + getattr(stream, "unread", 0) + len(getattr(stream, "message", None) or b"")
            )
    assert server.buffered_bytes == held
    assert len(streams) <= _LIMITS.max_streams


def fuzz(seed: int, count: int) -> int:
    """Run ``count`` streams; how many connections survived.

    Raises:
        AssertionError: a stream broke a promise; names its seed.
    """
    survived = 0
    for number in range(seed, seed + count):
        try:
            survived += one_stream(number)
        except Exception as error:
            raise AssertionError(f"stream {number} broke the server") from error
    return survived


if __name__ == "__main__":
    first, many = int(sys.argv[1]), int(sys.argv[2])
    print(f"seed {first}: {fuzz(first, many)} of {many} connections survived")
