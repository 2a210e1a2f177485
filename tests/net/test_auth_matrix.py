"""Every RPC and every gateway path under every kind of caller: nothing leaks to who has no right to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from tercet.core.machine import Command
from tercet.core.wire.proto import election_pb2 as electionpb
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import lock_pb2 as lockpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.server.gateway import ROUTES, Gateway
from tercet.net.server.gateway_errors import GatewayFailure

from .auth_desk import PASSWORDS, AuthDesk, with_auth_desk

_Z = rpc.RangeRequest(key=b"z/x")
_Z_SERIALIZABLE = rpc.RangeRequest(key=b"z/x", serializable=True)
_LEADER = electionpb.LeaderKey(name=b"z", key=b"z/x", rev=3, lease=9)

#: A request of each method that would show or change what is not alice's.
_REQUESTS: dict[str, list[Message]] = {
    "etcdserverpb.KV/Range": [
        _Z, _Z_SERIALIZABLE, rpc.RangeRequest(key=b"\0", range_end=b"\0"),
        rpc.RangeRequest(key=b"a/", range_end=b"zz", keys_only=True),
        rpc.RangeRequest(key=b"z/x", revision=2),
        rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True),
    ],
    "etcdserverpb.KV/Put": [rpc.PutRequest(key=b"z/x", prev_kv=True)],
    "etcdserverpb.KV/DeleteRange": [rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0", prev_kv=True)],
    "etcdserverpb.KV/Txn": [
        rpc.TxnRequest(success=[rpc.RequestOp(request_range=_Z)]),
        rpc.TxnRequest(success=[rpc.RequestOp(request_range=_Z_SERIALIZABLE)]),
        rpc.TxnRequest(failure=[rpc.RequestOp(request_range=_Z)], compare=[rpc.Compare(key=b"z/x")]),
        rpc.TxnRequest(success=[rpc.RequestOp(
            request_txn=rpc.TxnRequest(success=[rpc.RequestOp(request_range=_Z)])
        )]),
        rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"z/x", prev_kv=True))]),
    ],
    "etcdserverpb.Watch/Watch": [
        rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"z/x", start_revision=2)),
        rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", prev_kv=True)),
        rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a/", range_end=b"zz", start_revision=2)),
    ],
    "etcdserverpb.Lease/LeaseTimeToLive": [rpc.LeaseTimeToLiveRequest(ID=9, keys=True)],
    "etcdserverpb.Lease/LeaseRevoke": [rpc.LeaseRevokeRequest(ID=9)],
    "etcdserverpb.Cluster/MemberAdd": [rpc.MemberAddRequest(peerURLs=["http://n9:2380"])],
    "etcdserverpb.Cluster/MemberRemove": [rpc.MemberRemoveRequest(ID=9)],
    "etcdserverpb.Cluster/MemberUpdate": [rpc.MemberUpdateRequest(ID=9, peerURLs=["http://n9:2380"])],
    "etcdserverpb.Cluster/MemberPromote": [rpc.MemberPromoteRequest(ID=9)],
    "etcdserverpb.Maintenance/Defragment": [rpc.DefragmentRequest()],
    "etcdserverpb.Maintenance/Hash": [rpc.HashRequest()],
    "etcdserverpb.Maintenance/HashKV": [rpc.HashKVRequest()],
    "etcdserverpb.Maintenance/Snapshot": [rpc.SnapshotRequest()],
    "etcdserverpb.Auth/AuthEnable": [rpc.AuthEnableRequest()],
    "etcdserverpb.Auth/AuthDisable": [rpc.AuthDisableRequest()],
    "etcdserverpb.Auth/AuthStatus": [rpc.AuthStatusRequest()],
    "etcdserverpb.Auth/UserAdd": [rpc.AuthUserAddRequest(name="mallory", password="x")],
    "etcdserverpb.Auth/UserGet": [rpc.AuthUserGetRequest(name="root")],
    "etcdserverpb.Auth/UserList": [rpc.AuthUserListRequest()],
    "etcdserverpb.Auth/UserDelete": [rpc.AuthUserDeleteRequest(name="root")],
    "etcdserverpb.Auth/UserChangePassword": [rpc.AuthUserChangePasswordRequest(name="root", password="x")],
    "etcdserverpb.Auth/UserGrantRole": [rpc.AuthUserGrantRoleRequest(user="bob", role="root")],
    "etcdserverpb.Auth/UserRevokeRole": [rpc.AuthUserRevokeRoleRequest(name="root", role="root")],
    "etcdserverpb.Auth/RoleAdd": [rpc.AuthRoleAddRequest(name="mine")],
    "etcdserverpb.Auth/RoleGet": [rpc.AuthRoleGetRequest(role="root")],
    "etcdserverpb.Auth/RoleList": [rpc.AuthRoleListRequest()],
    "etcdserverpb.Auth/RoleDelete": [rpc.AuthRoleDeleteRequest(role="a")],
    "etcdserverpb.Auth/RoleGrantPermission": [rpc.AuthRoleGrantPermissionRequest(
        name="a", perm={"permType": 2, "key": b"z/x"}  # type: ignore[arg-type]
    )],
    "etcdserverpb.Auth/RoleRevokePermission": [rpc.AuthRoleRevokePermissionRequest(role="a", key=b"a/")],
    "v3lockpb.Lock/Lock": [lockpb.LockRequest(name=b"z", lease=9)],
    "v3lockpb.Lock/Unlock": [lockpb.UnlockRequest(key=b"z/x")],
    "v3electionpb.Election/Campaign": [electionpb.CampaignRequest(name=b"z", lease=9, value=b"v")],
    "v3electionpb.Election/Proclaim": [electionpb.ProclaimRequest(leader=_LEADER, value=b"v")],
    "v3electionpb.Election/Leader": [electionpb.LeaderRequest(name=b"z")],
    "v3electionpb.Election/Observe": [electionpb.LeaderRequest(name=b"z")],
    "v3electionpb.Election/Resign": [electionpb.ResignRequest(leader=_LEADER)],
}  # fmt: skip

#: Open to everybody, as in etcd 3.4: they show no key, value, user or role.
_OPEN = {
    "etcdserverpb.KV/Compact", "etcdserverpb.Lease/LeaseGrant", "etcdserverpb.Lease/LeaseKeepAlive",
    "etcdserverpb.Lease/LeaseLeases", "etcdserverpb.Cluster/MemberList", "etcdserverpb.Maintenance/Alarm",
    "etcdserverpb.Maintenance/Status", "etcdserverpb.Maintenance/MoveLeader",
    "etcdserverpb.Maintenance/Downgrade", "etcdserverpb.Auth/Authenticate",
}  # fmt: skip
_SECRETS = (b"secret-z", b"z/x", *(word.encode() for word in PASSWORDS.values()))
_CALLERS = ("nobody", "stranger", "expired", "bob", "alice")


def _rows() -> Iterator[tuple[str, int]]:
    for path, requests in _REQUESTS.items():
        for number in range(len(requests)):
            yield path, number


async def _token(desk: AuthDesk, caller: str) -> dict[str, str]:
    if caller == "expired":
        token = await desk.log_in("alice")
        await desk.world.clock.sleep(301)
        for name in PASSWORDS:
            desk.tokens[name] = await desk.log_in(name)
        return {"token": token}
    return {"stranger": {"token": "letters.3"}, "nobody": {}}.get(caller) or (
        {"token": desk.tokens[caller]} if caller in desk.tokens else {}
    )


async def _add_foreign_lease(desk: AuthDesk) -> None:
    root = {"token": desk.tokens["root"]}
    await desk.wait("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=9, TTL=600), **root)
    put = rpc.PutRequest(key=b"z/x", value=b"secret-z", lease=9)
    await desk.wait("KV/Put", put, **root)


def test_everybody_may_ask_about_a_downgrade_and_administrators_begin_and_end_one() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        version = internal.ClusterVersion(version="3.4.0").SerializeToString()
        desk.member.propose(Command.CLUSTER_VERSION, version, lambda _: None)
        kinds = rpc.DowngradeRequest
        answers = []
        for caller in ({}, {"token": desk.tokens["alice"]}, {"token": desk.tokens["root"]}):
            for action in (kinds.VALIDATE, kinds.ENABLE, kinds.CANCEL):
                request = rpc.DowngradeRequest(action=action, version="3.3.0")
                found = await desk.answer("Maintenance/Downgrade", request, **caller)
                answers.append(found.status)
        well = (0, "")
        assert answers[:3] == [well, (2, "auth: user name is empty"), (2, "auth: user name is empty")]
        assert answers[3:6] == [well, (2, "auth: permission denied"), (2, "auth: permission denied")]
        assert answers[6:] == [well, well, well]

    with_auth_desk(test)


def test_every_method_is_guarded_or_known_to_be_open() -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        offered = {path[1:] for path in (*desk.services.unary, *desk.services.stream)}
        ours = {path for path in offered if not path.startswith("grpc.")}
        assert ours == set(_REQUESTS) | _OPEN
        assert {path[1:] for path in ROUTES.values()} <= ours

    with_auth_desk(test)


@pytest.mark.parametrize("caller", _CALLERS)
@pytest.mark.parametrize(("path", "number"), list(_rows()))
def test_a_method_refuses_who_has_no_right_and_changes_nothing(path: str, number: int, caller: str) -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        await _add_foreign_lease(desk)
        metadata = await _token(desk, caller)
        machine = desk.member.machine
        before = (machine.revision, machine.auth.rows(), len(machine.lessor))
        request = _REQUESTS[path][number]
        if f"/{path}" in desk.services.unary:
            call = await desk.answer(path.removeprefix("etcdserverpb."), request, **metadata)
            code, answer, words = call.status[0] if call.status else 0, call.answer, str(call.status)
        else:
            stream = desk.open(nursery, f"/{path}", window=1000, **metadata)
            stream.request(request)
            if not path.endswith("/Watch"):
                stream.half_close()
            with desk.world.clock.timeout(5):
                if path.endswith("/Watch"):
                    refused = await stream.response()
                    assert refused.created and refused.canceled and not refused.events
                    code, words = 7, refused.cancel_reason
                else:
                    await stream.finished.wait()
                    assert stream.status is not None
                    code, words = stream.status
            answer = b""
            assert stream.unread() == 0
        assert code in (2, 3, 7, 16), words
        assert not any(secret in answer + words.encode() for secret in _SECRETS)
        assert (machine.revision, machine.auth.rows(), len(machine.lessor)) == before

    with_auth_desk(test)


@pytest.mark.parametrize("caller", _CALLERS)
def test_no_path_of_the_gateway_shows_anything_to_who_has_no_right(caller: str) -> None:
    async def test(desk: AuthDesk, _: trio.Nursery) -> None:
        await _add_foreign_lease(desk)
        token = (await _token(desk, caller)).get("token")
        metadata = {} if token is None else {"token": token, "authorization": token}
        gateway = Gateway(desk.services)
        for suffix, path in ROUTES.items():
            for request in _REQUESTS.get(path[1:], []):
                body = MessageToJson(request, preserving_proto_field_name=True).encode()
                shown = await _ask(desk, gateway, f"/v3{suffix}", body, metadata)
                assert not any(secret in shown for secret in (b"secret-z", b"c2VjcmV0LXo", b"ei94")), path

    with_auth_desk(test)


async def _ask(
    desk: AuthDesk, gateway: Gateway, path: str, body: bytes, metadata: dict[str, str]
) -> bytes:
    """What the gateway writes within a while; it must be a refusal."""
    lines: list[bytes] = []

    async def write(line: bytes) -> None:
        lines.append(line)

    refused = False
    with desk.world.clock.timeout(2):
        try:
            if gateway.is_stream(path):
                await gateway.stream(path, body, metadata, "c:1", write)
            else:
                lines += await gateway.call(path, body, metadata)
        except GatewayFailure as failure:
            refused = True
            lines.append(failure.message.encode())
    shown = b"".join(lines)
    assert refused or b"canceled" in shown, (path, shown)
    return shown


@pytest.mark.parametrize(("path", "number"), list(_rows()))
def test_root_is_refused_nothing_for_want_of_rights(path: str, number: int) -> None:
    async def test(desk: AuthDesk, nursery: trio.Nursery) -> None:
        await _add_foreign_lease(desk)
        metadata = {"token": desk.tokens["root"]}
        request = _REQUESTS[path][number]
        words = ""
        with desk.world.clock.timeout(5):
            if f"/{path}" in desk.services.unary:
                call = await desk.answer(path.removeprefix("etcdserverpb."), request, **metadata)
                words = str(call.status)
            else:
                stream = desk.open(nursery, f"/{path}", window=1000, **metadata)
                stream.request(request)
                await stream.finished.wait()
                words = str(stream.status)
        assert not any(word in words for word in ("permission denied", "user name", "token"))

    with_auth_desk(test)


def test_every_listed_method_exists() -> None:
    assert all(f"/{path}" in METHODS for path in _REQUESTS)
