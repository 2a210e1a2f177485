"""From an etcd database to our rows and back: nothing is lost, and a later compaction does no harm."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tercet.core.bbolt import DamagedDatabase
from tercet.core.durable import META_BUCKET, META_KEY, decode_meta, load_machine
from tercet.core.etcd_machine import StoredKeys, state_in
from tercet.core.etcd_restore import Restored
from tercet.core.etcd_schema import EtcdState, StoredLease, encode_state, key_entries
from tercet.core.etcd_snapshot import Export, Import
from tercet.core.machine import Machine
from tercet.core.members import MemberView
from tercet.core.mvcc.chunks import data_in
from tercet.core.mvcc.record import Record, make_record

from .test_etcd_snapshot import FULL, history, load, plain, save

MEMBERS = [
    MemberView(7, "a", ("http://a:1",)),
    MemberView(3, "b", ("http://b:1",), ("http://b:2",)),
    MemberView(9, "", ("http://c:1",), is_learner=True),
]


class Table:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {}

    def put(self, bucket: str, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.rows.get(bucket, {}).pop(key, None)
        else:
            self.rows.setdefault(bucket, {})[key] = value

    def get(self, bucket: str, key: bytes) -> bytes | None:
        return self.rows.get(bucket, {}).get(key)

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        rows = self.rows.get(bucket, {})
        found = [(key, rows[key]) for key in sorted(rows) if key >= start and (end is None or key < end)]
        return iter(found[:limit] if limit else found)


def restored(data: bytes, members: list[MemberView] = MEMBERS) -> Table:
    source = Import(lambda offset, length: data[offset : offset + length], len(data))
    table = Table()
    for bucket, key, value in Restored(source, members, 3, 1).changes():
        table.put(bucket, key, value)
    return table


def machine_in(table: Table) -> Machine:
    loaded = load_machine(table)
    store = loaded.machine.store

    def fetch(mod_revision: int, sub: int) -> bytes:
        for _, row in table.scan("key"):
            data = data_in(row, mod_revision, sub)
            if data is not None:
                return data
        raise AssertionError((mod_revision, sub))

    store.resident.fetch = fetch
    return loaded.machine


def export(table: Table, machine: Machine) -> bytes:
    row = table.get(META_BUCKET, META_KEY)
    assert row is not None
    meta = decode_meta(row)
    keys = StoredKeys(table, meta.compacted, machine.store.holds, lambda: machine.store.compacted)
    made = Export(encode_state(state_in(table, meta), keys))
    for _ in made.measure():
        pass
    return b"".join(made.chunks(4096))


@pytest.mark.parametrize("count", [0, 40, 2000])
def test_a_snapshot_survives_the_way_through_our_rows(count: int) -> None:
    table = restored(save(FULL, history(count)))
    machine = machine_in(table)
    state, records = load(export(table, machine))
    assert plain(state.auth) == plain(FULL.auth)
    assert (state.leases, state.alarms) == (list(FULL.leases), list(FULL.alarms))
    assert (state.compacted, state.cluster_version, state.applied_index) == (20, "3.4.0", 3)
    assert [member.id for member in state.members] == [3, 7, 9]
    kept = [record for record in history(count) if machine.store.holds(*place(record))]
    assert records == kept
    assert [r for r in kept if r.mod_revision > 20] == [r for r in history(count) if r.mod_revision > 20]


def place(record: Record) -> tuple[bytes, int, int]:
    return record.key, record.mod_revision, record.sub


def test_the_machine_answers_from_the_restored_rows() -> None:
    machine = machine_in(restored(save(FULL, history(200))))
    assert machine.revision == 203
    assert [member.is_learner for member in machine.members.all()] == [False, False, True]
    lease = machine.lessor.get(5)
    assert lease is not None
    assert (lease.ttl, lease.remaining, list(lease.keys)) == (1000, 333, [b"first"])
    store = machine.store
    record = store.latest(b"b")
    assert record is not None
    assert store.data_of(record) == make_record(b"b", 203, 203, 1, 1, b"two", 0).data
    assert machine.auth.enabled


def test_an_empty_database_below_its_compaction_goes_on_from_there() -> None:
    state = msgspec.structs.replace(EtcdState(), compacted=50)
    assert machine_in(restored(save(state, ()))).revision == 50


def test_a_compaction_between_the_passes_changes_nothing() -> None:
    """The first pass asks the store what is superseded; the second must leave out exactly the same."""
    table = restored(save(msgspec.structs.replace(FULL, compacted=-1), history(300)))
    machine = machine_in(table)
    row = table.get(META_BUCKET, META_KEY)
    assert row is not None
    keys = StoredKeys(table, 100, machine.store.holds, lambda: machine.store.compacted)
    machine.store.compact(100)
    while not machine.store.scrub(1000):
        pass
    first = list(keys())
    machine.store.compact(250)
    while not machine.store.scrub(1000):
        pass
    assert list(keys()) == first
    assert 0 < len(first) < len(history(300))
    fresh = StoredKeys(table, 100, machine.store.holds, lambda: machine.store.compacted)
    assert len(list(fresh())) == len(history(300))  # nobody knows better


@pytest.mark.parametrize("lease", [StoredLease(0, 10), StoredLease(5, 10_000_000_000)])
def test_a_state_that_cannot_be_is_refused(lease: StoredLease) -> None:
    data = save(EtcdState(leases=(lease,)), ())
    with pytest.raises(DamagedDatabase, match="what cannot be"):
        restored(data)


def test_entries_are_named_and_cut_as_etcd_does_it() -> None:
    rows = dict(key_entries(history(20)))
    assert len({len(name) for name in rows}) == 2  # with and without the mark of a deletion
