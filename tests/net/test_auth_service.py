"""The Auth service and the guard: logging in, tokens that end, answers by etcd's words."""

from __future__ import annotations

import pytest
import trio
from google.protobuf.message import Message

from tercet.core.auth.commands import AS_USER, AUTH_COMMANDS
from tercet.core.machine import Command
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.tls_settings import TlsSettings

from .auth_desk import PASSWORDS, AuthDesk, with_auth_desk
from .service_desk import FakeCall

_GET = rpc.RangeRequest(key=b"a/x")
_NOBODY = (3, "etcdserver: user name is empty")
_BAD_TOKEN = (16, "etcdserver: invalid auth token")
_DENIED = (7, "etcdserver: permission denied")


def test_the_right_password_gives_a_token_and_the_token_the_right_to_read() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        letters, point, index = desk.tokens["alice"].partition(".")
        assert len(letters) == 16 and letters.isalpha() and point
        assert 0 < int(index) <= desk.member.applied_index
        found = await desk.wait("KV/Range", _GET, token=desk.tokens["alice"])
        assert found.kvs[0].value == b"secret-a"
        by_gateway = await desk.wait("KV/Range", _GET, authorization=desk.tokens["alice"])
        assert by_gateway.kvs[0].value == b"secret-a"

    with_auth_desk(test)


@pytest.mark.parametrize(
    ("name", "password"),
    [("alice", "wrong"), ("alice", ""), ("nobody", ""), ("", ""), ("root", PASSWORDS["alice"])],
)
def test_a_wrong_password_and_a_wrong_name_are_refused_alike(name: str, password: str) -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        request = rpc.AuthenticateRequest(name=name, password=password)
        call = await desk.answer("Auth/Authenticate", request)
        assert call.status == (3, "etcdserver: authentication failed, invalid user ID or password")
        assert call.answer == b""

    with_auth_desk(test)


def test_nobody_logs_in_while_authentication_is_off() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        await desk.wait("Auth/AuthDisable", rpc.AuthDisableRequest(), token=desk.tokens["root"])
        request = rpc.AuthenticateRequest(name="alice", password=PASSWORDS["alice"])
        call = await desk.answer("Auth/Authenticate", request)
        assert call.status == (9, "etcdserver: authentication is not enabled")

    with_auth_desk(test)


def test_a_user_without_password_cannot_log_in_by_one() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        request = rpc.AuthUserAddRequest(name="np", password="x")
        request.options.no_password = True
        await desk.wait("Auth/UserAdd", request, token=desk.tokens["root"])
        call = await desk.answer("Auth/Authenticate", rpc.AuthenticateRequest(name="np", password="x"))
        assert call.status == (
            2, "auth: authentication failed, password was given for no password user"
        )  # fmt: skip

    with_auth_desk(test)


def test_a_token_ends_when_it_was_not_used_for_its_time() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        token = desk.tokens["alice"]
        for _round in range(4):
            await desk.world.clock.sleep(200)
            assert (await desk.answer("KV/Range", _GET, token=token)).status == (0, "")
        await desk.world.clock.sleep(301)
        assert (await desk.answer("KV/Range", _GET, token=token)).status == _BAD_TOKEN
        put = rpc.PutRequest(key=b"a/x")
        assert (await desk.answer("KV/Put", put, token=token)).status == _BAD_TOKEN

    with_auth_desk(test)


def test_the_life_of_a_token_is_an_option() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        await desk.world.clock.sleep(4)
        assert (await desk.answer("KV/Range", _GET, token=desk.tokens["alice"])).status == _BAD_TOKEN

    with_auth_desk(test, auth_token_ttl=3.0)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("UserChangePassword", rpc.AuthUserChangePasswordRequest(name="alice", password="new")),
        ("UserDelete", rpc.AuthUserDeleteRequest(name="alice")),
    ],
)
def test_a_users_tokens_end_with_the_password_and_others_do_not(method: str, request_: Message) -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        root = desk.tokens["root"]
        await desk.wait(f"Auth/{method}", request_, token=root)
        assert (await desk.answer("KV/Range", _GET, token=desk.tokens["alice"])).status == _BAD_TOKEN
        assert (await desk.answer("KV/Range", _GET, token=root)).status == (0, "")

    with_auth_desk(test)


def test_a_role_that_is_taken_away_is_gone_at_once_and_the_token_stays() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        revoke = rpc.AuthUserRevokeRoleRequest(name="alice", role="a")
        await desk.wait("Auth/UserRevokeRole", revoke, token=desk.tokens["root"])
        assert (await desk.answer("KV/Range", _GET, token=desk.tokens["alice"])).status == _DENIED

    with_auth_desk(test)


def test_disabling_voids_all_tokens_and_opens_everything() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        await desk.wait("Auth/AuthDisable", rpc.AuthDisableRequest(), token=desk.tokens["root"])
        assert (await desk.answer("KV/Range", _GET)).status == (0, "")
        await desk.wait("Auth/AuthEnable", rpc.AuthEnableRequest())
        assert (await desk.answer("KV/Range", _GET, token=desk.tokens["root"])).status == _BAD_TOKEN

    with_auth_desk(test)


@pytest.mark.parametrize("token", ["", "x", "abc.1", "abc.99999999", ".", "a.b.c", "ü.1"])
def test_what_is_no_token_is_refused_for_reads_writes_and_questions(token: str) -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        before = desk.member.applied_index
        for method, request in [
            ("KV/Range", _GET),
            ("KV/Put", rpc.PutRequest(key=b"a/x")),
            ("KV/Compact", rpc.CompactionRequest(revision=1)),
            ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=10)),
            ("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=5)),
            ("Auth/UserList", rpc.AuthUserListRequest()),
        ]:
            assert (await desk.answer(method, request, token=token)).status == _BAD_TOKEN
        assert desk.member.applied_index == before

    with_auth_desk(test)


@pytest.mark.parametrize("field", ["token", "authorization"])
def test_a_token_that_is_no_good_is_refused_even_while_authentication_is_off(field: str) -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        await desk.wait("Auth/AuthDisable", rpc.AuthDisableRequest(), token=desk.tokens["root"])
        stale = {field: desk.tokens["root"]}
        for method, request in [
            ("KV/Range", _GET),
            ("KV/Range", rpc.RangeRequest(key=b"a/x", serializable=True)),
            ("KV/Put", rpc.PutRequest(key=b"a/x")),
            ("KV/Txn", rpc.TxnRequest()),
            ("KV/Compact", rpc.CompactionRequest(revision=1)),
            ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=10)),
            ("Auth/UserAdd", rpc.AuthUserAddRequest(name="new")),
            ("Cluster/MemberRemove", rpc.MemberRemoveRequest(ID=5)),
        ]:
            assert (await desk.answer(method, request, **stale)).status == _BAD_TOKEN
        for method, request in [
            ("Lease/LeaseLeases", rpc.LeaseLeasesRequest()),
            ("Cluster/MemberList", rpc.MemberListRequest()),
            ("Maintenance/Status", rpc.StatusRequest()),
        ]:
            await desk.wait(method, request, **stale)
        stream = desk.open(nursery, "Watch/Watch", **stale)
        stream.request(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a")))
        refused = await stream.response()
        assert refused.canceled and refused.cancel_reason.endswith("invalid auth token")

    with_auth_desk(test)


def test_nobody_gets_a_token_with_one_that_is_no_good() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        right = rpc.AuthenticateRequest(name="alice", password=PASSWORDS["alice"])
        assert (await desk.answer("Auth/Authenticate", right, token="x.1")).status == _BAD_TOKEN
        await desk.wait("Auth/Authenticate", right, token=desk.tokens["alice"])

    with_auth_desk(test)


def test_a_token_that_this_member_has_not_heard_of_yet_makes_it_catch_up_first() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        asked: list[int] = []
        read_index = desk.member.read_index

        def counting(done: object, deadline: float | None = None) -> None:
            asked.append(desk.member.applied_index)
            read_index(done, deadline)  # type: ignore[arg-type]

        desk.member.read_index = counting  # type: ignore[method-assign]
        serializable = rpc.RangeRequest(key=b"a/x", serializable=True)
        await desk.wait("KV/Range", serializable, token=desk.tokens["alice"])
        assert not asked
        ahead = f"unknown.{desk.member.applied_index + 5}"
        assert (await desk.answer("KV/Range", serializable, token=ahead)).status == _BAD_TOKEN
        assert len(asked) == 1

    with_auth_desk(test)


def test_proposals_are_wrapped_only_while_authentication_is_on() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        desk.member.proposed.clear()
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x"), token=desk.tokens["alice"])
        assert desk.member.proposed == [AS_USER]
        await desk.wait("Auth/AuthDisable", rpc.AuthDisableRequest(), token=desk.tokens["root"])
        await desk.wait("KV/Put", rpc.PutRequest(key=b"a/x"))
        assert desk.member.proposed == [AS_USER, AS_USER, Command.PUT]

    with_auth_desk(test)


def test_a_password_changed_while_another_was_compared_gives_no_token() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        propose = desk.member.propose
        entered: list[int] = []

        def late(kind: int, payload: bytes, done: object, deadline: float | None = None) -> None:
            if kind == AUTH_COMMANDS["Authenticate"] and not entered:
                entered.append(kind)
                desk.member.machine.auth.change_password("alice", b"another hash")
            propose(kind, payload, done, deadline)  # type: ignore[arg-type]

        desk.member.propose = late  # type: ignore[method-assign]
        request = rpc.AuthenticateRequest(name="alice", password=PASSWORDS["alice"])
        call = await desk.answer("Auth/Authenticate", request)
        assert call.status == (3, "etcdserver: authentication failed, invalid user ID or password")

    with_auth_desk(test)


def test_a_certificate_names_its_user_only_where_that_is_asked_for() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        for name, status in (("alice", (0, "")), ("bob", _DENIED), ("stranger", _DENIED), ("", _NOBODY)):
            for method, request in (("KV/Range", _GET), ("KV/Put", rpc.PutRequest(key=b"a/x"))):
                call = _certified(desk, method, request, name)
                assert call.status == (status if wanted else _NOBODY)
        token = desk.tokens["alice"]
        call = _certified(desk, "KV/Range", _GET, "bob", token=token)
        assert call.status == (0, "")  # a token goes first

    for wanted in (True, False):
        settings = TlsSettings(client_cert_auth=wanted)
        with_auth_desk(test, client_tls=settings)


def _certified(desk: AuthDesk, method: str, request: Message, name: str, **metadata: str) -> FakeCall:
    call = FakeCall(request.SerializeToString(), metadata)
    call.client_common_name = name
    desk.services.unary[f"/etcdserverpb.{method}"](call)
    return call
