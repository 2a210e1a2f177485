"""How a segment of the write-ahead log begins, and what it is called.

A log is a row of segments, ``<sequence>-<first index>.wal`` in hexadecimal. A segment is a file of a fixed
capacity, zeros when made, so that a sync of a record seldom has to touch the file's metadata. It begins with
one sector of header: who owns it (cluster and member), the format's version, its place in the row, the
checksum the last segment ended with (so that no segment can be lost or swapped unseen) and a nonce. The
header's own checksum covers the nonce and seeds the checksum of every record inside, so nobody who only
chooses the values stored can make bytes that pass for a record.

A segment is made under a temporary name, synced, then renamed: it exists wholly or not at all.
"""

from __future__ import annotations

import struct

import google_crc32c
import msgspec

from ..errors import Corruption, Rejected

__all__ = [
    "FORMAT_VERSION", "HEADER_BYTES", "SECTOR", "SEGMENT_BYTES", "Identity", "SegmentHeader",
    "WrongDirectory", "checksum", "corrupt", "decode_header", "encode_header", "segment_name",
]

FORMAT_VERSION = 1
#: What a disk writes wholly or not at all. Larger real sectors only make tears rarer.
SECTOR = 512
#: The header fills the first sector, so records start on a sector of their own.
HEADER_BYTES = SECTOR
#: Capacity of a segment unless told otherwise: 64 MiB, as in etcd.
SEGMENT_BYTES = 64 << 20

_MAGIC = b"TERCETWL"
_ADVICE = (
    "Restore this file from a copy, or remove the member from the cluster, clear its data directory and "
    "add it again; do not edit the file"
)
#: magic, format version, crc of the log so far, cluster, member, sequence, first index, capacity, nonce
_HEADER = struct.Struct("<8sIIQQQQQQ")
_CRC = struct.Struct("<I")


class Identity(msgspec.Struct, frozen=True):
    """Whose log it is: etcd's cluster and member ids."""

    cluster_id: int
    member_id: int


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first sector of a segment."""

    identity: Identity
    sequence: int  # 0 for the first segment, then one more each
    first_index: int  # one more than the last log index when the segment was made; entries may be lower
    capacity: int  # the file's size in bytes; a shorter file has been cut by somebody
    previous_crc: int  # of the last record of the segment before; 0 in the first
    nonce: int  # 64 random bits

    @property
    def seed(self) -> int:
        """The checksum that every record of this segment starts from."""
        return checksum(_pack(self))


class WrongDirectory(Rejected):
    """The data directory belongs to another cluster, member or version: nothing in it was touched."""


def corrupt(name: str, offset: int, what: str) -> Corruption:
    """The error that stops the node: which file, where, what is wrong, what to do."""
    return Corruption(f"WAL segment {name}, offset {offset}: {what}. {_ADVICE}")


def checksum(data: bytes, seed: int = 0) -> int:
    """CRC-32C of ``data``, continued from ``seed``."""
    return int(google_crc32c.extend(seed, data))


def segment_name(header: SegmentHeader) -> str:
    """The file name; names sort as their segments follow each other."""
    return f"{header.sequence:016x}-{header.first_index:016x}.wal"


def _pack(header: SegmentHeader) -> bytes:
    owner = header.identity
    return _HEADER.pack(
        _MAGIC, FORMAT_VERSION, header.previous_crc, owner.cluster_id, owner.member_id, header.sequence,
        header.first_index, header.capacity, header.nonce,
    )


def encode_header(header: SegmentHeader) -> bytes:
    """The first ``HEADER_BYTES`` of a segment."""
    packed = _pack(header)
    return (packed + _CRC.pack(checksum(packed))).ljust(HEADER_BYTES, b"\0")


def decode_header(name: str, data: bytes) -> SegmentHeader:
    """Read a segment's first sector.

    Args:
        name: the file's name, for messages.
        data: the file's content; only the first sector is looked at.

    Raises:
        Corruption: it is not a header, or its checksum is wrong.
        WrongDirectory: another version of the format wrote it.
    """
    if len(data) < HEADER_BYTES or data[:8] != _MAGIC:
        raise corrupt(name, 0, "not a segment of Tercet's log (wrong first bytes)")
    packed = data[: _HEADER.size]
    (stored,) = _CRC.unpack_from(data, _HEADER.size)
    if checksum(packed) != stored or any(data[_HEADER.size + _CRC.size : HEADER_BYTES]):
        raise corrupt(name, 0, "the header's checksum is wrong")
    _, version, previous_crc, cluster, member, sequence, first_index, capacity, nonce = _HEADER.unpack(packed)
    if version != FORMAT_VERSION:
        raise WrongDirectory(
            f"WAL segment {name} has format version {version}, this program writes {FORMAT_VERSION}"
        )
    return SegmentHeader(
        identity=Identity(cluster, member), sequence=sequence, first_index=first_index, capacity=capacity,
        previous_crc=previous_crc, nonce=nonce,
    )
