"""One record of the write-ahead log: all that one sync makes durable, as bytes that can be told apart.

A record holds a hard state, entries, or both. At most one record is ever written but not yet synced, so only
the last can be torn by a crash. Whether a bad last record is torn (cut it: nobody was promised anything) or
rotten (stop: it was acknowledged) is decided by sectors. A disk writes a sector wholly or not at all, and
what was there before is zeros; so a torn record has a sector that is still all zeros. To make that a proof,
no record ever contains such a sector:

* the first eight bytes (length, kind, mask, and a check over the three) never straddle a sector, since
  records start at multiples of eight, and are never all zero;
* a payload with a long run of zeros is stored XORed with a byte that makes it have none (the mask);
* a record ends with one to eight bytes of non-zero padding.

Layout, little-endian: length of the payload u32, kind u8, mask u8, check u16, checksum of the record before
u32, checksum u32, payload, padding. The checksum is CRC-32C, seeded by the segment's header, over the
offset in the file, the three first fields, the checksum before, and the payload as stored.
"""

from __future__ import annotations

import struct

import msgspec

from ..raft.types import Entry, HardState
from .format import SECTOR, checksum

__all__ = [
    "KIND_STATE", "RECORD_HEADER", "Frame", "Position", "Record", "decode_payload", "encode_record",
    "frame_at", "payload_of", "record_bytes",
]

#: Kinds of records; others are reserved (snapshots).
KIND_STATE = 1

_FIRST = struct.Struct("<IBB")
_HEADER = struct.Struct("<IBBHII")
_COVERED = struct.Struct("<QIBBI")
RECORD_HEADER = _HEADER.size  # 16
_ZEROS = bytes(SECTOR)
_PADDING = tuple(bytes([size]) * size for size in range(9))


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What one append made durable. ``entries`` follow each other without a gap."""

    hard_state: HardState | None
    entries: tuple[Entry, ...] = ()
    base: tuple[int, int] | None = None  # index and term: the log is void up to here, and goes on after it


class Position(msgspec.Struct, frozen=True):
    """Where the next record of a segment goes, and what its checksum continues from."""

    seed: int  # of the segment
    offset: int  # in bytes from the start of the file; a multiple of 8
    crc: int  # of the record before


class Frame(msgspec.Struct, frozen=True):
    """A record's header as found."""

    length: int  # of the payload
    kind: int
    mask: int
    previous_crc: int
    crc: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def record_bytes(length: int) -> int:
    """The size in the file of a record whose payload has ``length`` bytes."""
    return (RECORD_HEADER + length + 8) & ~7


def _check(first: bytes) -> int:
    return checksum(first) & 0xFFFF


def _crc(seed: int, offset: int, length: int, kind: int, mask: int, previous_crc: int, payload: bytes) -> int:
    return checksum(payload, checksum(_COVERED.pack(offset, length, kind, mask, previous_crc), seed))


def _choose_mask(payload: bytes) -> int:
    """A byte of which the payload has no run of a sector's length; 0 when none qualifies.

    The latter takes a payload of 128 KiB made for the purpose, and costs only the proof that a damaged
    last record is not a torn one.
    """
    for mask in range(1, 256):
        if bytes([mask]) * SECTOR not in payload:
            return mask
    return 0


def _masked(payload: bytes, mask: int) -> bytes:
    return payload.translate(bytes(byte ^ mask for byte in range(256))) if mask else payload


def encode_record(
    position: Position,
    hard_state: HardState | None,
    entries: tuple[Entry, ...],
    base: tuple[int, int] | None = None,
) -> tuple[bytes, Position]:
    """Encode one record for ``position``; returns its bytes and the position after it."""
    payload = _encoder.encode((hard_state, entries) if base is None else (hard_state, entries, base))
    mask = 0
    if _ZEROS in payload:
        mask = _choose_mask(payload)
        payload = _masked(payload, mask)
    length = len(payload)
    crc = _crc(position.seed, position.offset, length, KIND_STATE, mask, position.crc, payload)
    check = _check(_FIRST.pack(length, KIND_STATE, mask))
    header = _HEADER.pack(length, KIND_STATE, mask, check, position.crc, crc)
    data = b"".join((header, payload, _PADDING[8 - (RECORD_HEADER + length) % 8]))
    return data, Position(position.seed, position.offset + len(data), crc)


def frame_at(data: bytes, offset: int) -> Frame | None:
    """The record header at ``offset``; None when its first eight bytes do not check."""
    if offset + RECORD_HEADER > len(data):
        return None
    length, kind, mask, check, previous_crc, crc = _HEADER.unpack_from(data, offset)
    if kind == 0 or _check(data[offset : offset + _FIRST.size]) != check:
        return None
    return Frame(length, kind, mask, previous_crc, crc)


def payload_of(data: bytes, offset: int, frame: Frame, seed: int) -> bytes | None:
    """The payload of the record at ``offset`` as it was given; None when bytes are missing or wrong."""
    start = offset + RECORD_HEADER
    end = start + frame.length
    padding = data[end : offset + record_bytes(frame.length)]
    if padding != _PADDING[8 - (RECORD_HEADER + frame.length) % 8]:
        return None
    stored = data[start:end]
    crc = _crc(seed, offset, frame.length, frame.kind, frame.mask, frame.previous_crc, stored)
    return _masked(stored, frame.mask) if crc == frame.crc else None


def decode_payload(payload: bytes) -> Record:
    """Decode a payload; ``msgspec.DecodeError`` when it is not a record of this version."""
    return _decoder.decode(payload)
