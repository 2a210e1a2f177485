"""Reading the log back: what may be believed, what is cut, and when to stop.

The rule, for the first position in the row of segments where no good record follows:

* Nothing but zeros up to the end of the file: the log ends here.
* Anywhere but in the last segment: corruption. Only the last segment is written to.
* The record's first sector is still zeros although bytes follow: torn, unless a good record stands later:
  then the missing one had been synced, and it is corruption.
* The record's header is good: torn if one of its sectors is all zeros (see ``record``: no whole record has
  such a sector) and nothing follows it; otherwise every sector was written and yet the bytes are wrong, or
  something was written after it, so it had been synced: corruption.
* Anything else (a header that does not check): corruption; a tear cannot leave half a header.

A torn record is cut: nobody was told that it is durable, for that happens after the sync. Cutting means to
write zeros over it, so that the rule holds for the next crash. Corruption means that bytes were lost or
changed that others may rely on; guessing could undo an acknowledged write, so the node stops.

The first segments are removed once their entries are needed no more, so the row may begin with any; whether
the entries that are left begin early enough is for the state machine's side to say. A record with a base
makes everything before it void: a snapshot has taken its place.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..raft.types import Entry, HardState
from .format import (
    HEADER_BYTES,
    SECTOR,
    Identity,
    SegmentHeader,
    WrongDirectory,
    corrupt,
    decode_header,
)
from .record import KIND_STATE, Position, Record, decode_payload, frame_at, payload_of, record_bytes

__all__ = ["Recovery", "Tail", "Torn", "recover"]

_BLANK = bytes(1 << 16)


class Torn(msgspec.Struct, frozen=True):
    """A record that was being written when the machine died. Overwrite ``[offset, end)`` with zeros."""

    offset: int
    end: int


class Tail(msgspec.Struct, frozen=True):
    """Where the log goes on."""

    name: str  # of the last segment
    header: SegmentHeader
    position: Position
    torn: Torn | None


class Recovery:
    """Builds the recovered state from segments fed in order; the log of entries is kept in memory.

    ``feed`` raises ``Corruption`` or ``WrongDirectory``; after that the value must not be used.
    """

    def __init__(self, identity: Identity | None) -> None:
        """Start with nothing; ``identity`` None accepts any owner (tools that only look)."""
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.base: tuple[int, int] | None = None  # index and term where the log began anew
        self.records = 0
        self.highest: list[int] = []  # by segment: the highest index of an entry in it, 0 when it has none
        self.tail: Tail | None = None
        self._identity = identity

    def feed(self, name: str, data: bytes, *, last: bool) -> None:
        """Read one segment; ``last`` tells that no other follows."""
        header = decode_header(name, data)
        self._check_header(name, header, len(data))
        position = Position(header.seed, HEADER_BYTES, header.previous_crc)
        self.highest.append(0)
        torn: Torn | None = None
        while True:
            record = _read(name, data, position)
            if record is None:
                torn = _end(name, data, position, last=last)
                break
            self._take(name, position.offset, record[0])
            position = record[1]
        self.tail = Tail(name, header, position, torn)

    def _check_header(self, name: str, header: SegmentHeader, size: int) -> None:
        owner, mine = header.identity, self._identity
        if mine is not None and owner != mine:
            raise WrongDirectory(
                f"the data directory belongs to member {owner.member_id:x} of cluster {owner.cluster_id:x}; "
                f"this is member {mine.member_id:x} of cluster {mine.cluster_id:x}"
            )
        if self.tail is not None:
            sequence = self.tail.header.sequence + 1
            if header.sequence != sequence:
                raise corrupt(name, 0, f"segment number {sequence:x} is missing before it")
            if header.previous_crc != self.tail.position.crc:
                raise corrupt(name, 0, "it does not continue the segment before it: records are missing")
        if size < header.capacity:
            raise corrupt(name, size, f"the file was cut from {header.capacity} to {size} bytes")

    def _take(self, name: str, offset: int, record: Record) -> None:
        """Merge one record: later entries replace earlier ones from their index on."""
        self.records += 1
        if record.hard_state is not None:
            self.hard_state = record.hard_state
        entries = self.entries
        if record.base is not None:
            self.base = record.base
            entries.clear()
        if not record.entries:
            return
        self.highest[-1] = max(self.highest[-1], record.entries[-1].index)
        first = record.entries[0].index
        base = first if self.base is None else self.base[0] + 1
        if entries:
            base = entries[0].index
        if not base <= first <= base + len(entries):
            raise corrupt(name, offset, f"entry {first} does not follow entry {base + len(entries) - 1}")
        del entries[first - base :]
        for expected, entry in enumerate(record.entries, first):
            if entry.index != expected:
                raise corrupt(name, offset, f"entry {entry.index} where {expected} was due")
        entries.extend(record.entries)


def recover(segments: Iterable[tuple[str, bytes]], identity: Identity | None) -> Recovery:
    """Recover from whole segments in order: ``Recovery`` fed with each, the last one as last."""
    recovery = Recovery(identity)
    held: tuple[str, bytes] | None = None
    for segment in segments:
        if held is not None:
            recovery.feed(*held, last=False)
        held = segment
    if held is not None:
        recovery.feed(*held, last=True)
    return recovery


def _read(name: str, data: bytes, position: Position) -> tuple[Record, Position] | None:
    """The record at ``position`` and the position after it; None when there is no good one."""
    offset = position.offset
    frame = frame_at(data, offset)
    if frame is None:
        return None
    payload = payload_of(data, offset, frame, position.seed)
    if payload is None:
        return None
    if frame.previous_crc != position.crc:
        raise corrupt(name, offset, "the record before it was replaced or lost")
    if frame.kind != KIND_STATE:
        raise WrongDirectory(f"WAL segment {name}: a newer version wrote a record of kind {frame.kind}")
    try:
        record = decode_payload(payload)
    except msgspec.DecodeError as problem:
        raise corrupt(name, offset, f"a whole record cannot be decoded ({problem})") from None
    return record, Position(position.seed, offset + record_bytes(frame.length), frame.crc)


def _end(name: str, data: bytes, position: Position, *, last: bool) -> Torn | None:
    """Decide what the lack of a good record at ``position`` means; see the module's rule."""
    offset = position.offset
    end = _last_nonzero(data, offset) + 1
    if end <= offset:
        return None
    if not last:
        raise corrupt(name, offset, "a bad record, and the log goes on in another segment")
    sector_end = offset - offset % SECTOR + SECTOR
    if not any(data[offset:sector_end]):
        later = _good_record_after(data, sector_end, end, position.seed)
        if later is not None:
            raise corrupt(name, offset, f"a record is missing, yet a good one stands at offset {later}")
        return Torn(offset, end)
    frame = frame_at(data, offset)
    if frame is None:
        raise corrupt(name, offset, "the header of a record is damaged")
    record_end = offset + record_bytes(frame.length)
    if end > record_end:
        raise corrupt(name, offset, "a bad record with others after it")
    if not _has_blank_sector(data, offset, record_end):
        raise corrupt(name, offset, "the last record was written wholly, but its checksum is wrong")
    return Torn(offset, end)


def _last_nonzero(data: bytes, start: int) -> int:
    """Index of the last byte >= start that is not zero; start - 1 when there is none."""
    end = len(data)
    while end > start:
        begin = max(start, end - len(_BLANK))
        chunk = data[begin:end]
        if chunk != _BLANK[: len(chunk)]:
            return begin + len(chunk.rstrip(b"\0")) - 1
        end = begin
    return start - 1


def _has_blank_sector(data: bytes, start: int, end: int) -> bool:
    """Whether some sector's part of ``[start, end)`` is all zeros (bytes beyond the file count as zeros)."""
    while start < end:
        stop = min(start - start % SECTOR + SECTOR, end)
        if not any(data[start:stop]):
            return True
        start = stop
    return False


def _good_record_after(data: bytes, start: int, end: int, seed: int) -> int | None:
    """The first offset in ``[start, end)`` with a record whose own checksum is right; None: nowhere."""
    for offset in range(start, end, 8):
        frame = frame_at(data, offset)
        if frame is not None and payload_of(data, offset, frame, seed) is not None:
            return offset
    return None
