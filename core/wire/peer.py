"""The frames that members exchange on the peer port: bytes in, values out, no I/O.

A connection begins with eight magic bytes from the dialling side, which also tell it apart from an
HTTP request on the same port. After them both directions are frames: length and CRC-32C of the payload,
four bytes each, big-endian, then the payload in msgspec's msgpack. The first frame of the dialler is
``Hello``; the other end answers ``Welcome`` or ``Refusal`` and only then accepts more. Everything that
is too long, damaged or of another shape is a ``PeerProtocolError``: the connection is closed, and Raft
repeats what was lost.

One connection carries the dialler's Raft messages and calls; the answers to calls come back on it. A
lost batch is never repeated by this layer. A snapshot travels on a connection of its own
(``Hello.snapshot``): offer, how much is held already, chunks and their acknowledgements, end, verdict.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

import google_crc32c
import msgspec

from ..errors import Rejected
from ..raft.types import Message, Natural, SnapshotRequest

__all__ = [
    "FORMAT_VERSION", "FRAME_BYTES_MAX", "HELLO_BYTES_MAX", "MAGIC", "Answer", "Batch", "Call", "Frame",
    "FrameDecoder", "Hello", "PeerProtocolError", "Ping", "Pong", "Refusal", "Row", "SnapshotChunk",
    "SnapshotEnd", "SnapshotHeld", "SnapshotOffer", "SnapshotTaken", "Welcome", "encode", "encode_batches",
    "rows_checksum",
]

MAGIC: Final = b"TERCET\r\n"
FORMAT_VERSION: Final = 1
#: Longest payload once the hello is done: an append of 1 MiB, one entry of 1.5 MiB and some room.
FRAME_BYTES_MAX: Final = 16 << 20
#: Longest payload before a stranger has introduced itself.
HELLO_BYTES_MAX: Final = 1024
#: A batch is cut into several frames beyond about this many bytes of entries.
BATCH_BYTES: Final = 4 << 20

_PREFIX: Final = struct.Struct(">II")


class PeerProtocolError(Rejected):
    """The bytes received are not a frame of this protocol; the connection must be closed."""


class _Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Hello(_Frame, frozen=True, array_like=True, tag="Hello"):
    """Who dials, and whom it believes to have reached."""

    format_version: int
    cluster_id: int
    sender: int
    to: int
    peer_urls: tuple[str, ...] = ()  # where the sender can be dialled: one that is new may not be known yet
    snapshot: bool = False  # the connection carries one snapshot, and nothing else


class Welcome(_Frame, frozen=True, array_like=True, tag="Welcome"):
    """The hello was accepted by member ``sender``."""

    sender: int


class Refusal(_Frame, frozen=True, array_like=True, tag="Refusal"):
    """The hello was refused; ``reason`` is for a person. The connection is closed after it."""

    reason: str
    removed: bool = False  # the sender is no member any more and never will be again: it must stop


class Batch(_Frame, frozen=True, array_like=True, tag="Batch"):
    """Raft messages, in the order they were sent."""

    messages: tuple[Message, ...]


class Call(_Frame, frozen=True, array_like=True, tag="Call"):
    """A request to the other member's services; ``number`` is unique on its connection."""

    number: int
    method: str
    payload: bytes


class Answer(_Frame, frozen=True, array_like=True, tag="Answer"):
    """The answer to call ``number``: ``code`` is a gRPC status, 0 with ``payload``, else with ``text``."""

    number: int
    code: int
    text: str
    payload: bytes
    definite: bool = True  # of an error: the call certainly had no effect


class Ping(_Frame, frozen=True, array_like=True, tag="Ping"):
    """Is anybody there? Sent by the dialler; a half-open connection stays silent."""


class Pong(_Frame, frozen=True, array_like=True, tag="Pong"):
    """The answer to ``Ping``."""


#: What a backend holds: bucket, key, value.
Row: TypeAlias = tuple[str, bytes, bytes]


class SnapshotOffer(_Frame, frozen=True, array_like=True, tag="SnapshotOffer"):
    """A snapshot is to be sent on this connection, and this is what Raft is to be told when all is there.

    ``snapshot_id`` is drawn for it, and kept when the connection is cut and another one goes on with it.
    """

    snapshot_id: Natural
    request: SnapshotRequest


class SnapshotHeld(_Frame, frozen=True, array_like=True, tag="SnapshotHeld"):
    """The receiver holds the first ``chunks`` chunks of it: the answer to an offer, and to chunks."""

    snapshot_id: Natural
    chunks: Natural


class SnapshotChunk(_Frame, frozen=True, array_like=True, tag="SnapshotChunk"):
    """Rows of the snapshot, in order; ``number`` counts from 0."""

    number: Natural
    rows: tuple[Row, ...]


class SnapshotEnd(_Frame, frozen=True, array_like=True, tag="SnapshotEnd"):
    """That was all: how many chunks, and the CRC-32C over every key and value in order."""

    chunks: Natural
    checksum: Natural


class SnapshotTaken(_Frame, frozen=True, array_like=True, tag="SnapshotTaken"):
    """The receiver has all of it; ``reason`` "" or why it cannot use it."""

    reason: str


Frame: TypeAlias = (
    Hello | Welcome | Refusal | Batch | Call | Answer | Ping | Pong
    | SnapshotOffer | SnapshotHeld | SnapshotChunk | SnapshotEnd | SnapshotTaken
)


def rows_checksum(rows: tuple[Row, ...], checksum: int) -> int:
    """The running CRC-32C of a snapshot, continued over these rows."""
    for _, key, value in rows:
        checksum = google_crc32c.extend(google_crc32c.extend(checksum, key), value)
    return checksum

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Frame]] = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """Serialise one frame with its prefix."""
    payload = _encoder.encode(frame)
    return _PREFIX.pack(len(payload), google_crc32c.value(payload)) + payload


def _weight(message: Message) -> int:
    """About how many bytes a message takes, by its entries."""
    entries = getattr(message, "entries", None)
    if not entries:
        return 64
    total = 64
    for entry in entries:
        total += 32 + (len(entry) if type(entry) is bytes else len(entry.data))
    return total


def encode_batches(messages: list[Message]) -> bytes:
    """Serialise messages for one peer as one frame, or as several when they are large."""
    if len(messages) == 1:
        return encode(Batch((messages[0],)))
    frames: list[bytes] = []
    batch: list[Message] = []
    weight = 0
    for message in messages:
        size = _weight(message)
        if batch and weight + size > BATCH_BYTES:
            frames.append(encode(Batch(tuple(batch))))
            batch, weight = [], 0
        batch.append(message)
        weight += size
    if batch:
        frames.append(encode(Batch(tuple(batch))))
    return b"".join(frames)


class FrameDecoder:
    """Cuts a stream of bytes into frames. ``bytes_max`` bounds a payload and so the memory held.

    Invariant: never holds more than one incomplete frame and the bytes of the last ``feed``.
    """

    def __init__(self, bytes_max: int = HELLO_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.fed_bytes = 0  # so far
        self._buffer = bytearray()
        self._need = _PREFIX.size  # bytes of the buffer before trying again

    def feed(self, data: bytes) -> list[Frame]:
        """Take received bytes; return the frames that are now complete.

        Raises:
            PeerProtocolError: too long, damaged, or not a frame; the decoder must not be used again.
        """
        buffer = self._buffer
        buffer += data
        self.fed_bytes += len(data)
        if len(buffer) < self._need:
            return []
        frames: list[Frame] = []
        start = 0
        total = len(buffer)
        with memoryview(buffer) as view:
            while True:
                if total - start < _PREFIX.size:
                    self._need = _PREFIX.size
                    break
                length, checksum = _PREFIX.unpack_from(view, start)
                if length > self.bytes_max:
                    raise PeerProtocolError(f"frame of {length} bytes, at most {self.bytes_max} are allowed")
                end = start + _PREFIX.size + length
                if end > total:
                    self._need = _PREFIX.size + length
                    break
                payload = bytes(view[start + _PREFIX.size : end])
                frames.append(_decode(payload, checksum))
                start = end
        del buffer[:start]
        return frames


def _decode(payload: bytes, checksum: int) -> Frame:
    if google_crc32c.value(payload) != checksum:
        raise PeerProtocolError("checksum of a frame does not match")
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PeerProtocolError(f"not a frame: {error}") from error
