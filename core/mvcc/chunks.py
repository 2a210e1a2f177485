"""How records lie on disk: chunks of consecutive ones, two rows each, in two buckets.

A row for every record would cost more than everything else a put does, so records are written in the order
of their revisions, many to a row. The row in ``index`` has what memory wants after a restart, all but the
values; the one in ``key`` has the wire forms, and a table to find one without looking at the others. Both
carry the place of the chunk's first record as their key: ``mod_revision`` and ``sub``, so they sort by age.

``ChunkMap`` knows which chunks there are and which records of each are not wanted any more. A chunk of which
less than half is wanted is written anew, together with its neighbour when both are small, or removed. Until
then a row in ``gone`` says which of its records a compaction has dropped: without it a key would live again
at the next start when the chunk that held its deletion is removed before the one that holds its last put.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from struct import Struct as Layout
from typing import Protocol, TypeAlias

import msgspec

from ..errors import Corruption
from .record import Record

__all__ = [
    "CHUNK_BYTES", "DATA_BUCKET", "GONE_BUCKET", "INDEX_BUCKET", "Chunk", "ChunkMap", "Place", "Rows",
    "chunk_key", "cut_chunks", "data_in", "decode_gone", "decode_index", "encode_data", "encode_gone",
    "encode_index", "find_all", "missing_value", "place_of", "place_of_key", "stored_records",
]

DATA_BUCKET = "key"
INDEX_BUCKET = "index"
GONE_BUCKET = "gone"

#: A chunk is closed once it has so many bytes of wire forms; a larger record has one of its own.
CHUNK_BYTES = 32 << 10
#: ... or so many records.
CHUNK_RECORDS = 512

_KEY = Layout(">QI")
_COUNT = Layout(">I")
_ROW = Layout(">QII")  # mod_revision, sub, where its wire form ends
_SUB_BITS = 32
_SUB_MASK = (1 << _SUB_BITS) - 1
_FEW = 16  # records of one chunk that are better looked up one by one

#: A record's revision and place in it as one number, so that places sort by age.
Place: TypeAlias = int
Chunk: TypeAlias = list[Record]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class Rows(Protocol):
    """Rows by bucket and key: a view of a backend, or the backend itself."""

    def get(self, bucket: str, key: bytes) -> bytes | None: ...

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]: ...


def place_of(record: Record) -> Place:
    """Where a record stands."""
    return record.mod_revision << _SUB_BITS | record.sub


def chunk_key(place: Place) -> bytes:
    """The key of the chunk that begins at ``place``, in both buckets."""
    return _KEY.pack(place >> _SUB_BITS, place & (1 << _SUB_BITS) - 1)


def place_of_key(key: bytes) -> Place:
    """The place where the chunk of that key begins.

    Raises:
        Corruption: no chunk has such a key.
    """
    if len(key) != _KEY.size:
        raise Corruption(f"a chunk of the backend has a key of {len(key)} bytes, not {_KEY.size}")
    revision, sub = _KEY.unpack(key)
    return int(revision) << _SUB_BITS | int(sub)


def cut_chunks(records: Iterable[Record]) -> Iterator[Chunk]:
    """Cut records in order of their places, wire forms in memory, into chunks."""
    chunk: Chunk = []
    size = 0
    for record in records:
        length = len(record.data or b"")
        if chunk and (size + length > CHUNK_BYTES or len(chunk) >= CHUNK_RECORDS):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += length
    if chunk:
        yield chunk


def encode_index(chunk: Chunk) -> bytes:
    """The row in ``index``: the records without their wire forms."""
    return _encode([
        (r.key, r.create_revision, r.mod_revision, r.sub, r.version, r.lease) for r in chunk
    ])  # fmt: skip


def encode_data(chunk: Chunk) -> bytes:
    """The row in ``key``: a count, the table, the wire forms."""
    table = [_COUNT.pack(len(chunk))]
    parts: list[bytes] = []
    end = 0
    for record in chunk:
        data = record.data
        assert data is not None, place_of(record)
        end += len(data)
        table.append(_ROW.pack(record.mod_revision, record.sub, end))
        parts.append(data)
    return b"".join(table + parts)


def decode_index(row: bytes) -> Chunk:
    """The records of a row in ``index``, without wire forms.

    Raises:
        Corruption: it is no such row.
    """
    try:
        return _decode(row)
    except msgspec.MsgspecError as problem:
        raise Corruption(f"a row of the backend's index cannot be decoded: {problem}") from problem


def encode_gone(places: Iterable[Place]) -> bytes:
    """The row in ``gone``: where the records stand that are not wanted any more."""
    return b"".join(map(chunk_key, places))


def decode_gone(row: bytes) -> frozenset[Place]:
    """The places in a row of ``gone``.

    Raises:
        Corruption: it is no such row.
    """
    if len(row) % _KEY.size:
        raise Corruption(f"a row of the backend's dropped records has {len(row)} bytes")
    return frozenset(revision << _SUB_BITS | sub for revision, sub in _KEY.iter_unpack(row))


def data_in(row: bytes | memoryview, mod_revision: int, sub: int) -> bytes | None:
    """The wire form of one record of a row in ``key``; None when it is not there."""
    (count,) = _COUNT.unpack_from(row)
    low, high = 0, count
    guess = mod_revision - _ROW.unpack_from(row, _COUNT.size)[0]  # most revisions have one record
    wanted = (mod_revision, sub)
    while low < high:
        middle = guess if low <= guess < high else (low + high) // 2
        guess = -1
        revision, found_sub, end = _ROW.unpack_from(row, _COUNT.size + middle * _ROW.size)
        found = (revision, found_sub)
        if found == wanted:
            begin = _ROW.unpack_from(row, _COUNT.size + (middle - 1) * _ROW.size)[2] if middle else 0
            base = _COUNT.size + count * _ROW.size
            return bytes(row[base + begin : base + end])
        if found < wanted:
            low = middle + 1
        else:
            high = middle
    return None


def find_all(row: bytes | memoryview, places: Sequence[Place], found: list[bytes]) -> None:
    """Append to ``found`` the wire forms that a row in ``key`` has at sorted ``places``.

    Raises:
        Corruption: one is not there.
    """
    if len(places) < _FEW:
        for place in places:
            data = data_in(row, place >> _SUB_BITS, place & _SUB_MASK)
            if data is None:
                raise missing_value(place >> _SUB_BITS, place & _SUB_MASK)
            found.append(data)
        return
    (count,) = _COUNT.unpack_from(row)
    base = begin = _COUNT.size + count * _ROW.size
    wanted = iter(places)
    place = next(wanted)
    for revision, sub, end in _ROW.iter_unpack(row[_COUNT.size : base]):
        end += base
        if revision << _SUB_BITS | sub == place:
            found.append(bytes(row[begin:end]))
            place = next(wanted, -1)
            if place < 0:
                return
        begin = end
    raise missing_value(place >> _SUB_BITS, place & _SUB_MASK)


def stored_records(rows: Rows) -> Iterator[tuple[Record, bytes]]:
    """Every record on disk and its wire form, by age, but for those that a compaction has dropped."""
    for key, row in rows.scan(DATA_BUCKET):
        gone = decode_gone(rows.get(GONE_BUCKET, key) or b"")
        for record, data in _records_of(key, row, rows.get(INDEX_BUCKET, key)):
            if place_of(record) not in gone:
                yield record, data


def _records_of(key: bytes, row: bytes, index: bytes | None) -> Iterator[tuple[Record, bytes]]:
    """The records of one chunk with their wire forms.

    Raises:
        Corruption: index and values do not agree.
    """
    chunk = decode_index(index) if index is not None else []
    (count,) = _COUNT.unpack_from(row)
    base = begin = _COUNT.size + count * _ROW.size
    if count != len(chunk) or base > len(row):
        raise missing_value(*_KEY.unpack(key))
    table = _ROW.iter_unpack(row[_COUNT.size : base])
    for record, (revision, sub, end) in zip(chunk, table, strict=True):
        if record.mod_revision != revision or record.sub != sub:
            raise missing_value(revision, sub)
        yield record, row[begin : base + end]
        begin = base + end


def missing_value(mod_revision: int, sub: int) -> Corruption:
    """The error for a value that should be on disk."""
    return Corruption(f"the backend lacks the value of revision {mod_revision}.{sub}")


class ChunkMap:
    """The chunks there are, by the place of their first record, and what is wanted of them."""

    def __init__(self) -> None:
        self._firsts: list[Place] = []  # sorted
        self._counts: dict[Place, int] = {}
        self._gone: dict[Place, list[Place]] = {}  # by chunk: its records that are not wanted any more
        self._unsaved: dict[Place, None] = {}  # chunks of which the disk does not know all that is gone
        self._stale: dict[Place, None] = {}  # in the order of becoming so

    def __len__(self) -> int:
        return len(self._firsts)

    @property
    def has_stale(self) -> bool:
        """``take_stale`` or ``take_gone`` would give something."""
        return bool(self._stale or self._unsaved)

    def wanted(self, first: Place) -> int:
        """How many records of a chunk are wanted."""
        return self._counts[first] - len(self._gone.get(first, ()))

    def add(self, first: Place, count: int, gone: Iterable[Place] = ()) -> None:
        """A chunk of ``count`` records lies on disk, behind all others; as ``gone`` the disk knows some."""
        assert not self._firsts or self._firsts[-1] < first
        self._firsts.append(first)
        self._counts[first] = count
        found = list(gone)
        if found:
            self._gone[first] = found
            self._look_at(first)

    def chunk_of(self, place: Place) -> Place | None:
        """The chunk that would hold a record; None: it would stand before all chunks."""
        index = bisect_right(self._firsts, place)
        return self._firsts[index - 1] if index else None

    def run_of(self, places: Sequence[Place], begin: int) -> tuple[Place | None, int]:
        """As ``chunk_of`` for ``places[begin]``, of sorted places, and where those of that chunk end."""
        index = bisect_right(self._firsts, places[begin])
        if index == len(self._firsts):
            end = len(places)
        else:
            end = bisect_left(places, self._firsts[index], begin)
        return (self._firsts[index - 1] if index else None), end

    def drop(self, place: Place) -> None:
        """A record on disk is not wanted any more."""
        first = self.chunk_of(place)
        if first is not None:
            self._gone.setdefault(first, []).append(place)
            self._unsaved[first] = None
            self._look_at(first)

    def take_gone(self, runs: Iterable[Iterable[Place]]) -> list[tuple[str, bytes, bytes | None]]:
        """The rows of ``gone`` that change with this commit, in which ``runs`` are replaced or removed."""
        rows: list[tuple[str, bytes, bytes | None]] = []
        for run in runs:
            for first in run:
                self._unsaved.pop(first, None)
                if first in self._gone:
                    rows.append((GONE_BUCKET, chunk_key(first), None))
        unsaved, self._unsaved = self._unsaved, {}
        for first in unsaved:
            rows.append((GONE_BUCKET, chunk_key(first), encode_gone(self._gone[first])))
        return rows

    def take_stale(self, limit: int) -> list[list[Place]]:
        """Chunks to be removed, and about ``limit`` to be written anew, in runs that become one each."""
        runs: list[list[Place]] = []
        taken: dict[Place, None] = {}
        while self._stale and limit > 0:
            first = next(iter(self._stale))
            run = self._run_from(first, taken)
            taken.update(dict.fromkeys(run))
            for member in run:
                self._stale.pop(member, None)
            runs.append(run)
            if self.wanted(first):
                limit -= len(run)
        return runs

    def replace(self, run: list[Place], count: int) -> None:
        """The chunks of a run have become one of ``count`` records at the run's first place, or none."""
        for first in run[1:] if count else run:
            del self._firsts[bisect_right(self._firsts, first) - 1]
            del self._counts[first]
            self._gone.pop(first, None)
            self._stale.pop(first, None)
        if count:
            self._counts[run[0]] = count
            self._gone.pop(run[0], None)

    def _run_from(self, first: Place, taken: Mapping[Place, None]) -> list[Place]:
        run, total = [first], self.wanted(first)
        index = bisect_right(self._firsts, first)
        while total and index < len(self._firsts):
            total += self.wanted(self._firsts[index])
            if total > CHUNK_RECORDS // 16 or self._firsts[index] in taken:
                break
            run.append(self._firsts[index])
            index += 1
        return run

    def _look_at(self, first: Place) -> None:
        wanted = self.wanted(first)
        if wanted * 2 < self._counts[first] or not wanted:
            self._stale[first] = None
