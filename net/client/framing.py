"""HTTP/2 as a gRPC client needs it, without I/O: frames in, frames out, windows in both directions.

The client's calls fill one shape of stream: HEADERS, DATA, and on the way back HEADERS, DATA, HEADERS. This
half knows that shape, shares its frame and HPACK modules with the server's half in ``core.wire``, and costs a
fifth of a general library; simulations spend a quarter of their time in the clients otherwise.

``receive`` returns what happened as tuples (kind, stream id, value); the connection gives them to its calls.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from tercet.core.errors import Rejected
from tercet.core.wire.hpack_decode import Field, HeaderDecoder, HeaderListTooLarge, HpackError
from tercet.core.wire.hpack_encode import encode_plain
from tercet.core.wire.http2_frames import (
    DEFAULT_WINDOW,
    FRAME,
    FRAME_BYTES,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PREFACE,
    Flag,
    FrameType,
    Setting,
    headers_frames,
    reset_frame,
    settings_frame,
    window_frame,
)

__all__ = ["ClientFraming", "Event", "FramingError"]

STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
#: Longest frame we announce to take, and longest header block.
FRAME_BYTES_MAX: Final = 16384
BLOCK_BYTES_MAX: Final = 65536
CACHED_BLOCKS: Final = 256

#: ("data", id, bytes), ("headers", id, fields), ("end", id, None), ("reset", id, code), ("room", id, None)
#: when a window has opened (id 0: any stream), ("goaway", last id, None).
Event: TypeAlias = tuple[str, int, object]

_ACK: Final = settings_frame(())[:4] + bytes((Flag.ACK,)) + bytes(4)


class FramingError(Rejected):
    """The server broke the protocol; the connection must be closed."""


class ClientFraming:
    """One connection's framing state. ``take_output`` must be sent after every call that may write."""

    def __init__(self, authority: str) -> None:
        self._authority = authority.encode()
        self._blocks: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        self._decoder = HeaderDecoder()
        self._decoded: dict[bytes, list[Field]] = {}
        self._buffer = b""
        self._block = b""  # of a HEADERS frame that CONTINUATIONs complete
        self._block_stream = 0
        self._block_ends = False
        self._next_stream = 1
        self._room = DEFAULT_WINDOW  # what we may send on the connection
        self._rooms: dict[int, int] = {}  # ... and on each open stream
        self._first_room = DEFAULT_WINDOW
        self._frame_bytes = 16384  # what the server takes in one frame
        self._streams_max = 100
        self._taken = 0  # received on the connection and not yet given back
        self._taken_on: dict[int, int] = {}
        self._output: list[bytes] = [
            PREFACE,
            settings_frame(
                (
                    (Setting.ENABLE_PUSH, 0),
                    (Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                    (Setting.MAX_HEADER_LIST_SIZE, BLOCK_BYTES_MAX),
                )
            ),
            window_frame(0, CONNECTION_WINDOW - DEFAULT_WINDOW),
        ]

    def take_output(self) -> bytes:
        """What must be sent now, in order."""
        output, self._output = self._output, []
        return output[0] if len(output) == 1 else b"".join(output)

    def open(self, path: str, metadata: tuple[tuple[str, str], ...]) -> int:
        """Begin a request; its stream id, or 0 when the connection takes no more streams now."""
        if len(self._rooms) >= self._streams_max or self._next_stream > MAX_STREAM_ID:
            return 0
        stream_id = self._next_stream
        self._next_stream += 2
        self._rooms[stream_id] = self._first_room
        block = self._blocks.get((path, metadata))
        if block is None:
            if len(self._blocks) >= CACHED_BLOCKS:
                self._blocks.clear()
            block = self._blocks[path, metadata] = self._request_block(path, metadata)
        self._output.append(headers_frames(stream_id, block, False, self._frame_bytes))
        return stream_id

    def send(self, stream_id: int, data: bytes, end: bool) -> int:
        """Send as much of ``data`` as the windows allow; how many bytes. ``end`` goes with the last one."""
        if stream_id not in self._rooms:
            return len(data)
        allowed = min(len(data), self._room, self._rooms[stream_id])
        if allowed <= 0 < len(data):
            return 0
        self._room -= allowed
        self._rooms[stream_id] -= allowed
        for start in range(0, allowed or 1, self._frame_bytes):
            part = data[start : min(start + self._frame_bytes, allowed)]
            last = end and start + len(part) == len(data)
            size = len(part)
            flags = Flag.END_STREAM if last else 0
            self._output.append(FRAME.pack(size >> 8, size & 255, FrameType.DATA, flags, stream_id) + part)
        return allowed

    def reset(self, stream_id: int, code: int) -> None:
        """Give a stream up."""
        if self._forget(stream_id):
            self._output.append(reset_frame(stream_id, code))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._output.append(FRAME.pack(0, 8, FrameType.PING, 0, 0) + bytes(8))

    def receive(self, data: bytes) -> list[Event]:
        """Take received bytes; what they tell. Raises ``FramingError``."""
        if self._buffer:
            data = self._buffer + data
        events: list[Event] = []
        position, end = 0, len(data)
        while end - position >= FRAME_BYTES:
            high, low, kind, flags, stream_id = FRAME.unpack_from(data, position)
            start = position + FRAME_BYTES
            size = high << 8 | low
            if size > FRAME_BYTES_MAX:
                raise FramingError(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX} are allowed")
            position = start + size
            if position > end:
                position = start - FRAME_BYTES
                break
            self._take(kind, flags, stream_id & MAX_STREAM_ID, data[start:position], events)
        self._buffer = data[position:]
        if self._taken >= CONNECTION_WINDOW // 4:
            self._output.append(window_frame(0, self._taken))
            self._taken = 0
        return events

    # Frames.

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        if self._block_stream and kind != FrameType.CONTINUATION:
            raise FramingError("a header block was interrupted")
        if kind == FrameType.DATA:
            self._take_data(flags, stream_id, payload, events)
        elif kind == FrameType.HEADERS:
            block = _unpadded(flags, payload)
            if flags & Flag.PRIORITY:
                block = block[5:]
            self._block, self._block_stream = block, stream_id
            self._block_ends = bool(flags & Flag.END_STREAM)
            self._end_block(flags, events)
        elif kind == FrameType.CONTINUATION:
            if stream_id != self._block_stream or not stream_id:
                raise FramingError("a CONTINUATION without its HEADERS")
            self._block += payload
            if len(self._block) > BLOCK_BYTES_MAX:
                raise FramingError("a header block is too long")
            self._end_block(flags, events)
        elif kind == FrameType.WINDOW_UPDATE:
            self._take_window(stream_id, payload, events)
        elif kind == FrameType.SETTINGS:
            self._take_settings(flags, payload, events)
        elif kind == FrameType.PING:
            if len(payload) != 8:
                raise FramingError("a PING must have eight bytes")
            if not flags & Flag.ACK:
                self._output.append(FRAME.pack(0, 8, FrameType.PING, Flag.ACK, 0) + payload)
        elif kind == FrameType.RST_STREAM:
            if len(payload) != 4:
                raise FramingError("a RST_STREAM must have four bytes")
            if self._forget(stream_id):
                events.append(("reset", stream_id, int.from_bytes(payload, "big")))
        elif kind == FrameType.GOAWAY:
            if len(payload) < 8:
                raise FramingError("a GOAWAY must have eight bytes or more")
            events.append(("goaway", int.from_bytes(payload[:4], "big") & MAX_STREAM_ID, None))
        elif kind == FrameType.PUSH_PROMISE:
            raise FramingError("the server pushes though it may not")

    def _take_data(self, flags: int, stream_id: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        self._taken += size
        if self._taken > CONNECTION_WINDOW:
            raise FramingError("the server sends beyond the connection's window")
        if stream_id not in self._rooms:
            return
        data = _unpadded(flags, payload) if flags & Flag.PADDED else payload
        if data:
            events.append(("data", stream_id, data))
        if flags & Flag.END_STREAM:
            self._forget(stream_id)
            events.append(("end", stream_id, None))
            return
        taken = self._taken_on.get(stream_id, 0) + size
        if taken >= STREAM_WINDOW // 4:
            self._output.append(window_frame(stream_id, taken))
            taken = 0
        self._taken_on[stream_id] = taken

    def _end_block(self, flags: int, events: list[Event]) -> None:
        if not flags & Flag.END_HEADERS:
            return
        stream_id, block = self._block_stream, self._block
        self._block_stream, self._block = 0, b""
        fields = self._decoded.get(block)
        if fields is None:
            try:
                fields = self._decoder.decode(block)
            except (HpackError, HeaderListTooLarge) as error:
                raise FramingError(str(error)) from error
            if self._decoder.changed or len(self._decoded) >= CACHED_BLOCKS:
                self._decoded.clear()
            if not self._decoder.changed:
                self._decoded[block] = fields
        if stream_id in self._rooms:
            events.append(("headers", stream_id, fields))
            if self._block_ends:
                self._forget(stream_id)
                events.append(("end", stream_id, None))

    def _take_window(self, stream_id: int, payload: bytes, events: list[Event]) -> None:
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if len(payload) != 4 or not increment:
            raise FramingError("a WINDOW_UPDATE must have four bytes and open the window")
        if stream_id == 0:
            self._room += increment
        elif stream_id in self._rooms:
            self._rooms[stream_id] += increment
        events.append(("room", stream_id, None))

    def _take_settings(self, flags: int, payload: bytes, events: list[Event]) -> None:
        if flags & Flag.ACK:
            return
        if len(payload) % 6:
            raise FramingError("SETTINGS must be pairs of six bytes")
        for key, value in struct.iter_unpack(">HI", payload):
            if key == Setting.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise FramingError(f"need an initial window <= {MAX_WINDOW}, got {value}")
                for stream_id in self._rooms:
                    self._rooms[stream_id] += value - self._first_room
                self._first_room = value
            elif key == Setting.MAX_FRAME_SIZE:
                if not 16384 <= value < 1 << 24:
                    raise FramingError(f"need 16384 <= frame size < 2**24, got {value}")
                self._frame_bytes = value
            elif key == Setting.MAX_CONCURRENT_STREAMS:
                self._streams_max = value
        self._output.append(_ACK)
        events.append(("room", 0, None))

    def _forget(self, stream_id: int) -> bool:
        """The stream has ended on the server's side; False if it had before."""
        self._taken_on.pop(stream_id, None)
        return self._rooms.pop(stream_id, None) is not None

    def _request_block(self, path: str, metadata: tuple[tuple[str, str], ...]) -> bytes:
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", self._authority),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"tercet"),
        ]
        return encode_plain([*fields, *((name.encode(), value.encode()) for name, value in metadata)])


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & Flag.PADDED:
        return payload
    padding = payload[0] if payload else 256
    if padding >= len(payload):
        raise FramingError("a frame has more padding than bytes")
    return payload[1 : len(payload) - padding]
