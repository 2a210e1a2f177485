"""etcd's log: what the database has not seen becomes entries of ours; damage is noticed."""

from __future__ import annotations

from struct import Struct as Layout

import google_crc32c
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.core.errors import Corruption
from tercet.core.etcd_schema import StoredMember
from tercet.core.etcd_wal import CannotAdopt, EtcdLog, convert, is_etcd_log, members_at, read_log
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.raft.types import Entry, EntryKind, HardState
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.proto import stored_pb2 as stored

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
_LENGTH = Layout("<Q")


class Writer:
    """Writes files of etcd's log."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes]] = []
        self._crc = 0

    def file(self, *records: tuple[int, bytes]) -> None:
        parts = [self._frame(CRC, self._crc, b"")]
        for kind, data in records:
            self._crc = google_crc32c.extend(self._crc, data)
            parts.append(self._frame(kind, self._crc, data))
        name = f"{len(self.files):016x}-{0:016x}.wal"
        self.files.append((name, b"".join(parts) + bytes(64)))

    def _frame(self, kind: int, crc: int, data: bytes) -> bytes:
        record = stored.WalRecord(type=kind, crc=crc, data=data).SerializeToString()
        if not crc:
            record = record + b"\x10\x00"  # etcd writes zeros, too
        padding = -len(record) % 8
        length = len(record) | (0x80 | padding) << 56 if padding else len(record)
        return _LENGTH.pack(length) + record + bytes(padding)


def entry(index: int, term: int = 2, data: bytes = b"", kind: int = 0) -> tuple[int, bytes]:
    return ENTRY, stored.RaftEntry(type=kind, term=term, index=index, data=data).SerializeToString()


def asking(**fields: bytes) -> bytes:
    return stored.RaftRequest(ID=5, **fields).SerializeToString()  # type: ignore[arg-type]


PUT = rpc.PutRequest(key=b"k", value=b"v").SerializeToString()
ADDED = stored.ConfChange(
    type=0, member_id=7, context=msgspec.json.encode(StoredMember(id=7, peer_urls=("http://a:1",), name="a"))
).SerializeToString()
STATE_RECORD = (STATE, stored.RaftHardState(term=2, vote=7, commit=4).SerializeToString())
WHO = (METADATA, stored.WalMetadata(member_id=7, cluster_id=9).SerializeToString())


def example() -> Writer:
    writer = Writer()
    writer.file(WHO, (SNAPSHOT, b""), entry(1, 1, ADDED, 1), entry(2), entry(3, data=asking(put=PUT)))
    writer.file(WHO, STATE_RECORD, entry(4, data=asking(v2=b"PUT")), entry(5, data=asking(delete_range=PUT)))
    return writer


def test_a_log_of_two_files_is_read() -> None:
    log = read_log(example().files)
    assert (log.member_id, log.cluster_id, log.hard_state) == (7, 9, HardState(2, 7, 4))
    assert sorted(log.entries) == [1, 2, 3, 4, 5]
    assert (log.term_at(1), log.term_at(3), log.term_at(9)) == (1, 2, None)
    assert log.term_at(0) == 0
    assert all(is_etcd_log(data[:16]) for _, data in example().files)
    assert not is_etcd_log(b"TERCETWL" + bytes(8))


def test_the_entries_after_the_database_become_ours() -> None:
    entries = convert(read_log(example().files), 2)
    assert entries == (
        Entry(2, 3, encode_command(Command.PUT, 0, 0, PUT)),
        Entry(2, 4, b""),
        Entry(2, 5, encode_command(Command.DELETE_RANGE, 0, 0, PUT)),
    )
    machine = Machine()
    machine.applied_index = 2
    assert machine.apply(entries[0]).error is None
    assert convert(read_log(example().files), 5) == ()


def test_an_entry_written_again_replaces_what_came_after_it() -> None:
    writer = Writer()
    writer.file(WHO, entry(1), entry(2), entry(3), entry(2, 4))
    log = read_log(writer.files)
    assert (sorted(log.entries), log.term_at(2)) == ([1, 2], 4)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (stored.RaftRequest(ID=1).SerializeToString() + b"\xe2\x44\x02hi", 0, "about users"),
        (
            stored.RaftRequest(put=PUT, header=stored.RaftRequestHeader(username="u")).SerializeToString(),
            0, "about users",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_converted_is_refused(data: bytes, kind: int, words: str) -> None:
    writer = Writer()
    writer.file(WHO, entry(1), entry(2, 2, data, kind))
    with pytest.raises(CannotAdopt, match=words):
        convert(read_log(writer.files), 1)
    assert convert(read_log(writer.files), 2) == ()


def test_the_members_are_those_of_the_log_if_it_has_its_beginning() -> None:
    removed = stored.ConfChange(type=1, member_id=7).SerializeToString()
    writer = Writer()
    writer.file(WHO, entry(1, 1, ADDED, 1), entry(2, 1, removed, 1))
    log = read_log(writer.files)
    known = [StoredMember(id=3, peer_urls=("http://b:1",), client_urls=None, is_learner=True)]
    assert [(member.id, member.name) for member in members_at(log, 1, known)] == [(7, "a")]
    assert members_at(log, 2, known) == []
    later = EtcdLog(entries={8: stored.RaftEntry(index=8)}, snapshots={})
    assert [(member.id, member.is_learner) for member in members_at(later, 8, known)] == [(3, True)]


def changed(kind: int, member: StoredMember, *, promoted: bool = False) -> bytes:
    """A change of the members as etcd writes it."""
    context = msgspec.json.decode(msgspec.json.encode(member)) | ({"isPromote": True} if promoted else {})
    change = stored.ConfChange(type=kind, member_id=member.id, context=msgspec.json.encode(context))
    return change.SerializeToString()


def test_changes_of_the_members_that_the_database_has_not_seen_become_ours() -> None:
    new = StoredMember(id=8, peer_urls=("http://b:1",), is_learner=True)
    writer = Writer()
    writer.file(
        WHO,
        entry(1, 1, ADDED, 1),
        entry(2, 2, changed(3, new), 1),
        entry(3, 2, changed(0, StoredMember(id=8), promoted=True), 1),
        entry(4, 2, changed(2, StoredMember(id=8, peer_urls=("http://c:1",))), 1),
        entry(5, 2, stored.ConfChange(type=1, member_id=7).SerializeToString(), 1),
    )
    log = read_log(writer.files)
    machine = Machine()
    seen = []
    for one in convert(log, 0):
        assert machine.apply(one).error is None
        seen.append([(m.id, m.peer_urls, m.is_learner) for m in machine.members.all()])
        told = [(m.id, m.peer_urls, m.is_learner) for m in members_at(log, one.index, ())]
        assert told == seen[-1]
    first = (7, ("http://a:1",), False)
    assert seen == [
        [first],
        [first, (8, ("http://b:1",), True)],
        [first, (8, ("http://b:1",), False)],
        [first, (8, ("http://c:1",), False)],
        [(8, ("http://c:1",), False)],
    ]
    assert [one.kind == EntryKind.CONF_CHANGE for one in convert(log, 0)] == [True, True, True, False, True]


def test_a_file_that_does_not_continue_the_one_before_is_refused() -> None:
    first, second = example(), Writer()
    second.file(WHO, entry(9))
    second.file(WHO, entry(10))
    with pytest.raises(Corruption, match="does not continue"):
        read_log([first.files[0], second.files[1]])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 255), st.integers(0, 400))
def test_damage_is_noticed_or_harmless(place: int, bits: int, cut: int) -> None:
    name, data = example().files[0]
    damaged = bytearray(data[: len(data) - cut] if cut < len(data) else data)
    damaged[place % len(damaged)] ^= bits
    try:
        log = read_log([(name, bytes(damaged))])
    except Corruption:
        return
    whole = read_log([(name, data)])
    for index, found in log.entries.items():
        assert found == whole.entries[index]
