"""A well-formed request for every method there is, over gRPC and through the gateway.

They are sent whole: what they ask for is either harmless or forbidden to who asks. On an open cluster they
aim at the fuzzer's own keys and at users and members that do not exist; on a cluster with authentication at
what the asking user has no right to see or change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec
from google.protobuf.message import Message

from tercet.core.wire.proto import auth_pb2, election_pb2, health_pb2, lock_pb2, reflection_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.server.gateway import ROUTES
from tercet.net.server.gateway_json import to_json

__all__ = ["PLAIN", "Aim", "Guise", "every", "every_json"]


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests are after."""

    key: bytes
    end: bytes  # of a range that holds the key
    lease: int
    user: str
    role: str
    guarded: bool  # the one who asks has no right to it: nothing need be left out


class Guise(msgspec.Struct, frozen=True, kw_only=True):
    """As whom the streams of a run speak, and what they are after."""

    aim: Aim
    tokens: tuple[str, ...]  # of users that have no right to what is aimed at; none: an open cluster

    def token(self, rng: random.Random) -> str:
        """What one request shows; "" is nobody's."""
        if not self.tokens or rng.random() < 0.2:
            return ""
        return rng.choice(self.tokens)


_OPEN: Final = Aim(key=b"fuzz/e", end=b"fuzz0", lease=7, user="nobody", role="nothing", guarded=False)

PLAIN: Final = Guise(aim=_OPEN, tokens=())

_Make: TypeAlias = Callable[[Aim, random.Random], Message]


def _range(aim: Aim, rng: random.Random) -> rpc.RangeRequest:
    return rpc.RangeRequest(
        key=rng.choice((aim.key, aim.key, b"\0")),
        range_end=rng.choice((b"", aim.end, b"\0")),
        revision=rng.choice((0, 0, 2, 9)),
        limit=rng.choice((0, 1)),
        serializable=rng.random() < 0.5,
        count_only=rng.random() < 0.2,
        keys_only=rng.random() < 0.2,
    )


def _put(aim: Aim, rng: random.Random) -> rpc.PutRequest:
    return rpc.PutRequest(
        key=aim.key, value=b"fuzz", lease=rng.choice((0, aim.lease)), prev_kv=True,
        ignore_lease=rng.random() < 0.2,
    )  # fmt: skip


def _delete(aim: Aim, rng: random.Random) -> rpc.DeleteRangeRequest:
    return rpc.DeleteRangeRequest(key=aim.key, range_end=rng.choice((b"", aim.end)), prev_kv=True)


def _txn(aim: Aim, rng: random.Random) -> rpc.TxnRequest:
    """What is aimed at stands in a compare, in either branch, or in a transaction within."""
    put = rpc.RequestOp(request_put=_put(aim, rng))
    get = rpc.RequestOp(request_range=_range(aim, rng))
    delete = rpc.RequestOp(request_delete_range=_delete(aim, rng))
    compare = rpc.Compare(
        key=aim.key, target=rpc.Compare.VALUE, result=rpc.Compare.GREATER, value=b"", range_end=aim.end
    )
    inner = rpc.TxnRequest(compare=[compare] if rng.random() < 0.5 else [], success=[get], failure=[get])
    nested = rpc.RequestOp(request_txn=inner)
    shown = rng.choice(([get], [put], [delete], [nested], []))
    return rpc.TxnRequest(
        compare=[compare] if not shown or rng.random() < 0.5 else [],
        success=shown,
        failure=rng.choice((shown, [])),
    )


def _watch(aim: Aim, rng: random.Random) -> Message:
    create = rpc.WatchCreateRequest(
        key=rng.choice((aim.key, b"\0")),
        range_end=rng.choice((b"", aim.end, b"\0")) if aim.guarded else aim.end,
        start_revision=rng.choice((0, 1)),
        prev_kv=True,
        fragment=rng.random() < 0.3,
    )
    return rpc.WatchRequest(create_request=create)


def _reflection(aim: Aim, rng: random.Random) -> Message:
    return rng.choice((
        reflection_pb2.ServerReflectionRequest(list_services="*"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="rpc.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="etcdserverpb.KV"),
        reflection_pb2.ServerReflectionRequest(all_extension_numbers_of_type=aim.user),
    ))  # fmt: skip


def _leader(aim: Aim) -> election_pb2.LeaderKey:
    return election_pb2.LeaderKey(name=aim.key, key=aim.key + b"/1", rev=1, lease=aim.lease)


def _permission(aim: Aim) -> auth_pb2.Permission:
    return auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=aim.key, range_end=aim.end)


_STRANGER: Final = 0xBAD  # no member has this id
_KV, _LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
_CLUSTER, _MAINTENANCE = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/"
_AUTH, _ELECTION = "/etcdserverpb.Auth/", "/v3electionpb.Election/"

_MAKE: Final[Mapping[str, _Make]] = {
    _KV + "Range": _range,
    _KV + "Put": _put,
    _KV + "DeleteRange": _delete,
    _KV + "Txn": _txn,
    _KV + "Compact": lambda aim, rng: rpc.CompactionRequest(revision=1),
    "/etcdserverpb.Watch/Watch": _watch,
    _LEASE + "LeaseGrant": lambda aim, rng: rpc.LeaseGrantRequest(ID=aim.lease, TTL=30),
    _LEASE + "LeaseRevoke": lambda aim, rng: rpc.LeaseRevokeRequest(ID=aim.lease),
    _LEASE + "LeaseKeepAlive": lambda aim, rng: rpc.LeaseKeepAliveRequest(ID=aim.lease),
    _LEASE + "LeaseTimeToLive": lambda aim, rng: rpc.LeaseTimeToLiveRequest(ID=aim.lease, keys=True),
    _LEASE + "LeaseLeases": lambda aim, rng: rpc.LeaseLeasesRequest(),
    _CLUSTER + "MemberAdd": lambda aim, rng: rpc.MemberAddRequest(
        peerURLs=["http://127.0.0.1:1"], isLearner=rng.random() < 0.5
    ),
    _CLUSTER + "MemberRemove": lambda aim, rng: rpc.MemberRemoveRequest(ID=_STRANGER),
    _CLUSTER + "MemberUpdate": lambda aim, rng: rpc.MemberUpdateRequest(
        ID=_STRANGER, peerURLs=["http://127.0.0.1:1"]
    ),
    _CLUSTER + "MemberList": lambda aim, rng: rpc.MemberListRequest(),
    _CLUSTER + "MemberPromote": lambda aim, rng: rpc.MemberPromoteRequest(ID=_STRANGER),
    _MAINTENANCE + "Alarm": lambda aim, rng: rpc.AlarmRequest(action=rpc.AlarmRequest.GET),
    _MAINTENANCE + "Status": lambda aim, rng: rpc.StatusRequest(),
    _MAINTENANCE + "Defragment": lambda aim, rng: rpc.DefragmentRequest(),
    _MAINTENANCE + "Hash": lambda aim, rng: rpc.HashRequest(),
    _MAINTENANCE + "HashKV": lambda aim, rng: rpc.HashKVRequest(revision=rng.choice((0, 1, 2**40))),
    _MAINTENANCE + "Snapshot": lambda aim, rng: rpc.SnapshotRequest(),
    _MAINTENANCE + "MoveLeader": lambda aim, rng: rpc.MoveLeaderRequest(targetID=_STRANGER),
    _MAINTENANCE + "Downgrade": lambda aim, rng: rpc.DowngradeRequest(version="3.4.0"),
    _AUTH + "AuthEnable": lambda aim, rng: rpc.AuthEnableRequest(),
    _AUTH + "AuthDisable": lambda aim, rng: rpc.AuthDisableRequest(),
    _AUTH + "AuthStatus": lambda aim, rng: rpc.AuthStatusRequest(),
    _AUTH + "Authenticate": lambda aim, rng: rpc.AuthenticateRequest(
        name=rng.choice((aim.user, "root")), password=rng.choice(("", "guess"))
    ),
    _AUTH + "UserAdd": lambda aim, rng: rpc.AuthUserAddRequest(name=aim.user + "2", password="p"),
    _AUTH + "UserGet": lambda aim, rng: rpc.AuthUserGetRequest(name=rng.choice((aim.user, "root"))),
    _AUTH + "UserList": lambda aim, rng: rpc.AuthUserListRequest(),
    _AUTH + "UserDelete": lambda aim, rng: rpc.AuthUserDeleteRequest(name=aim.user),
    _AUTH + "UserChangePassword": lambda aim, rng: rpc.AuthUserChangePasswordRequest(
        name=aim.user, password="p"
    ),
    _AUTH + "UserGrantRole": lambda aim, rng: rpc.AuthUserGrantRoleRequest(user=aim.user, role=aim.role),
    _AUTH + "UserRevokeRole": lambda aim, rng: rpc.AuthUserRevokeRoleRequest(name=aim.user, role=aim.role),
    _AUTH + "RoleAdd": lambda aim, rng: rpc.AuthRoleAddRequest(name=aim.role + "2"),
    _AUTH + "RoleGet": lambda aim, rng: rpc.AuthRoleGetRequest(role=rng.choice((aim.role, "root"))),
    _AUTH + "RoleList": lambda aim, rng: rpc.AuthRoleListRequest(),
    _AUTH + "RoleDelete": lambda aim, rng: rpc.AuthRoleDeleteRequest(role=aim.role),
    _AUTH + "RoleGrantPermission": lambda aim, rng: rpc.AuthRoleGrantPermissionRequest(
        name=aim.role, perm=_permission(aim) if rng.random() < 0.8 else None
    ),
    _AUTH + "RoleRevokePermission": lambda aim, rng: rpc.AuthRoleRevokePermissionRequest(
        role=aim.role, key=aim.key, range_end=aim.end
    ),
    "/v3lockpb.Lock/Lock": lambda aim, rng: lock_pb2.LockRequest(
        name=aim.key, lease=rng.choice((0, aim.lease))
    ),
    "/v3lockpb.Lock/Unlock": lambda aim, rng: lock_pb2.UnlockRequest(key=aim.key),
    _ELECTION + "Campaign": lambda aim, rng: election_pb2.CampaignRequest(
        name=aim.key, lease=rng.choice((0, aim.lease)), value=b"fuzz"
    ),
    _ELECTION + "Proclaim": lambda aim, rng: election_pb2.ProclaimRequest(leader=_leader(aim), value=b"fuzz"),
    _ELECTION + "Leader": lambda aim, rng: election_pb2.LeaderRequest(name=aim.key[:-1]),
    _ELECTION + "Observe": lambda aim, rng: election_pb2.LeaderRequest(name=aim.key[:-1]),
    _ELECTION + "Resign": lambda aim, rng: election_pb2.ResignRequest(leader=_leader(aim)),
    "/grpc.health.v1.Health/Check": lambda aim, rng: health_pb2.HealthCheckRequest(service=aim.user),
    "/grpc.health.v1.Health/Watch": lambda aim, rng: health_pb2.HealthCheckRequest(),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _reflection,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _reflection,
}
assert set(_MAKE) == set(METHODS)

#: What an open cluster would do, to its harm.
_GUARDED_ONLY: Final = (_CLUSTER + "MemberAdd",)
_PATHS: Final = tuple(sorted(_MAKE))
_ROUTES: Final = tuple(sorted(ROUTES))


def _allowed(path: str, aim: Aim) -> bool:
    return aim.guarded or path not in _GUARDED_ONLY


def every(rng: random.Random, aim: Aim) -> tuple[str, bytes]:
    """A method's path and a request for it, serialised."""
    path = rng.choice([path for path in _PATHS if _allowed(path, aim)])
    return path, _MAKE[path](aim, rng).SerializeToString()


def every_json(rng: random.Random, aim: Aim) -> tuple[str, str]:
    """A gateway's path without its prefix and a request for it as JSON."""
    route = rng.choice([route for route in _ROUTES if _allowed(ROUTES[route], aim)])
    return route, to_json(_MAKE[ROUTES[route]](aim, rng))
