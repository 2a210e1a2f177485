"""The files of a restored directory, read back by what reads etcd's."""

from __future__ import annotations

import json

import google_crc32c
import pytest

from tercet.core.etcd_directory import LOG_NAME, TERM, log_file, restored_buckets, store_file, store_name
from tercet.core.etcd_schema import EtcdState, StoredMember, encode_state
from tercet.core.etcd_snapshot import Export, Import
from tercet.core.etcd_wal import is_etcd_log, members_at, read_log
from tercet.core.members import MemberView
from tercet.core.raft.types import HardState

MEMBERS = (
    MemberView(3, "a", ("http://a:1", "http://a:2")),
    MemberView(0xFFFF_FFFF_FFFF_FFF0, "b", ("http://b:1",)),
)
LEARNER = MemberView(5, "c", ("http://c:1",), (), True)


def database(state: EtcdState) -> Import:
    """A snapshot of a state and of one key."""
    export = Export(encode_state(state, lambda: [(b"\0" * 7 + b"\2_" + b"\0" * 8, b"value")]))
    for _ in export.measure():
        pass
    data = b"".join(export.chunks(1 << 16))
    return Import(lambda at, length: data[at : at + length], export.size)


@pytest.mark.parametrize("members", [MEMBERS[:1], MEMBERS, (MEMBERS[0], LEARNER, MEMBERS[1])])
def test_the_log_names_every_member_and_all_of_it_is_committed(members: tuple[MemberView, ...]) -> None:
    data = log_file(members[0].id, 77, members)
    assert is_etcd_log(data[:16])
    log = read_log([(LOG_NAME, data)])
    assert (log.member_id, log.cluster_id) == (members[0].id, 77)
    assert log.hard_state == HardState(TERM, members[0].id, len(members))
    assert log.term_at(len(members)) == TERM
    assert members_at(log, len(members), ()) == list(members)


def test_the_file_beside_the_database_holds_the_members_by_their_paths() -> None:
    data = store_file((MEMBERS[0], LEARNER, MEMBERS[1]))
    start = data.index(b"{")
    store, _ = json.JSONDecoder().raw_decode(data[start:].decode("latin-1"))
    found = store["Root"]["Children"]["0"]["Children"]["members"]["Children"]
    assert list(found) == ["3", "5", "fffffffffffffff0"]
    leaf = found["5"]["Children"]["raftAttributes"]
    assert leaf["Path"] == "/0/members/5/raftAttributes"
    assert json.loads(leaf["Value"]) == {"peerURLs": ["http://c:1"], "isLearner": True}
    assert store["CurrentIndex"] == leaf["ModifiedIndex"] + 1 == 3
    assert store_name(3) == "0000000000000001-0000000000000003.snap"


def test_the_file_beside_the_database_begins_with_the_checksum_of_the_rest() -> None:
    data = store_file(MEMBERS[:1])
    assert data[0] == 8
    end = next(place for place in range(1, 7) if data[place] < 128) + 1
    checksum = sum((byte & 127) << 7 * place for place, byte in enumerate(data[1:end]))
    snapshot = data[end + 1 :]
    while google_crc32c.value(snapshot) != checksum:  # behind the length, of which there are a few bytes
        snapshot = snapshot[1:]
        assert len(data) - len(snapshot) < 12


def test_the_database_keeps_everything_but_the_members() -> None:
    state = EtcdState(
        applied_index=500, compacted=4, cluster_version="3.4.0", alarms=[(1, 1)], removed=[9],
        members=[StoredMember(id=1, peer_urls=("http://old:1",), name="old")],
    )  # fmt: skip
    export = Export(restored_buckets(database(state), 3))
    for _ in export.measure():
        pass
    data = b"".join(export.chunks(1 << 16))
    restored = Import(lambda at, length: data[at : at + length], export.size)
    found = restored.state()
    assert (found.members, found.removed, found.applied_index) == ([], [], 3)
    assert (found.compacted, found.cluster_version, found.alarms) == (4, "3.4.0", [(1, 1)])
    assert [list(bucket.items()) for name, bucket in restored.buckets() if name == b"key"] == [
        [(b"\0" * 7 + b"\2_" + b"\0" * 8, b"value")]
    ]
