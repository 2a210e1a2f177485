"""The durable form of the state machine: rows in buckets, and how they become a machine again.

Rows are written in batches, each together with the index of the last entry it covers, so what is on disk is
always the state after some entry. Small things have a row each (``Machine.change``); the store's records lie
in chunks (``mvcc.chunks``). The one row in ``meta`` says the rest: how far the rows have come, the
configuration of the cluster there, and where the log begins that goes with them.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .errors import Corruption
from .machine import Machine
from .mvcc.chunks import (
    GONE_BUCKET,
    INDEX_BUCKET,
    Chunk,
    ChunkMap,
    Rows,
    decode_gone,
    decode_index,
    place_of,
    place_of_key,
)
from .mvcc.record import Record
from .raft.types import SnapshotMeta

__all__ = ["META_BUCKET", "META_KEY", "Loaded", "Meta", "decode_meta", "encode_meta", "load_machine"]

META_BUCKET, META_KEY = "meta", b"state"


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """What the rows are. Fields may only be appended."""

    index: int  # the last entry applied
    term: int  # its term
    revision: int  # of the store
    compacted: int
    configuration: SnapshotMeta  # as applied at ``index``, with that index and term
    base_index: int = 0  # entries up to here are gone from the log, or may be; <= index
    base_term: int = 0  # the term of that entry
    installed: bool = False  # came as a snapshot: the log may still be an older one, which is void


class Loaded(msgspec.Struct):
    """What was on disk."""

    machine: Machine
    chunks: ChunkMap
    meta: Meta | None  # None: nothing


def encode_meta(meta: Meta) -> bytes:
    """The value of the row in ``meta``."""
    return msgspec.msgpack.encode(meta)


def decode_meta(row: bytes) -> Meta:
    """Raises ``Corruption``: it is no such row."""
    try:
        return msgspec.msgpack.decode(row, type=Meta)
    except msgspec.MsgspecError as problem:
        raise Corruption(f"the backend's meta row cannot be decoded: {problem}") from problem


def load_machine(rows: Rows) -> Loaded:
    """Build the machine from its rows; values stay on disk; ``store.resident`` is the caller's to connect.

    Raises:
        Corruption: the rows make no sense.
    """
    machine, chunks = Machine(), ChunkMap()
    row = rows.get(META_BUCKET, META_KEY)
    if row is None:
        return Loaded(machine, chunks, None)
    meta = decode_meta(row)
    for bucket, load in machine.loaders().items():
        for key, value in rows.scan(bucket):
            load(key, value)
    machine.changes.clear()
    gone = {key: decode_gone(row) for key, row in rows.scan(GONE_BUCKET)}
    found: list[tuple[bytes, int, Chunk]] = []  # the key, the count, and the records if some may be unwanted

    def records() -> Iterator[Record]:
        for key, index in rows.scan(INDEX_BUCKET):
            chunk = decode_index(index)
            count, dropped = len(chunk), gone.get(key)
            if dropped:
                chunk = [record for record in chunk if place_of(record) not in dropped]
            yield from chunk
            old = not chunk or chunk[0].mod_revision <= meta.compacted
            found.append((key, count, chunk if old else []))

    machine.load_records(meta.revision, meta.compacted, records())
    machine.applied_index, machine.applied_term = meta.index, meta.term
    holds = machine.store.holds
    for key, count, chunk in found:
        chunks.add(place_of_key(key), count, sorted(gone.get(key, ())))
        for record in chunk:
            if not holds(record.key, record.mod_revision, record.sub):
                chunks.drop(place_of(record))
    return Loaded(machine, chunks, meta)
