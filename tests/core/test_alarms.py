"""Alarms: what they refuse, what goes on, and how they are listed and ended."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from tercet.core import rpc_errors
from tercet.core.auth.commands import AUTH_COMMANDS, encode_authenticate
from tercet.core.machine import Alarm, Command, Machine, Outcome, encode_command
from tercet.core.members import MemberCommand
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc

from .auth_machine import AuthMachine

ACTIVATE, DEACTIVATE, GET = rpc.AlarmRequest.ACTIVATE, rpc.AlarmRequest.DEACTIVATE, rpc.AlarmRequest.GET
PUT = rpc.RequestOp(request_put=rpc.PutRequest(key=b"a"))
RANGE = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"a"))
DELETE = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"k"))


def apply(machine: Machine, kind: int, request: Message) -> Outcome:
    data = encode_command(kind, 11, 22, request.SerializeToString())  # type: ignore[arg-type]
    return machine.apply(Entry(1, machine.applied_index + 1, data))


def raised(member: int, kind: int) -> Machine:
    """A machine with a key k, a lease 5, and an alarm."""
    machine = Machine()
    apply(machine, Command.PUT, rpc.PutRequest(key=b"k", value=b"v"))
    apply(machine, Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=5, TTL=60))
    apply(machine, Command.ALARM, alarm(ACTIVATE, member, kind))
    return machine


def alarm(action: int, member: int = 0, kind: int = 0) -> rpc.AlarmRequest:
    return rpc.AlarmRequest(action=action, memberID=member, alarm=kind)  # type: ignore[arg-type]


def told(machine: Machine, action: int, member: int = 0, kind: int = 0) -> list[tuple[int, int]]:
    """What the answer to an alarm request lists."""
    outcome = apply(machine, Command.ALARM, alarm(action, member, kind))
    assert outcome.error is None
    return [(one.memberID, one.alarm) for one in rpc.AlarmResponse.FromString(outcome.body).alarms]


def txn(*success: rpc.RequestOp, failure: tuple[rpc.RequestOp, ...] = ()) -> rpc.TxnRequest:
    return rpc.TxnRequest(success=success, failure=failure)


def inner(request: rpc.TxnRequest) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=request)


@pytest.mark.parametrize(("kind", "request_"), [
    (Command.PUT, rpc.PutRequest(key=b"k")),
    (Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=6, TTL=60)),
    (Command.TXN, txn(PUT)), (Command.TXN, txn(RANGE, PUT)), (Command.TXN, txn(failure=(PUT,))),
    (Command.TXN, txn(inner(txn(PUT)))), (Command.TXN, txn(inner(txn(RANGE)), inner(txn(failure=(PUT,))))),
])  # fmt: skip
def test_a_space_alarm_refuses_what_needs_space(kind: int, request_: Message) -> None:
    machine = raised(1, rpc.NOSPACE)
    assert apply(machine, kind, request_).error == rpc_errors.NO_SPACE
    assert told(machine, DEACTIVATE, 1, rpc.NOSPACE) == [(1, rpc.NOSPACE)]
    assert apply(machine, kind, request_).error is None


#: What changes keys or leases and takes no room.
ROOMY = [
    (Command.TXN, txn(DELETE)), (Command.TXN, txn(inner(txn(DELETE)), RANGE)), (Command.TXN, txn()),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"k")),
    (Command.COMPACTION, rpc.CompactionRequest(revision=2)),
    (Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5)),
    (Command.LEASE_EXPIRE, internal.LeaseExpire(ID=5, term=1)),
]  # fmt: skip
#: What is about neither.
APART = [
    (Command.CLUSTER_VERSION, internal.ClusterVersion(version="3.4.0")),
    (AUTH_COMMANDS["UserAdd"], rpc.AuthUserAddRequest(name="root", hashedPassword="cnB3")),
    (AUTH_COMMANDS["UserList"], rpc.AuthUserListRequest()),
]


@pytest.mark.parametrize(("kind", "request_"), ROOMY + APART)
def test_a_space_alarm_refuses_nothing_else(kind: int, request_: Message) -> None:
    assert apply(raised(1, rpc.NOSPACE), kind, request_).error is None


@pytest.mark.parametrize(("kind", "request_"), [
    *ROOMY, (Command.PUT, rpc.PutRequest(key=b"k")),
    (Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=6, TTL=60)),
])  # fmt: skip
def test_a_corruption_alarm_refuses_what_touches_keys(kind: int, request_: Message) -> None:
    machine = raised(1, rpc.CORRUPT)
    assert apply(machine, kind, request_).error == rpc_errors.CORRUPT
    assert machine.revision == 2
    assert told(machine, DEACTIVATE, 1, rpc.CORRUPT) == [(1, rpc.CORRUPT)]
    assert apply(machine, kind, request_).error is None


def test_every_command_there_is_was_thought_of() -> None:
    """A new one that touches keys belongs into the table of what CORRUPT refuses."""
    refused = {Command.PUT, Command.LEASE_GRANT, *(kind for kind, _ in ROOMY)}
    versions = {Command.CLUSTER_VERSION, Command.DOWNGRADE}
    apart = {Command.ALARM, Command.AS_USER, Command.LEASE_CHECKPOINT} | versions
    assert {int(kind) for kind in Command} == {*map(int, refused | apart), *map(int, MemberCommand)}


def test_a_corruption_alarm_refuses_reads_too() -> None:
    machine = raised(1, rpc.CORRUPT)
    with pytest.raises(RpcError, match="corrupt cluster"):
        machine.range(rpc.RangeRequest(key=b"k"))
    for steps in (machine.range_in_pages(rpc.RangeRequest(key=b"k")), machine.read_txn(txn(RANGE))):
        with pytest.raises(RpcError, match="corrupt cluster"):
            next(steps)


@pytest.mark.parametrize(("kind", "request_"), APART)
def test_a_corruption_alarm_leaves_users_and_versions_alone(kind: int, request_: Message) -> None:
    assert apply(raised(1, rpc.CORRUPT), kind, request_).error is None


def test_a_corruption_alarm_leaves_members_alone() -> None:
    """Who is corrupt has to be replaced."""
    unknown = rpc.MemberUpdateRequest(ID=7, peerURLs=["http://far:2380"])
    assert apply(raised(1, rpc.CORRUPT), MemberCommand.UPDATE, unknown).error == rpc_errors.MEMBER_NOT_FOUND


def test_an_administrator_can_log_in_and_end_a_corruption_alarm() -> None:
    """As in etcd: an administrator may have nothing but a password."""
    one = AuthMachine()
    put, off = rpc.PutRequest(key=b"a"), alarm(DEACTIVATE, 1, rpc.CORRUPT)
    one.apply(Command.ALARM, alarm(ACTIVATE, 1, rpc.CORRUPT), "root")
    assert one.apply(Command.PUT, put, "root").error == rpc_errors.CORRUPT
    machine = one.machine
    login = encode_authenticate("root", machine.auth.revision, b"digest")
    data = encode_command(AUTH_COMMANDS["Authenticate"], 1, 1, login)  # type: ignore[arg-type]
    assert machine.apply(Entry(1, machine.applied_index + 1, data)).error is None
    assert one.apply(Command.ALARM, off, "root").error is None
    assert one.apply(Command.PUT, put, "root").error is None


def test_alarms_are_listed_by_kind_and_ended_one_by_one() -> None:
    machine = raised(2, rpc.NOSPACE)
    assert told(machine, ACTIVATE, 1, rpc.NOSPACE) == [(1, rpc.NOSPACE)]
    assert told(machine, ACTIVATE, 1, rpc.NOSPACE) == [(1, rpc.NOSPACE)]
    assert told(machine, ACTIVATE, 1, rpc.CORRUPT) == [(1, rpc.CORRUPT)]
    assert machine.alarms == (Alarm(1, rpc.NOSPACE), Alarm(1, rpc.CORRUPT), Alarm(2, rpc.NOSPACE))
    assert told(machine, GET) == [(1, rpc.NOSPACE), (1, rpc.CORRUPT), (2, rpc.NOSPACE)]
    assert told(machine, GET, kind=rpc.NOSPACE) == [(1, rpc.NOSPACE), (2, rpc.NOSPACE)]
    assert told(machine, DEACTIVATE) == []
    assert told(machine, DEACTIVATE, 3, rpc.NOSPACE) == []
    assert len(machine.alarms) == 3
    assert told(machine, DEACTIVATE, 1, rpc.NOSPACE) == [(1, rpc.NOSPACE)]
    assert machine.alarms == (Alarm(1, rpc.CORRUPT), Alarm(2, rpc.NOSPACE))


def test_an_alarm_of_a_kind_that_nobody_knows_refuses_nothing() -> None:
    machine = raised(1, 7)
    assert apply(machine, Command.PUT, rpc.PutRequest(key=b"k")).error is None
    assert machine.range(rpc.RangeRequest(key=b"k"))[1]


def test_nobodys_alarm_of_no_kind_is_none() -> None:
    machine = Machine()
    assert told(machine, ACTIVATE) == told(machine, 3, 5, rpc.NOSPACE) == []
    assert machine.alarms == ()


@pytest.mark.parametrize(("member", "kind"), [(5, 0), (0, 7), (2**64 - 1, -1), (5, 2**31 - 1), (5, -(2**31))])
def test_alarms_that_nobody_knows_are_kept_as_they_come(member: int, kind: int) -> None:
    machine = Machine()
    assert told(machine, ACTIVATE, member, kind) == [(member, kind)]
    assert machine.alarms == (Alarm(member, kind),)
    assert told(machine, DEACTIVATE, member, kind) == [(member, kind)]
    assert machine.alarms == ()
