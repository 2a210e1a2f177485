"""The write-ahead log's format and recovery decisions: bytes in, values out."""

from .format import (
    HEADER_BYTES,
    SECTOR,
    SEGMENT_BYTES,
    Identity,
    SegmentHeader,
    WrongDirectory,
    encode_header,
    segment_name,
)
from .reader import Recovery, Tail, Torn, recover
from .record import Position, Record, encode_record

__all__ = [
    "HEADER_BYTES", "SECTOR", "SEGMENT_BYTES", "Identity", "Position", "Record", "Recovery", "SegmentHeader",
    "Tail", "Torn", "WrongDirectory", "encode_header", "encode_record", "recover", "segment_name",
]
