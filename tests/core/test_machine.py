"""The replicated machine: every command, alarms, determinism, snapshots, and entries that make no sense."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tercet.core import rpc_errors
from tercet.core.errors import Corruption
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc


def apply(machine: Machine, kind: int, request: Message, term: int = 1) -> Outcome:
    data = encode_command(kind, 11, 22, request.SerializeToString())  # type: ignore[arg-type]
    return machine.apply(Entry(term, machine.applied_index + 1, data))


def grant(machine: Machine, lease_id: int) -> Outcome:
    return apply(machine, Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=lease_id, TTL=60))


def put(machine: Machine, key: bytes, lease: int = 0) -> Outcome:
    return apply(machine, Command.PUT, rpc.PutRequest(key=key, value=b"v", lease=lease))


def test_an_outcome_names_its_proposal() -> None:
    outcome = put(Machine(), b"k")
    assert (outcome.member, outcome.sequence, outcome.revision, outcome.error) == (11, 22, 2, None)


def test_a_no_op_changes_nothing_but_the_index() -> None:
    machine = Machine()
    assert machine.apply(Entry(3, 1)) == Outcome(0, 0, 1)
    assert (machine.applied_index, machine.applied_term) == (1, 3)


def test_entries_must_come_in_order() -> None:
    machine = Machine()
    with pytest.raises(Corruption, match="entry 2 cannot follow 0"):
        machine.apply(Entry(1, 2))


def test_an_entry_too_short_to_be_a_command_is_corruption() -> None:
    with pytest.raises(Corruption, match="entry 1 has 3 bytes"):
        Machine().apply(Entry(1, 1, b"abc"))


def test_a_command_of_a_newer_version_is_an_error_not_a_crash() -> None:
    outcome = apply(Machine(), 99, rpc.PutRequest())
    assert isinstance(outcome.error, RpcError) and outcome.error.code == Status.UNIMPLEMENTED


@given(st.integers(0, 255), st.binary(max_size=60))
def test_no_payload_can_make_apply_raise(kind: int, payload: bytes) -> None:
    machine = Machine()
    put(machine, b"k")
    grant(machine, 1)
    outcome = machine.apply(Entry(1, 3, encode_command(kind, 1, 1, payload)))  # type: ignore[arg-type]
    assert (outcome.error is None) or outcome.events == ()
    assert machine.applied_index == 3


def test_revoking_a_lease_deletes_its_keys_in_one_revision() -> None:
    machine = Machine()
    grant(machine, 5)
    for key in (b"b", b"a", b"c"):
        put(machine, key, lease=5)
    put(machine, b"c")  # detaches
    outcome = apply(machine, Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5))
    assert [event.record.key for event in outcome.events] == [b"a", b"b"]
    assert outcome.revision == 6
    again = apply(machine, Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5))
    assert again.error == rpc_errors.LEASE_NOT_FOUND
    assert put(machine, b"x", lease=5).error == rpc_errors.LEASE_NOT_FOUND


def test_revoking_a_lease_without_keys_takes_no_revision() -> None:
    machine = Machine()
    grant(machine, 5)
    assert apply(machine, Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5)).revision == 1


def test_a_key_follows_the_lease_of_its_last_put() -> None:
    machine = Machine()
    grant(machine, 5)
    grant(machine, 6)
    put(machine, b"k", lease=5)
    put(machine, b"k", lease=6)
    apply(machine, Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5))
    assert machine.store.latest(b"k") is not None
    apply(machine, Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"k"))
    lease = machine.lessor.get(6)
    assert lease is not None and not lease.keys


def test_a_replaced_leader_cannot_expire_a_lease() -> None:
    """A leader of term 1 decides; its proposal lands in the log of term 2, where the lease was renewed."""
    machine = Machine()
    grant(machine, 5)
    expire = internal.LeaseExpire(ID=5, term=1)
    assert apply(machine, Command.LEASE_EXPIRE, expire, term=2).error == rpc_errors.NOT_LEADER
    assert 5 in machine.lessor
    expire.term = 2
    assert apply(machine, Command.LEASE_EXPIRE, expire, term=2).error is None
    assert 5 not in machine.lessor


def test_the_leader_publishes_the_version() -> None:
    machine = Machine()
    apply(machine, Command.CLUSTER_VERSION, internal.ClusterVersion(version="3.4.0"))
    assert machine.cluster_version == "3.4.0"


def busy_machine() -> Machine:
    machine = Machine()
    grant(machine, 5)
    for number in range(30):
        put(machine, b"k%d" % (number % 7), lease=5 if number % 3 == 0 else 0)
        if number % 5 == 0:
            apply(machine, Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"k%d" % (number % 7)))
    apply(machine, Command.COMPACTION, rpc.CompactionRequest(revision=12))
    checkpoint = rpc.LeaseCheckpointRequest(checkpoints=[rpc.LeaseCheckpoint(ID=5, remaining_TTL=20)])
    apply(machine, Command.LEASE_CHECKPOINT, checkpoint)
    alarm = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc.NOSPACE)
    apply(machine, Command.ALARM, alarm)
    apply(machine, Command.MEMBER_ATTRIBUTES, internal.MemberAttributes(member_id=3, name="n"))
    apply(machine, Command.CLUSTER_VERSION, internal.ClusterVersion(version="3.4.0"))
    return machine


def test_a_restored_machine_goes_on_like_the_original() -> None:
    original = busy_machine()
    copy = Machine.restore(original.snapshot())
    assert copy.digest() == original.digest()
    for request in (rpc.LeaseRevokeRequest(ID=5), rpc.LeaseRevokeRequest(ID=5)):
        assert apply(copy, Command.LEASE_REVOKE, request) == apply(original, Command.LEASE_REVOKE, request)
    assert copy.digest() == original.digest()


def test_machines_that_applied_the_same_entries_have_one_digest() -> None:
    one, other = busy_machine(), busy_machine()
    assert one.digest() == other.digest()
    put(other, b"more")
    assert one.digest() != other.digest()


def test_what_is_no_snapshot_is_corruption() -> None:
    with pytest.raises(Corruption, match="snapshot"):
        Machine.restore(b"nonsense")
