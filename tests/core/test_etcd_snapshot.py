"""Snapshots: etcd's database and its hash, made from our state and read again."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.core.bbolt import DamagedDatabase
from tercet.core.etcd_schema import (
    EtcdState,
    StoredAuth,
    StoredLease,
    StoredMember,
    decode_record,
    decode_state,
    encode_place,
    encode_state,
    key_entries,
)
from tercet.core.etcd_snapshot import HASH_BYTES, DatabaseHash, Export, Import, has_hash, snapshot_status
from tercet.core.mvcc.record import Record, make_record, make_tombstone
from tercet.core.wire.proto import auth_pb2, kv_pb2

FULL = EtcdState(
    applied_index=79,
    compacted=20,
    cluster_version="3.4.0",
    leases=(StoredLease(5, 1000, 333), StoredLease(-7, 60)),
    alarms=((1, 1), (2, 2)),
    members=(
        StoredMember(id=0xABC, peer_urls=("http://a:2380",), name="n1", client_urls=("http://a:2379",)),
        StoredMember(id=0xFFFFFFFFFFFFFFFF, peer_urls=("http://b:2380",), is_learner=True),
    ),
    removed=(0x12,),
    auth=StoredAuth(
        True,
        7,
        {
            b"root": auth_pb2.User(
                name=b"root", password=b"x", roles=["root"], options=auth_pb2.UserAddOptions()
            ).SerializeToString()
        },
        {b"r": auth_pb2.Role(name=b"r").SerializeToString()},
    ),
)


def history(count: int) -> list[Record]:
    records: list[Record] = [make_record(b"first", 2, 2, 0, 1, b"", 5)]
    for revision in range(3, count + 3):
        key = b"key-%d" % (revision % 97)
        if revision % 13 == 0:
            records.append(make_tombstone(key, revision, 0))
        else:
            records.append(make_record(key, revision, revision, 0, 1, b"v" * (revision % 400), 0))
    records.append(make_record(b"a", count + 3, count + 3, 0, 1, b"one", 0))
    records.append(make_record(b"b", count + 3, count + 3, 1, 1, b"two", 0))
    return records


def save(state: EtcdState, records: Sequence[Record], chunk_bytes: int = 32_768) -> bytes:
    export = Export(encode_state(state, lambda: key_entries(records)))
    for _ in export.measure():
        pass
    chunks = list(export.chunks(chunk_bytes))
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-2])
    assert sum(map(len, chunks)) == export.size + HASH_BYTES
    return b"".join(chunks)


def load(data: bytes) -> tuple[EtcdState, list[Record]]:
    source = Import(lambda offset, length: data[offset : offset + length], len(data))
    return source.state(), list(source.records())


def plain(state: object) -> object:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state))


@pytest.mark.parametrize("count", [0, 5, 3000])
def test_a_state_and_its_keys_come_back_from_a_snapshot(count: int) -> None:
    records = history(count)
    state, found = load(save(FULL, records))
    assert plain(state) == plain(FULL)
    assert found == records


def test_an_empty_state_comes_back_from_a_snapshot() -> None:
    state, found = load(save(EtcdState(), ()))
    assert plain(state) == plain(EtcdState())
    assert found == []


def test_the_last_piece_is_the_hash_of_all_others() -> None:
    data = save(FULL, history(500), chunk_bytes=1000)
    assert data[-HASH_BYTES:] == hashlib.sha256(data[:-HASH_BYTES]).digest()
    assert has_hash(len(data))
    assert not has_hash(len(data) - HASH_BYTES)
    assert not has_hash(len(data) - 7)


def test_the_status_of_a_snapshot_counts_what_is_in_it() -> None:
    records = history(100)
    data = save(FULL, records)
    status = snapshot_status(lambda offset, length: data[offset : offset + length], len(data))
    # alarms, auth, role, user, version, leases, members, removed member, meta
    others = 2 + 2 + 1 + 1 + 1 + 2 + 2 + 1 + 3
    assert (status.revision, status.total_key) == (103, len(records) + others)
    assert status.total_size == len(data) - HASH_BYTES


def test_the_hash_of_a_database_leaves_out_the_applied_index() -> None:
    def computed(index: int, version: str) -> int:
        state = msgspec.structs.replace(FULL, applied_index=index, cluster_version=version)
        summed = DatabaseHash(encode_state(state, lambda: key_entries(history(1500))))
        steps = sum(1 for _ in summed.compute())
        assert steps == 1
        return summed.value

    assert computed(1, "3.4.0") == computed(2, "3.4.0")
    assert computed(1, "3.4.0") != computed(1, "3.5.0")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"short", b""),
        (encode_place(5, 0) + b"x", b""),
        (encode_place(5, 0), b"\xff"),
        (encode_place(5, 0), kv_pb2.KeyValue(key=b"k", mod_revision=4, version=1).SerializeToString()),
        (encode_place(5, 0), kv_pb2.KeyValue(key=b"k", mod_revision=5).SerializeToString()),
        (encode_place(-1, 0) + b"t", kv_pb2.KeyValue(key=b"k").SerializeToString()),
        (encode_place(5, 0) + b"t", b""),
    ],
)
def test_a_record_that_cannot_be_one_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(DamagedDatabase):
        decode_record(name, value)


@pytest.mark.parametrize(
    ("bucket", "key", "value"),
    [
        (b"lease", b"12345678", b""),
        (b"members", b"x", b"{}"),
        (b"members", b"x", b'{"id":"text"}'),
        (b"members_removed", b"xyz", b"removed"),
        (b"alarm", b"\xff", b""),
        (b"meta", b"consistent_index", b"1"),
        (b"meta", b"finishedCompactRev", b"1"),
        (b"cluster", b"clusterVersion", b"\xff"),
        (b"authUsers", b"u", b"\xff"),
        (b"auth", b"authRevision", b""),
    ],
)
def test_an_entry_that_cannot_be_one_is_refused(bucket: bytes, key: bytes, value: bytes) -> None:
    with pytest.raises(DamagedDatabase, match="not etcd's"):
        decode_state({bucket: [(key, value)]})


entries = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=30)), max_size=3)


@given(st.dictionaries(st.sampled_from([name for name, _ in encode_state(EtcdState(), list)]), entries))
@settings(max_examples=300, deadline=None)
def test_strange_entries_only_raise_our_error(buckets: dict[bytes, list[tuple[bytes, bytes]]]) -> None:
    try:
        state = decode_state(buckets)
    except DamagedDatabase:
        return
    assert isinstance(state, EtcdState)


@pytest.mark.skipif(shutil.which("etcdctl") is None, reason="etcdctl is not installed")
@pytest.mark.parametrize("count", [0, 4000])
def test_etcdctl_reads_and_restores_our_snapshot(tmp_path: Path, count: int) -> None:
    data = save(FULL, history(count))
    path = tmp_path / "a.db"
    path.write_bytes(data)
    status = snapshot_status(lambda offset, length: data[offset : offset + length], len(data))
    shown = etcdctl("snapshot", "status", str(path), "-w", "json")
    assert msgspec.json.decode(shown) == {
        "hash": status.hash,
        "revision": status.revision,
        "totalKey": status.total_key,
        "totalSize": status.total_size,
    }
    etcdctl("snapshot", "restore", str(path), "--data-dir", str(tmp_path / "data"))
    restored = (tmp_path / "data" / "member" / "snap" / "db").read_bytes()
    state, found = load(restored)
    assert [record for record in found if record.mod_revision >= FULL.compacted] == [
        record for record in history(count) if record.mod_revision >= FULL.compacted
    ]
    assert (state.leases, state.alarms) == (list(FULL.leases), list(FULL.alarms))
    assert plain(state.auth) == plain(FULL.auth)


def etcdctl(*words: str) -> bytes:
    done = subprocess.run(["etcdctl", *words], capture_output=True, timeout=30, env={"ETCDCTL_API": "3"})
    assert done.returncode == 0, done.stderr
    return done.stdout
