"""The store's records in the backend: reading values back, and what a commit changes of them.

Records lie in chunks (``core.mvcc.chunks``). A commit adds chunks of those that came since the last one,
notes which records are not wanted any more, and removes or writes anew a bounded number of chunks of which
little is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from tercet.core.mvcc.chunks import (
    DATA_BUCKET,
    INDEX_BUCKET,
    Chunk,
    ChunkMap,
    Place,
    chunk_key,
    cut_chunks,
    data_in,
    decode_index,
    encode_data,
    encode_index,
    find_all,
    missing_value,
    place_of,
)
from tercet.core.mvcc.record import Record
from tercet.core.mvcc.store import Store

from .world import Backend, Change

__all__ = ["ChunkCommit", "ValueReader"]

_REWRITES: Final = 32  # chunks read back and written anew in one commit


class ValueReader:
    """Reads values back for one store."""

    def __init__(self, backend: Backend, chunks: ChunkMap) -> None:
        self._backend = backend
        self._chunks = chunks

    def fetch(self, mod_revision: int, sub: int) -> bytes:
        """See ``core.mvcc.resident.Fetch``."""
        first = self._chunks.chunk_of(mod_revision << 32 | sub)
        row = None if first is None else self._backend.borrow(DATA_BUCKET, chunk_key(first))
        data = None if row is None else data_in(row, mod_revision, sub)
        if data is None:
            raise missing_value(mod_revision, sub)
        return data

    def fetch_all(self, records: Sequence[Record]) -> list[bytes]:
        """See ``core.mvcc.resident.FetchAll``."""
        asked = [record.mod_revision << 32 | record.sub for record in records]
        places = sorted(asked)
        found: list[bytes] = []
        begin = 0
        while begin < len(places):
            first, end = self._chunks.run_of(places, begin)
            row = None if first is None else self._backend.borrow(DATA_BUCKET, chunk_key(first))
            if row is None:
                raise missing_value(*_parts(places[begin]))
            find_all(row, places[begin:end], found)
            begin = end
        if places == asked:
            return found
        by_place = dict(zip(places, found, strict=True))
        return [by_place[place] for place in asked]


class ChunkCommit:
    """What one commit writes of the records that came and went since the last one; made in the loop.

    ``records`` came, and are on disk after it.
    """

    def __init__(self, backend: Backend, chunks: ChunkMap, store: Store) -> None:
        self._chunks = chunks
        self._added: list[tuple[Place, int]] = []
        self.records, dropped = store.take_fresh()
        news = place_of(self.records[0]) if self.records else None
        late: dict[Place, None] = {}  # dropped before they were ever on disk
        for record in dropped:
            place = place_of(record)
            if news is not None and place >= news:
                late[place] = None
            else:
                chunks.drop(place)
        if late:
            self.records = [record for record in self.records if place_of(record) not in late]
        self._replaced: list[tuple[list[Place], int]] = []
        self._rows: list[Change] = []
        for run in chunks.take_stale(_REWRITES):
            self._rewrite(run, list(_wanted_of(run, backend, chunks, store)))
        self._rows += chunks.take_gone([run for run, _ in self._replaced])

    def rows(self) -> Iterator[Change]:
        """The rows, to be asked for once, in a thread."""
        for chunk in cut_chunks(self.records):
            place = place_of(chunk[0])
            self._added.append((place, len(chunk)))
            yield from _rows_of(place, chunk)
        yield from self._rows

    def done(self) -> None:
        """They are on disk."""
        for run, count in self._replaced:
            self._chunks.replace(run, count)
        for place, count in self._added:
            self._chunks.add(place, count)

    def _rewrite(self, run: list[Place], records: Chunk) -> None:
        """Of a run of chunks only these records are wanted."""
        for place in run[1:] if records else run:
            key = chunk_key(place)
            self._rows += ((INDEX_BUCKET, key, None), (DATA_BUCKET, key, None))
        if records:
            self._rows += _rows_of(run[0], records)
        self._replaced.append((run, len(records)))


def _rows_of(place: Place, chunk: Chunk) -> tuple[Change, Change]:
    key = chunk_key(place)
    return (INDEX_BUCKET, key, encode_index(chunk)), (DATA_BUCKET, key, encode_data(chunk))


def _wanted_of(run: Iterable[Place], backend: Backend, chunks: ChunkMap, store: Store) -> Iterator[Record]:
    """The records of some chunks that are still wanted, with their values."""
    for place in run:
        if not chunks.wanted(place):
            continue
        key = chunk_key(place)
        index, data = backend.get(INDEX_BUCKET, key), backend.borrow(DATA_BUCKET, key)
        if index is None or data is None:
            raise missing_value(*_parts(place))
        wanted = [r for r in decode_index(index) if store.holds(r.key, r.mod_revision, r.sub)]
        forms: list[bytes] = []
        if wanted:
            find_all(data, [place_of(record) for record in wanted], forms)
        for record, form in zip(wanted, forms, strict=True):
            yield msgspec.structs.replace(record, data=form)


def _parts(place: Place) -> tuple[int, int]:
    return place >> 32, place & 0xFFFFFFFF
