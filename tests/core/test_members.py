"""Who is a member: adding, removing, promoting, publishing, and what is refused with etcd's words."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tercet.core import rpc_errors
from tercet.core.errors import Corruption
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.members import (
    MemberCommand,
    Members,
    MemberView,
    added_member,
    added_member_id,
    bootstrap_entries,
    conf_change,
    first_voters,
)
from tercet.core.raft.types import Change, ChangeKind, ConfChange, Entry, EntryKind, encode_conf_change
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc

FIRST = ((1, "a", ("http://a:2380",)), (2, "b", ("http://b:2380",)), (3, "c", ("http://c:2380",)))


def cluster(rows: Iterable[tuple[int, str, tuple[str, ...]]] = FIRST) -> Machine:
    machine = Machine()
    for entry in bootstrap_entries(rows):
        assert machine.apply(entry).error is None
    return machine


def change(machine: Machine, command: MemberCommand, payload: bytes) -> Outcome:
    data = encode_conf_change(conf_change(command, payload, encode_command(Command(command), 1, 7, b"")))
    return machine.apply(Entry(2, machine.applied_index + 1, data, EntryKind.CONF_CHANGE))


def add(machine: Machine, member_id: int, url: str, *, learner: bool = False) -> Outcome:
    member = rpc.Member(ID=member_id, peerURLs=[url], isLearner=learner)
    return change(machine, MemberCommand.ADD, member.SerializeToString())


@pytest.mark.parametrize(("learner", "kind"), [(False, ChangeKind.ADD_VOTER), (True, ChangeKind.ADD_LEARNER)])
def test_raft_is_told_who_votes(learner: bool, kind: ChangeKind) -> None:
    payload = rpc.Member(ID=9, isLearner=learner).SerializeToString()
    assert conf_change(MemberCommand.ADD, payload, b"").changes == (Change(kind, 9),)


def test_how_many_learners_there_may_be_travels_with_who_adds_one() -> None:
    """All members must decide alike, whatever their own flags say; a log of before says nothing, so one."""
    machine = cluster()

    def join(member_id: int, most: int) -> RpcError | None:
        member = rpc.Member(ID=member_id, peerURLs=[f"http://{member_id}:2380"], isLearner=True)
        return change(machine, MemberCommand.ADD, added_member(member, most)).error

    assert add(machine, 4, "http://d:2380", learner=True).error is None
    assert add(machine, 5, "http://e:2380", learner=True).error == rpc_errors.TOO_MANY_LEARNERS
    assert join(5, 1) == rpc_errors.TOO_MANY_LEARNERS
    assert join(5, 2) is None
    assert join(6, 2) == rpc_errors.TOO_MANY_LEARNERS
    assert join(6, 3) is None
    assert [member.id for member in machine.members.all() if member.is_learner] == [4, 5, 6]


def remove(machine: Machine, member_id: int) -> Outcome:
    payload = rpc.MemberRemoveRequest(ID=member_id).SerializeToString()
    return change(machine, MemberCommand.REMOVE, payload)


def promote(machine: Machine, member_id: int) -> Outcome:
    payload = rpc.MemberPromoteRequest(ID=member_id).SerializeToString()
    return change(machine, MemberCommand.PROMOTE, payload)


def update(machine: Machine, member_id: int, *urls: str) -> Outcome:
    payload = rpc.MemberUpdateRequest(ID=member_id, peerURLs=urls).SerializeToString()
    data = encode_command(Command.MEMBER_UPDATE, 1, 7, payload)
    return machine.apply(Entry(2, machine.applied_index + 1, data))


def ids(machine: Machine) -> list[int]:
    return [member.id for member in machine.members.all()]


def test_a_log_begins_with_one_change_for_each_first_member_whatever_their_order_in_the_flags() -> None:
    assert bootstrap_entries(FIRST) == bootstrap_entries(reversed(FIRST))
    assert [(entry.term, entry.index) for entry in bootstrap_entries(FIRST)] == [(1, 1), (1, 2), (1, 3)]
    assert cluster().members.get(2) == MemberView(2, "b", ("http://b:2380",))


def test_the_first_voters_are_read_back_from_the_log_and_later_changes_are_not_among_them() -> None:
    entries = bootstrap_entries(FIRST)
    later = Entry(2, 4, encode_conf_change(ConfChange((Change(ChangeKind.ADD_VOTER, 9),))), 1)
    assert first_voters((*entries, later)) == (1, 2, 3)
    assert first_voters(entries[1:]) == () == first_voters(())


@pytest.mark.parametrize(("term", "kind", "header"), [
    (2, EntryKind.CONF_CHANGE, (0, 0)), (1, EntryKind.NORMAL, (0, 0)),
    (1, EntryKind.CONF_CHANGE, (1, 0)), (1, EntryKind.CONF_CHANGE, (0, 7)),
])  # fmt: skip
def test_only_what_a_log_begins_with_made_first_voters(
    term: int, kind: EntryKind, header: tuple[int, int]
) -> None:
    """Of the term of the beginning, and proposed by nobody."""
    payload = rpc.Member(ID=9).SerializeToString()
    change = conf_change(MemberCommand.ADD, payload, encode_command(Command.MEMBER_ADD, *header, b""))
    later = Entry(term, 4, encode_conf_change(change), kind)
    assert first_voters((*bootstrap_entries(FIRST), later)) == (1, 2, 3)
    first = conf_change(MemberCommand.ADD, payload, encode_command(Command.MEMBER_ADD, 0, 0, b""))
    fourth = Entry(1, 4, encode_conf_change(first), EntryKind.CONF_CHANGE)
    assert first_voters((*bootstrap_entries(FIRST), fourth)) == (1, 2, 3, 9)


def test_an_added_member_is_shown_with_everybody_and_has_no_name_yet() -> None:
    machine = cluster()
    outcome = add(machine, 9, "http://d:2380")
    assert (outcome.member, outcome.sequence, outcome.error) == (1, 7, None)
    answer = rpc.MemberAddResponse.FromString(outcome.body)
    assert (answer.member.ID, list(answer.member.peerURLs), answer.member.name) == (9, ["http://d:2380"], "")
    assert [member.ID for member in answer.members] == ids(machine) == [1, 2, 3, 9]
    added = machine.members.get(9)
    assert added is not None and not added.is_started


def test_a_removed_id_never_comes_back() -> None:
    machine = cluster()
    assert remove(machine, 2).error is None
    assert ids(machine) == [1, 3] and list(machine.members.removed) == [2]
    assert add(machine, 2, "http://new:2380").error == rpc_errors.MEMBER_NOT_FOUND
    assert remove(machine, 2).error == rpc_errors.MEMBER_NOT_FOUND


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (lambda m: add(m, 1, "http://x:2380"), rpc_errors.MEMBER_EXISTS),
        (lambda m: add(m, 9, "http://c:2380"), rpc_errors.PEER_URL_EXISTS),
        (lambda m: remove(m, 9), rpc_errors.MEMBER_NOT_FOUND),
        (lambda m: promote(m, 9), rpc_errors.MEMBER_NOT_FOUND),
        (lambda m: promote(m, 1), rpc_errors.MEMBER_NOT_LEARNER),
        (lambda m: update(m, 9, "http://x:2380"), rpc_errors.MEMBER_NOT_FOUND),
        (lambda m: update(m, 1, "http://b:2380"), rpc_errors.PEER_URL_EXISTS),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(outcome: object, error: RpcError) -> None:
    machine = cluster()
    before = machine.members.dump()
    assert callable(outcome) and outcome(machine).error == error
    assert machine.members.dump() == before


def test_there_is_one_learner_at_a_time_and_promoting_it_makes_room() -> None:
    machine = cluster()
    assert add(machine, 8, "http://d:2380", learner=True).error is None
    assert [member.id for member in machine.members.voters()] == [1, 2, 3]
    assert add(machine, 9, "http://e:2380", learner=True).error == rpc_errors.TOO_MANY_LEARNERS
    assert add(machine, 7, "http://f:2380").error is None, "a voter is none"
    assert promote(machine, 8).error is None
    assert add(machine, 9, "http://e:2380", learner=True).error is None
    assert [member.id for member in machine.members.voters()] == [1, 2, 3, 7, 8]


def test_a_member_may_be_given_its_own_urls_again() -> None:
    machine = cluster()
    assert update(machine, 1, "http://a:2380").error is None
    assert update(machine, 1, "http://a:1", "http://a:2").error is None
    moved = machine.members.get(1)
    assert moved is not None and moved.peer_urls == ("http://a:1", "http://a:2")


def test_what_a_member_publishes_is_shown_unless_it_was_removed_meanwhile() -> None:
    machine = cluster()
    remove(machine, 3)
    for member_id in (1, 3):
        said = internal.MemberAttributes(member_id=member_id, name="new", client_urls=["http://c"])
        data = encode_command(Command.MEMBER_ATTRIBUTES, member_id, 1, said.SerializeToString())
        assert machine.apply(Entry(2, machine.applied_index + 1, data)).error is None
    assert machine.members.get(1) == MemberView(1, "new", ("http://a:2380",), ("http://c",))
    assert machine.members.get(3) is None


def test_members_survive_in_snapshots_and_in_the_rows_noted_for_the_disk() -> None:
    rows: dict[tuple[str, bytes], bytes | None] = {}

    def note(bucket: str, key: bytes, value: bytes | None) -> None:
        rows[bucket, key] = value

    members = Members(note)
    handlers = members.handlers()
    for member_id, name, urls in FIRST:
        message = rpc.Member(ID=member_id, name=name, peerURLs=urls)
        handlers[MemberCommand.ADD](message.SerializeToString())
    handlers[MemberCommand.REMOVE](rpc.MemberRemoveRequest(ID=2).SerializeToString())
    again = Members()
    for (bucket, key), value in rows.items():
        if value is not None:
            again.loaders()[bucket](key, value)
    assert again.dump() == members.dump()

    machine = cluster()
    remove(machine, 2)
    add(machine, 9, "http://d:2380", learner=True)
    assert Machine.restore(machine.snapshot()).members.dump() == machine.members.dump()


def test_every_change_moves_the_version_and_a_refused_one_does_not() -> None:
    machine = cluster()
    versions = [machine.members.version]
    add(machine, 9, "http://d:2380")
    for _ in range(2):
        versions.append(machine.members.version)
        remove(machine, 9)
    versions.append(machine.members.version)
    assert versions[0] < versions[1] < versions[2] == versions[3]


def test_a_change_that_raft_makes_for_itself_is_nothing_to_the_machine() -> None:
    machine = cluster()
    for data in (b"", encode_conf_change(ConfChange())):
        outcome = machine.apply(Entry(2, machine.applied_index + 1, data, EntryKind.CONF_CHANGE))
        assert (outcome.member, outcome.sequence, outcome.error) == (0, 0, None)


def test_a_change_that_cannot_be_read_is_corruption() -> None:
    with pytest.raises(Corruption, match="entry 1 is no change of the configuration"):
        Machine().apply(Entry(1, 1, b"\xc1", EntryKind.CONF_CHANGE))


def test_ids_of_added_members_depend_on_urls_and_time_and_not_on_the_order_of_urls() -> None:
    one = added_member_id(["http://a:1", "http://b:1"], 1_700_000_000)
    assert one == added_member_id(["http://b:1", "http://a:1"], 1_700_000_000)
    assert one != added_member_id(["http://a:1", "http://b:1"], 1_700_000_001)
    assert 0 < one < 1 << 64
