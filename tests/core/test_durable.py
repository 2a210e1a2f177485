"""Rows become a machine again, whatever a compaction had come to when they were written."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from tercet.core.durable import META_BUCKET, META_KEY, Meta, decode_meta, encode_meta, load_machine
from tercet.core.errors import Corruption
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.mvcc.chunks import GONE_BUCKET, Place, decode_gone, encode_gone, place_of
from tercet.core.mvcc.record import Record
from tercet.core.raft.types import Entry, SnapshotMeta
from tercet.core.wire.proto import rpc_pb2 as rpc

from .memory_rows import Memory

#: Puts and, in capitals, deletions, from revision 2 on.
HISTORY = "abaabBcaAacc"


def apply(machine: Machine, kind: Command, request: Message) -> None:
    data = encode_command(kind, 1, 1, request.SerializeToString())
    assert machine.apply(Entry(1, machine.applied_index + 1, data)).error is None


def written() -> Machine:
    machine = Machine()
    for letter in HISTORY:
        key = letter.lower().encode()
        if letter.islower():
            apply(machine, Command.PUT, rpc.PutRequest(key=key, value=b"v"))
        else:
            apply(machine, Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=key))
    return machine


def stored(records: list[Record], compacted: int, size: int) -> Memory:
    """The rows of chunks of ``size`` records, all there ever were, and of what was known beside them."""
    memory = Memory()
    for begin in range(0, len(records), size):
        memory.store(records[begin : begin + size])
    meta = Meta(len(HISTORY) + 1, 1, len(HISTORY) + 1, compacted, SnapshotMeta(len(HISTORY) + 1, 1, (1,)))
    memory.rows[META_BUCKET, META_KEY] = encode_meta(meta)
    return memory


def by_age(machine: Machine) -> list[Record]:
    return sorted(machine.store.records(), key=place_of)


def places(records: list[Record]) -> list[Place]:
    return list(map(place_of, records))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("compacted", range(len(HISTORY) + 2))
def test_what_a_compaction_dropped_stays_dropped_and_the_disk_is_told(compacted: int, size: int) -> None:
    """The compaction is in the meta row; which records it dropped had not been written yet."""
    machine = written()
    records = by_age(machine)
    if compacted:
        apply(machine, Command.COMPACTION, rpc.CompactionRequest(revision=compacted))
        while machine.scrubbing:
            machine.scrub(100)
    kept = places(by_age(machine))
    assert compacted < 4 or len(kept) < len(records)
    memory = stored(records, machine.store.compacted, size)
    loaded = load_machine(memory)
    assert (loaded.machine.revision, loaded.machine.store.compacted) == (13, machine.store.compacted)
    assert (loaded.machine.applied_index, loaded.machine.applied_term) == (13, 1)
    assert places(by_age(loaded.machine)) == kept
    gone: list[Place] = []
    for bucket, key, row in loaded.chunks.take_gone([]):
        assert bucket == GONE_BUCKET and row is not None
        gone += decode_gone(row)
        memory.rows[bucket, key] = row
    assert sorted(gone + kept) == places(records)
    for begin in range(0, len(records), size):
        chunk = places(records[begin : begin + size])
        assert loaded.chunks.wanted(chunk[0]) == len([place for place in chunk if place in kept])
    again = load_machine(memory)
    assert places(by_age(again.machine)) == kept
    assert again.chunks.take_gone([]) == [], "the disk knows"


def test_a_key_that_was_deleted_and_dropped_does_not_live_again() -> None:
    """The chunk with its deletion has been removed, the one with its last put has not."""
    records = by_age(written())
    memory = stored(records[:5], 8, 5)
    deleted = [one for one in records[:5] if one.key == b"b"]
    assert {one.key for one in load_machine(memory).machine.store.records()} == {b"a", b"b"}
    key = next(key for (bucket, key) in memory.rows if bucket == "key")
    memory.rows[GONE_BUCKET, key] = encode_gone(places(deleted))
    assert {one.key for one in load_machine(memory).machine.store.records()} == {b"a"}


def test_an_empty_backend_is_a_new_machine() -> None:
    loaded = load_machine(Memory())
    assert (loaded.meta, len(loaded.chunks), loaded.machine.revision) == (None, 0, 1)


def test_a_meta_row_that_cannot_be_read_is_damage() -> None:
    with pytest.raises(Corruption, match="meta row cannot be decoded"):
        decode_meta(b"\xc1")
