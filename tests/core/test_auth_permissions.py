"""Every permission rule as a table: who may have which command done."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from tercet.core import rpc_errors
from tercet.core.auth.commands import AUTH_COMMANDS, encode_authenticate, unwrap, wrap
from tercet.core.auth.permits import check_range, check_txn
from tercet.core.auth.values import NOBODY, Identity
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc

from .auth_machine import AuthMachine

_DENIED = rpc_errors.PERMISSION_DENIED


def _range(key: bytes, end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=end))


def _put(key: bytes, **options: object) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"n", **options))  # type: ignore[arg-type]


def _delete(key: bytes, end: bytes = b"", prev_kv: bool = False) -> rpc.RequestOp:
    request = rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=prev_kv)
    return rpc.RequestOp(request_delete_range=request)


def _nested(inner: rpc.TxnRequest) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=inner)


def _txn(
    *success: rpc.RequestOp, failure: tuple[rpc.RequestOp, ...] = (), compare: bytes = b""
) -> rpc.TxnRequest:
    compares = [rpc.Compare(key=compare, target=rpc.Compare.VERSION)] if compare else []
    return rpc.TxnRequest(compare=compares, success=success, failure=failure)


# Command, request, may alice (readwrite [a,c), read [c,e), write w, readwrite [t,u)).
_WRITES: list[tuple[int, Message, bool]] = [
    (Command.PUT, rpc.PutRequest(key=b"a"), True),
    (Command.PUT, rpc.PutRequest(key=b"b\xff"), True),
    (Command.PUT, rpc.PutRequest(key=b"c"), False),
    (Command.PUT, rpc.PutRequest(key=b"z"), False),
    (Command.PUT, rpc.PutRequest(key=b"w"), True),
    (Command.PUT, rpc.PutRequest(key=b"a", prev_kv=True), True),
    (Command.PUT, rpc.PutRequest(key=b"w", prev_kv=True), False),
    (Command.PUT, rpc.PutRequest(key=b"c", prev_kv=True), False),
    (Command.PUT, rpc.PutRequest(key=b"a", lease=5), False),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"a"), True),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"a", range_end=b"c"), True),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"a", range_end=b"d"), False),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"a", range_end=b"\0"), False),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"w"), True),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"w", prev_kv=True), False),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"a", range_end=b"c", prev_kv=True), True),
    (Command.DELETE_RANGE, rpc.DeleteRangeRequest(key=b"z"), False),
    (Command.TXN, _txn(), True),
    (Command.TXN, _txn(_put(b"a"), _range(b"a", b"e")), True),
    (Command.TXN, _txn(_put(b"z")), False),
    (Command.TXN, _txn(_range(b"z")), False),
    (Command.TXN, _txn(_range(b"a", b"f")), False),
    (Command.TXN, _txn(_range(b"a"), failure=(_range(b"z"),)), False),
    (Command.TXN, _txn(_put(b"a"), compare=b"d"), True),
    (Command.TXN, _txn(_put(b"a"), compare=b"w"), False),
    (Command.TXN, _txn(_put(b"a"), compare=b"z"), False),
    (Command.TXN, _txn(_put(b"w")), True),
    (Command.TXN, _txn(_put(b"w", prev_kv=True)), False),
    (Command.TXN, _txn(_put(b"a", prev_kv=True)), True),
    (Command.TXN, _txn(_delete(b"w")), True),
    (Command.TXN, _txn(_delete(b"w", prev_kv=True)), False),
    (Command.TXN, _txn(_delete(b"a", b"d")), False),
    (Command.TXN, _txn(_nested(_txn(_put(b"a")))), True),
    (Command.TXN, _txn(_nested(_txn(_range(b"z")))), False),
    (Command.TXN, _txn(_nested(_txn(_put(b"a"), compare=b"z"))), False),
    (Command.TXN, _txn(failure=(_nested(_txn(failure=(_delete(b"z"),))),)), False),
    (Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5), False),
    (Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=6, TTL=60), True),
    (Command.COMPACTION, rpc.CompactionRequest(revision=2), True),
    (Command.ALARM, rpc.AlarmRequest(), True),
]


@pytest.mark.parametrize(("kind", "request_", "allowed"), _WRITES)
def test_a_user_may_do_what_the_roles_allow(kind: int, request_: Message, allowed: bool) -> None:
    outcome = AuthMachine().apply(kind, request_, "alice")
    assert outcome.error == (None if allowed else _DENIED)
    assert allowed or (not outcome.body and not outcome.events)


@pytest.mark.parametrize(("kind", "request_", "allowed"), _WRITES)
def test_root_may_do_all_of_it(kind: int, request_: Message, allowed: bool) -> None:
    assert AuthMachine().apply(kind, request_, "root").error is None


_FREE = (Command.LEASE_GRANT, Command.COMPACTION, Command.ALARM)


@pytest.mark.parametrize(("kind", "request_", "allowed"), [row for row in _WRITES if row[1].ByteSize()])
def test_who_says_no_name_and_who_has_no_role_may_do_none_of_it(
    kind: int, request_: Message, allowed: bool
) -> None:
    world = AuthMachine()
    nobody, bob, unknown = (world.apply(kind, request_, user).error for user in ("", "bob", "mallory"))
    if kind in _FREE:
        assert nobody is None
    else:
        assert nobody == rpc_errors.USER_EMPTY
        assert bob == unknown == _DENIED


@pytest.mark.parametrize(("kind", "request_", "allowed"), _WRITES)
def test_without_authentication_everybody_may_do_everything(
    kind: int, request_: Message, allowed: bool
) -> None:
    world = AuthMachine()
    world.auth("AuthDisable", rpc.AuthDisableRequest(), "root")
    assert world.apply(kind, request_).error is None


def test_a_proposal_of_a_user_is_done_after_authentication_was_switched_off() -> None:
    world = AuthMachine()
    old = world.machine.auth.revision
    world.auth("AuthDisable", rpc.AuthDisableRequest(), "root")
    assert world.apply(Command.PUT, rpc.PutRequest(key=b"z"), "alice", old).error is None
    assert world.apply(Command.PUT, rpc.PutRequest(key=b"z"), "mallory").error is None


def test_what_was_decided_at_an_older_auth_revision_is_refused() -> None:
    world = AuthMachine()
    old = world.machine.auth.revision
    world.auth("RoleAdd", rpc.AuthRoleAddRequest(name="new"), "root")
    put = rpc.PutRequest(key=b"a")
    assert world.apply(Command.PUT, put, "alice", old).error == rpc_errors.AUTH_OLD_REVISION
    assert world.apply(Command.PUT, put, "root", old).error == rpc_errors.AUTH_OLD_REVISION
    assert world.apply(Command.PUT, put, "alice").error is None


def test_a_lease_may_be_ended_by_who_may_write_all_its_keys() -> None:
    world = AuthMachine()
    world.apply(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=8, TTL=60))
    assert world.apply(Command.PUT, rpc.PutRequest(key=b"a", lease=8), "alice").error is None
    assert world.apply(Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=8), "bob").error == _DENIED
    assert world.apply(Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=8), "alice").error is None


def test_the_right_to_a_lease_is_no_right_to_a_key() -> None:
    world = AuthMachine()
    world.apply(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=8, TTL=60))
    assert world.apply(Command.PUT, rpc.PutRequest(key=b"a", lease=8), "alice").error is None
    for key in (b"c", b"z"):
        assert world.apply(Command.PUT, rpc.PutRequest(key=key, lease=8), "alice").error == _DENIED
    unknown = rpc.PutRequest(key=b"a", lease=77)
    assert world.apply(Command.PUT, unknown, "alice").error == rpc_errors.LEASE_NOT_FOUND


def test_a_lease_that_runs_out_takes_its_keys_whoever_they_belong_to() -> None:
    world = AuthMachine()
    assert world.apply(Command.LEASE_EXPIRE, internal.LeaseExpire(ID=5, term=1)).error is None
    assert world.machine.store.latest(b"z") is None


_ADMIN: list[tuple[str, Message]] = [
    ("AuthEnable", rpc.AuthEnableRequest()),
    ("AuthDisable", rpc.AuthDisableRequest()),
    ("AuthStatus", rpc.AuthStatusRequest()),
    ("UserAdd", rpc.AuthUserAddRequest(name="new")),
    ("UserList", rpc.AuthUserListRequest()),
    ("UserDelete", rpc.AuthUserDeleteRequest(name="bob")),
    ("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="bob")),
    ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="bob", role="r")),
    ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name="alice", role="r")),
    ("RoleAdd", rpc.AuthRoleAddRequest(name="new")),
    ("RoleList", rpc.AuthRoleListRequest()),
    ("RoleDelete", rpc.AuthRoleDeleteRequest(role="r")),
    ("RoleRevokePermission", rpc.AuthRoleRevokePermissionRequest(role="r", key=b"w")),
    ("UserGet", rpc.AuthUserGetRequest(name="root")),
    ("UserGet", rpc.AuthUserGetRequest(name="bob")),
    ("RoleGet", rpc.AuthRoleGetRequest(role="r")),
]


@pytest.mark.parametrize(("method", "request_"), _ADMIN)
def test_users_and_roles_are_the_administrators_business(method: str, request_: Message) -> None:
    world = AuthMachine()
    kind = AUTH_COMMANDS[method]
    before = world.machine.auth.rows()
    assert world.apply(kind, request_).error == rpc_errors.USER_EMPTY
    assert world.apply(kind, request_, "mallory").error == _DENIED
    who = "bob" if "bob" not in str(request_) else "alice"
    assert world.apply(kind, request_, who).error == _DENIED
    assert world.machine.auth.rows() == before
    assert world.apply(kind, request_, "root").error is None


def test_everybody_may_look_at_their_own_user_and_roles() -> None:
    world = AuthMachine()
    user = world.auth("UserGet", rpc.AuthUserGetRequest(name="alice"), "alice")
    assert list(rpc.AuthUserGetResponse.FromString(user.body).roles) == ["r"]
    nobodys = world.apply(AUTH_COMMANDS["UserGet"], rpc.AuthUserGetRequest(name=""))
    assert nobodys.error == rpc_errors.USER_EMPTY
    role = world.auth("RoleGet", rpc.AuthRoleGetRequest(role="r"), "alice")
    assert len(rpc.AuthRoleGetResponse.FromString(role.body).perm) == 4


def test_a_grant_without_a_permission_is_refused_and_harmless() -> None:
    world = AuthMachine()
    kind = AUTH_COMMANDS["RoleGrantPermission"]
    refused = world.apply(kind, rpc.AuthRoleGrantPermissionRequest(name="r"), "root")
    assert refused.error == rpc_errors.PERMISSION_NOT_GIVEN


@pytest.mark.parametrize(
    ("key", "end", "error"),
    [
        (b"a", b"", None), (b"a", b"e", None), (b"d", b"", None), (b"a", b"e\0", _DENIED),
        (b"w", b"", _DENIED), (b"a", b"\0", _DENIED), (b"z", b"", _DENIED),
    ],
)  # fmt: skip
def test_reads_are_checked_like_writes(key: bytes, end: bytes, error: RpcError | None) -> None:
    auth = AuthMachine().machine.auth
    request = rpc.RangeRequest(key=key, range_end=end)
    assert check_range(auth, Identity("alice", auth.revision), request) == error
    assert check_range(auth, Identity("root", auth.revision), request) is None
    assert check_range(auth, Identity("bob", auth.revision), request) == _DENIED
    assert check_range(auth, NOBODY, request) == rpc_errors.USER_EMPTY
    read_only = _txn(_range(key, end))
    assert check_txn(auth, Identity("alice", auth.revision), read_only) == error


def test_a_wrapped_command_comes_out_as_it_went_in() -> None:
    who = Identity("jürgen", 2**64 - 1)
    assert unwrap(wrap(who, 3, b"payload")) == (who, 3, b"payload")


def test_a_name_that_does_not_fit_is_wrapped_as_nobodys() -> None:
    assert unwrap(wrap(Identity("x" * 65_535, 3), 3, b""))[0].name == "x" * 65_535
    assert unwrap(wrap(Identity("x" * 65_536, 3), 3, b""))[0].name == ""


@pytest.mark.parametrize("size", range(15))
def test_a_wrapping_that_is_cut_off_is_refused_not_misread(size: int) -> None:
    whole = wrap(Identity("alice", 3), Command.PUT, b"")
    with pytest.raises(RpcError):
        unwrap(whole[:size])


def test_no_wrapping_hides_in_another() -> None:
    world = AuthMachine()
    inner = wrap(Identity("root", 99), Command.PUT, rpc.PutRequest(key=b"z").SerializeToString())
    outer = wrap(Identity("alice", 99), Command.AS_USER, inner)
    data = encode_command(Command.AS_USER, 1, 1, outer)
    outcome = world.machine.apply(Entry(1, world.machine.applied_index + 1, data))
    assert outcome.error is not None
    assert not outcome.events


def test_authentication_is_applied_alike_from_a_snapshot_of_the_machine() -> None:
    world = AuthMachine()
    again = Machine.restore(world.machine.snapshot())
    assert again.digest() == world.machine.digest()
    assert again.auth.enabled
    entry = Entry(
        1, again.applied_index + 1,
        encode_command(Command.PUT, 1, 1, rpc.PutRequest(key=b"a").SerializeToString()),
    )  # fmt: skip
    assert again.apply(entry).error == world.machine.apply(entry).error == rpc_errors.USER_EMPTY
    assert again.digest() == world.machine.digest()


def test_the_entry_of_an_authentication_gives_its_index_and_keeps_the_letters_out() -> None:
    world = AuthMachine()
    machine = world.machine
    machine.auth.take_notices()
    payload = encode_authenticate("alice", machine.auth.revision, b"D" * 32)
    data = encode_command(AUTH_COMMANDS["Authenticate"], 1, 1, payload)  # type: ignore[arg-type]
    outcome = machine.apply(Entry(1, machine.applied_index + 1, data))
    assert outcome.error is None
    assert rpc.AuthenticateResponse.FromString(outcome.body).token == str(machine.applied_index)
    assert [notice.index for notice in machine.auth.take_notices()] == [machine.applied_index]
