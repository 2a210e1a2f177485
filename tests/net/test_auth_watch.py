"""Watching under authentication: checked at the start, and again whenever permissions change."""

from __future__ import annotations

import pytest
import trio

from tercet.core.wire.proto import rpc_pb2 as rpc

from .auth_desk import AuthDesk, with_auth_desk

_PREFIX = "rpc error: code = "


def _create(key: bytes = b"a/", end: bytes = b"a0", **options: object) -> rpc.WatchRequest:
    request = rpc.WatchCreateRequest(key=key, range_end=end, **options)  # type: ignore[arg-type]
    return rpc.WatchRequest(create_request=request)


@pytest.mark.parametrize(
    ("user", "key", "end", "reason"),
    [
        ("alice", b"a/", b"a0", ""),
        ("alice", b"a/x", b"", ""),
        ("alice", b"z/x", b"", "PermissionDenied desc = etcdserver: permission denied"),
        ("alice", b"a/", b"b", "PermissionDenied desc = etcdserver: permission denied"),
        ("alice", b"a/", b"\0", "PermissionDenied desc = etcdserver: permission denied"),
        ("alice", b"", b"\0", "PermissionDenied desc = etcdserver: permission denied"),
        ("bob", b"a/x", b"", "PermissionDenied desc = etcdserver: permission denied"),
        ("root", b"", b"\0", ""),
        ("", b"a/x", b"", "InvalidArgument desc = etcdserver: user name is empty"),
        ("stranger", b"a/x", b"", "Unauthenticated desc = etcdserver: invalid auth token"),
    ],
)
def test_a_watch_begins_where_its_user_may_read(user: str, key: bytes, end: bytes, reason: str) -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        metadata = {"token": desk.tokens.get(user, "letters.1")} if user else {}
        stream = desk.open(nursery, "Watch/Watch", window=1000, **metadata)
        stream.request(_create(key, end))
        answer = await stream.response()
        assert answer.created
        assert answer.cancel_reason == (_PREFIX + reason if reason else "")
        assert answer.canceled == bool(reason)
        if not reason:
            await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"1"), token=desk.tokens["root"])
            assert (await stream.response()).events[0].kv.value == b"1"

    with_auth_desk(test)


@pytest.mark.parametrize("how", ["role", "permission", "user"])
def test_a_watch_ends_before_the_first_event_that_its_user_may_not_see(how: str) -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        root = {"token": desk.tokens["root"]}
        stream = desk.open(nursery, "Watch/Watch", token=desk.tokens["alice"])
        stream.request(_create())
        assert (await stream.response()).created
        put = rpc.PutRequest(key=b"a/x", value=b"seen")
        await desk.wait("KV/Put", put, **root)
        assert (await stream.response()).events[0].kv.value == b"seen"
        if how == "role":
            revoke = rpc.AuthUserRevokeRoleRequest(name="alice", role="a")
            await desk.wait("Auth/UserRevokeRole", revoke, **root)
        elif how == "permission":
            gone = rpc.AuthRoleRevokePermissionRequest(role="a", key=b"a/", range_end=b"a0")
            await desk.wait("Auth/RoleRevokePermission", gone, **root)
        else:
            await desk.wait("Auth/UserDelete", rpc.AuthUserDeleteRequest(name="alice"), **root)
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"secret"), **root)
        last = await stream.response()
        assert last.canceled and not last.events
        assert last.cancel_reason == _PREFIX + "PermissionDenied desc = etcdserver: permission denied"
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"secret"), **root)
        await desk.world.clock.sleep(1)
        assert stream.unread() == 0

    with_auth_desk(test)


def test_a_watch_outlives_its_token_and_changes_that_do_not_concern_it() -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch", token=desk.tokens["alice"])
        stream.request(_create())
        assert (await stream.response()).created
        await desk.world.clock.sleep(1000)
        root = {"token": await desk.log_in("root")}
        await desk.wait("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="other"), **root)
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"1"), **root)
        assert (await stream.response()).events[0].kv.value == b"1"

    with_auth_desk(test)


def test_turning_authentication_on_ends_the_watches_of_who_never_said_a_name() -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        await desk.wait("Auth/AuthDisable", rpc.AuthDisableRequest(), token=desk.tokens["root"])
        stream = desk.open(nursery, "Watch/Watch")
        stream.request(_create())
        assert (await stream.response()).created
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"open"))
        assert (await stream.response()).events[0].kv.value == b"open"
        await desk.wait("Auth/AuthEnable", rpc.AuthEnableRequest())
        root = {"token": await desk.log_in("root")}
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"secret"), **root)
        last = await stream.response()
        assert last.canceled and not last.events
        assert last.cancel_reason == _PREFIX + "InvalidArgument desc = etcdserver: user name is empty"

    with_auth_desk(test)


def test_turning_authentication_off_ends_no_watch() -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        stream = desk.open(nursery, "Watch/Watch", token=desk.tokens["alice"])
        stream.request(_create())
        assert (await stream.response()).created
        await desk.wait("Auth/AuthDisable", rpc.AuthDisableRequest(), token=desk.tokens["root"])
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x", value=b"1"))
        assert (await stream.response()).events[0].kv.value == b"1"

    with_auth_desk(test)
