"""Users, roles and the switch: what is refused, what counts the revision up, what is stored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tercet.core import rpc_errors
from tercet.core.auth import store
from tercet.core.auth.store import AUTH, ROLES, USERS, AuthStore
from tercet.core.auth.tokens import CLEAR, Notice
from tercet.core.auth.values import READ, READWRITE, WRITE, Permission, Role, User
from tercet.core.errors import Corruption
from tercet.core.rpc_errors import RpcError


def _with_root() -> AuthStore:
    auth = AuthStore()
    auth.add_user("root", b"hash", no_password=False)
    auth.grant_role("root", "root")
    auth.add_user("alice", b"hash", no_password=False)
    auth.add_role("r")
    auth.grant_permission("r", Permission(READ, b"a", b"c"))
    auth.grant_role("alice", "r")
    auth.add_user("certified", b"", no_password=True)
    auth.add_role("root")
    auth.take_notices()
    return auth


def test_enabling_needs_a_root_user_with_the_root_role() -> None:
    auth = AuthStore()
    with pytest.raises(RpcError) as caught:
        auth.enable()
    assert caught.value == rpc_errors.ROOT_USER_MISSING
    auth.add_user("root", b"", no_password=True)
    with pytest.raises(RpcError) as caught:
        auth.enable()
    assert caught.value == rpc_errors.ROOT_ROLE_MISSING
    auth.grant_role("root", "root")
    auth.enable()
    assert auth.enabled


def test_every_change_counts_the_revision_up_and_enabling_does_not() -> None:
    auth = AuthStore()
    seen = [auth.revision]
    changes: list[Callable[[], None]] = [
        lambda: auth.add_user("root", b"h", no_password=False),
        lambda: auth.grant_role("root", "root"),
        lambda: auth.add_role("r"),
        lambda: auth.grant_permission("r", Permission(WRITE, b"k")),
        lambda: auth.revoke_permission("r", b"k", b""),
        lambda: auth.grant_role("root", "r"),
        lambda: auth.revoke_role("root", "r"),
        lambda: auth.change_password("root", b"i"),
        lambda: auth.delete_role("r"),
    ]
    for change in changes:
        change()
        seen.append(auth.revision)
    assert seen == list(range(1, 11))
    auth.grant_role("root", "root")  # has it already
    auth.enable()
    assert auth.revision == 10
    auth.disable()
    assert auth.revision == 11


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda a: a.add_user("", b"", no_password=False), rpc_errors.USER_EMPTY),
        (lambda a: a.add_user("alice", b"", no_password=False), rpc_errors.USER_EXISTS),
        (lambda a: a.delete_user("nobody"), rpc_errors.USER_NOT_FOUND),
        (lambda a: a.delete_user("root"), rpc_errors.INVALID_AUTH_MANAGEMENT),
        (lambda a: a.change_password("nobody", b""), rpc_errors.USER_NOT_FOUND),
        (lambda a: a.grant_role("nobody", "r"), rpc_errors.USER_NOT_FOUND),
        (lambda a: a.grant_role("alice", "none"), rpc_errors.ROLE_NOT_FOUND),
        (lambda a: a.revoke_role("nobody", "r"), rpc_errors.USER_NOT_FOUND),
        (lambda a: a.revoke_role("alice", "root"), rpc_errors.ROLE_NOT_GRANTED),
        (lambda a: a.revoke_role("root", "root"), rpc_errors.INVALID_AUTH_MANAGEMENT),
        (lambda a: a.add_role(""), rpc_errors.ROLE_EMPTY),
        (lambda a: a.add_role("r"), rpc_errors.ROLE_EXISTS),
        (lambda a: a.delete_role("none"), rpc_errors.ROLE_NOT_FOUND),
        (lambda a: a.delete_role("root"), rpc_errors.INVALID_AUTH_MANAGEMENT),
        (lambda a: a.grant_permission("none", Permission(READ, b"a")), rpc_errors.ROLE_NOT_FOUND),
        (lambda a: a.revoke_permission("none", b"a", b""), rpc_errors.ROLE_NOT_FOUND),
        (lambda a: a.revoke_permission("r", b"a", b""), rpc_errors.PERMISSION_NOT_GRANTED),
        (lambda a: a.user("nobody"), rpc_errors.USER_NOT_FOUND),
        (lambda a: a.role("none"), rpc_errors.ROLE_NOT_FOUND),
        (lambda a: a.authenticate("nobody", a.revision, b"d", 1), rpc_errors.AUTH_FAILED),
        (lambda a: a.authenticate("alice", a.revision - 1, b"d", 1), rpc_errors.AUTH_OLD_REVISION),
        (lambda a: a.authenticate("certified", a.revision, b"d", 1), rpc_errors.AUTH_FAILED),
        (lambda a: a.delete_role("root"), rpc_errors.INVALID_AUTH_MANAGEMENT),
    ],
)
def test_a_refused_change_leaves_everything_as_it_was(
    change: Callable[[AuthStore], object], error: RpcError
) -> None:
    auth = _with_root()
    auth.enable()
    auth.take_notices()
    before = (auth.rows(), auth.revision)
    with pytest.raises(RpcError) as caught:
        change(auth)
    assert caught.value == error
    assert (auth.rows(), auth.revision) == before
    assert not auth.has_notices


def test_root_is_like_others_while_nothing_is_checked() -> None:
    auth = _with_root()
    auth.enable()
    auth.grant_role("root", "r")
    auth.revoke_role("root", "r")  # also while requests are
    auth.disable()
    auth.revoke_role("root", "root")
    auth.delete_role("root")
    auth.delete_user("root")
    assert "root" not in auth.users and "root" not in auth.roles


def test_switching_twice_is_switching_once() -> None:
    auth = _with_root()
    auth.disable()
    assert not auth.has_notices
    auth.enable()
    noted = (auth.rows(), auth.revision)
    auth.enable()
    assert (auth.rows(), auth.revision) == noted
    auth.disable()
    noted = (auth.rows(), auth.revision)
    auth.disable()
    assert (auth.rows(), auth.revision) == noted
    assert auth.take_notices() == [CLEAR]


def test_a_user_without_password_never_has_one() -> None:
    auth = _with_root()
    auth.add_user("other", b"given", no_password=True)
    auth.change_password("certified", b"given")
    for name in ("other", "certified"):
        assert auth.user(name) == User(name, b"", (), no_password=True)
    auth.change_password("alice", b"new")
    assert auth.user("alice").password == b"new"


def test_a_signed_token_is_nobodys_to_keep() -> None:
    auth = _with_root()
    auth.enable()
    auth.authenticate("alice", auth.revision, b"", 7)
    assert not auth.has_notices


def test_notices_that_nobody_takes_are_bounded_and_nothing_void_becomes_valid() -> None:
    auth = _with_root()
    auth.enable()
    for index in range(store._MAX_NOTICES):
        auth.authenticate("alice", auth.revision, b"digest", index)
    auth.change_password("alice", b"new")
    assert auth.take_notices() == [CLEAR, Notice("alice")]


def test_a_role_that_goes_is_taken_from_those_who_had_it() -> None:
    noted: list[tuple[str, bytes]] = []
    auth = AuthStore(lambda bucket, key, value: noted.append((bucket, key)))
    for name in ("has", "has-not"):
        auth.add_user(name, b"h", no_password=False)
    auth.add_role("r")
    auth.grant_role("has", "r")
    noted.clear()
    auth.delete_role("r")
    assert [row for row in noted if row[0] == USERS] == [(USERS, b"has")]


def test_nobody_gets_a_token_while_authentication_is_off() -> None:
    auth = _with_root()
    with pytest.raises(RpcError) as caught:
        auth.authenticate("alice", auth.revision, b"d", 1)
    assert caught.value == rpc_errors.AUTH_NOT_ENABLED


def test_granting_a_range_again_replaces_the_former_grant() -> None:
    auth = _with_root()
    auth.grant_permission("r", Permission(READWRITE, b"a", b"c"))
    auth.grant_permission("r", Permission(READ, b"a"))
    auth.grant_permission("r", Permission(WRITE, b"a", b"c"))
    assert set(auth.role("r").permissions) == {Permission(READ, b"a"), Permission(WRITE, b"a", b"c")}


def test_permissions_follow_the_roles_at_once() -> None:
    auth = _with_root()
    assert auth.permits("alice", b"b", b"", READ)
    assert not auth.permits("alice", b"b", b"", WRITE)
    auth.grant_permission("r", Permission(WRITE, b"b"))
    assert auth.permits("alice", b"b", b"", WRITE)
    auth.revoke_permission("r", b"b", b"")
    assert not auth.permits("alice", b"b", b"", WRITE)
    auth.revoke_role("alice", "r")
    assert not auth.permits("alice", b"b", b"", READ)
    auth.grant_role("alice", "r")
    auth.delete_role("r")
    assert not auth.permits("alice", b"b", b"", READ)
    assert auth.user("alice").roles == ()
    assert auth.permits("root", b"x", b"\0", WRITE)
    assert not auth.permits("nobody", b"a", b"", READ)


def test_tokens_end_with_their_users_passwords_and_with_the_switch() -> None:
    auth = _with_root()
    auth.enable()
    auth.authenticate("alice", auth.revision, b"digest", 7)
    auth.change_password("alice", b"new")
    auth.delete_user("alice")
    auth.disable()
    assert auth.take_notices() == [Notice("alice", b"digest", 7), Notice("alice"), Notice("alice"), CLEAR]


def test_a_new_store_begins_by_voiding_what_was_known_before() -> None:
    assert AuthStore().take_notices() == [CLEAR]


def test_a_store_loaded_from_what_it_noted_is_the_same() -> None:
    noted: dict[tuple[str, bytes], bytes | None] = {}
    auth = AuthStore(lambda bucket, key, value: noted.__setitem__((bucket, key), value))
    auth.add_user("root", b"hash", no_password=False)
    auth.grant_role("root", "root")
    auth.add_user("gone", b"", no_password=True)
    auth.delete_user("gone")
    auth.add_user("ü" * 300, b"x", no_password=False)
    auth.add_role("old")
    auth.delete_role("old")
    auth.add_role("r")
    auth.grant_permission("r", Permission(READWRITE, b"\0", b"\0"))
    auth.grant_role("ü" * 300, "r")
    auth.enable()
    assert {key for bucket, key in noted if bucket == ROLES} == {b"old", b"r"}
    assert all(1 <= len(key) <= 511 for _, key in noted)
    again = _loaded(noted)
    assert again.rows() == auth.rows()
    assert (again.users, again.roles) == (auth.users, auth.roles)
    assert (again.enabled, again.revision) == (True, auth.revision)
    assert again.role("r") == Role("r", (Permission(READWRITE, b"\0", b"\0"),))
    assert again.user("ü" * 300) == User("ü" * 300, b"x", ("r",))
    auth.disable()
    assert not _loaded(noted).enabled


def _loaded(noted: dict[tuple[str, bytes], bytes | None]) -> AuthStore:
    again = AuthStore()
    loaders = again.loaders()
    for (bucket, key), value in noted.items():
        if value is not None:
            loaders[bucket](key, value)
    return again


@pytest.mark.parametrize(
    ("bucket", "key"), [(USERS, b"u"), (ROLES, b"r"), (AUTH, b"authRevision")]
)
def test_a_damaged_row_is_corruption(bucket: str, key: bytes) -> None:
    with pytest.raises(Corruption):
        AuthStore().loaders()[bucket](key, b"\xff\xff")


def test_a_row_of_a_later_version_is_left_alone() -> None:
    auth = AuthStore()
    auth.loaders()[AUTH](b"later", b"\xff\xff")
    assert auth.rows() == AuthStore().rows()
