"""The JSON gateway: ``POST /v3/kv/range`` and its sisters, in front of the same services as gRPC.

Which path is which method is data (``ROUTES``); everything else follows from the methods' descriptors. A
unary handler is a plain function that may answer later, so the gateway waits for it; how the others are
called is ``gateway_calls``, and how failures look ``gateway_errors``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Final

import trio
from google.protobuf.message import DecodeError

from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.services import METHODS, Method

from .call import Methods, StreamHandler, UnaryHandler
from .gateway_calls import StreamingCall, WaitingCall
from .gateway_errors import GatewayFailure
from .gateway_json import InputError, documents, from_json
from .gateway_long import json_pieces
from .inner_call import InnerCall

__all__ = ["PREFIXES", "ROUTES", "SINCE_3_5", "Gateway"]

PREFIXES: Final = ("/v3", "/v3beta")

_KV, _LEASE, _CLUSTER = "/etcdserverpb.KV/", "/etcdserverpb.Lease/", "/etcdserverpb.Cluster/"
_MAINTENANCE, _AUTH = "/etcdserverpb.Maintenance/", "/etcdserverpb.Auth/"
_LOCK, _ELECTION = "/v3lockpb.Lock/", "/v3electionpb.Election/"

#: Path without its prefix -> the method's full name.
ROUTES: Final[Mapping[str, str]] = {
    "/kv/range": _KV + "Range",
    "/kv/put": _KV + "Put",
    "/kv/deleterange": _KV + "DeleteRange",
    "/kv/txn": _KV + "Txn",
    "/kv/compaction": _KV + "Compact",
    "/watch": "/etcdserverpb.Watch/Watch",
    "/lease/grant": _LEASE + "LeaseGrant",
    "/lease/revoke": _LEASE + "LeaseRevoke",
    "/lease/keepalive": _LEASE + "LeaseKeepAlive",
    "/lease/timetolive": _LEASE + "LeaseTimeToLive",
    "/lease/leases": _LEASE + "LeaseLeases",
    "/kv/lease/revoke": _LEASE + "LeaseRevoke",
    "/kv/lease/timetolive": _LEASE + "LeaseTimeToLive",
    "/kv/lease/leases": _LEASE + "LeaseLeases",
    "/cluster/member/add": _CLUSTER + "MemberAdd",
    "/cluster/member/remove": _CLUSTER + "MemberRemove",
    "/cluster/member/update": _CLUSTER + "MemberUpdate",
    "/cluster/member/list": _CLUSTER + "MemberList",
    "/cluster/member/promote": _CLUSTER + "MemberPromote",
    "/maintenance/alarm": _MAINTENANCE + "Alarm",
    "/maintenance/status": _MAINTENANCE + "Status",
    "/maintenance/defragment": _MAINTENANCE + "Defragment",
    "/maintenance/hash": _MAINTENANCE + "Hash",
    "/maintenance/hashkv": _MAINTENANCE + "HashKV",
    "/maintenance/downgrade": _MAINTENANCE + "Downgrade",
    "/maintenance/snapshot": _MAINTENANCE + "Snapshot",
    "/maintenance/transfer-leadership": _MAINTENANCE + "MoveLeader",
    "/auth/enable": _AUTH + "AuthEnable",
    "/auth/disable": _AUTH + "AuthDisable",
    "/auth/authenticate": _AUTH + "Authenticate",
    "/auth/user/add": _AUTH + "UserAdd",
    "/auth/user/get": _AUTH + "UserGet",
    "/auth/user/list": _AUTH + "UserList",
    "/auth/user/delete": _AUTH + "UserDelete",
    "/auth/user/changepw": _AUTH + "UserChangePassword",
    "/auth/user/grant": _AUTH + "UserGrantRole",
    "/auth/user/revoke": _AUTH + "UserRevokeRole",
    "/auth/role/add": _AUTH + "RoleAdd",
    "/auth/role/get": _AUTH + "RoleGet",
    "/auth/role/list": _AUTH + "RoleList",
    "/auth/role/delete": _AUTH + "RoleDelete",
    "/auth/role/grant": _AUTH + "RoleGrantPermission",
    "/auth/role/revoke": _AUTH + "RoleRevokePermission",
    "/lock/lock": _LOCK + "Lock",
    "/lock/unlock": _LOCK + "Unlock",
    "/election/campaign": _ELECTION + "Campaign",
    "/election/proclaim": _ELECTION + "Proclaim",
    "/election/leader": _ELECTION + "Leader",
    "/election/observe": _ELECTION + "Observe",
    "/election/resign": _ELECTION + "Resign",
}

#: Paths that etcd 3.4 does not have.
SINCE_3_5: Final = ("/maintenance/downgrade",)


class Gateway:
    """The gateway of one member.

    Args:
        methods: the services behind it.
        max_calls: how many calls may be under way at once, those of all clients together; the next waits.
            As in etcd, whose gateway is one client of its server. None: no bound.
        left_out: paths of ``ROUTES`` that are not served.
    """

    def __init__(
        self, methods: Methods, *, max_calls: int | None = None, left_out: Sequence[str] = ()
    ) -> None:
        self._slots = trio.Semaphore(max_calls) if max_calls is not None else None
        self._unary: dict[str, tuple[Method, UnaryHandler | None]] = {}
        self._long: dict[str, StreamHandler] = {}  # unary methods whose handlers run as tasks
        self._stream: dict[str, tuple[Method, StreamHandler | None]] = {}
        for suffix, path in ROUTES.items():
            method = METHODS.get(path)
            if method is None or suffix in left_out:
                continue
            for prefix in PREFIXES:
                if method.client_streaming or method.server_streaming:
                    self._stream[prefix + suffix] = (method, methods.stream.get(path))
                else:
                    self._unary[prefix + suffix] = (method, methods.unary.get(path))
                    if path in methods.stream:
                        self._long[prefix + suffix] = methods.stream[path]

    @staticmethod
    def owns(path: str) -> bool:
        """The path is the gateway's to answer, if only with 404."""
        return path.startswith(tuple(f"{prefix}/" for prefix in PREFIXES))

    def knows(self, path: str) -> bool:
        """The path is a method's."""
        return path in self._unary or path in self._stream

    def is_stream(self, path: str) -> bool:
        """The method answers with a stream of JSON lines."""
        return path in self._stream

    def may_wait(self, path: str) -> bool:
        """The call may take long to answer, or to begin: it should be cancelled when its client goes."""
        return path in self._long or (self._slots is not None and self._slots.value == 0)

    async def call(self, path: str, body: bytes, metadata: Mapping[str, str]) -> list[bytes]:
        """Answer a unary method with JSON, a long one in pieces; raises ``GatewayFailure``."""
        async with self._slots or nullcontext():
            return await self._call(path, body, metadata)

    async def _call(self, path: str, body: bytes, metadata: Mapping[str, str]) -> list[bytes]:
        method, handler = self._unary[path]
        request = _first(method, body)
        if path in self._long:
            response = await WaitingCall(method.path, request, metadata).run(self._long[path])
            return await _as_json(method, (response,))
        if handler is None:
            raise _not_implemented(method)
        call = InnerCall(request, metadata)
        try:
            handler(call)
        except RpcError as error:
            raise GatewayFailure(int(error.code), error.message) from None
        except DecodeError:
            raise GatewayFailure(Status.INTERNAL, "grpc: failed to unmarshal the received message") from None
        await call.finished.wait()
        if call.error is not None:
            raise GatewayFailure(int(call.error.code), call.error.message)
        return await _as_json(method, call.parts)

    async def stream(
        self,
        path: str,
        body: bytes,
        metadata: Mapping[str, str],
        remote: str,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Run a streaming method; ``write`` takes its lines. Raises ``GatewayFailure`` before the first."""
        method, handler = self._stream[path]
        messages = _messages(method, body)
        if not method.client_streaming:
            messages = messages[:1] or [b""]
        if handler is None:
            raise _not_implemented(method)
        async with self._slots or nullcontext():
            await StreamingCall(method, messages, metadata, remote, write).run(handler)


async def _as_json(method: Method, parts: Sequence[bytes]) -> list[bytes]:
    """The pieces of an answer; between two of them everything else has its turn."""
    pieces: list[bytes] = []
    for text in json_pieces(method.response, await _joined(parts)):
        if pieces:
            await trio.lowlevel.checkpoint()
        pieces.append(text.encode())
    return pieces


async def _joined(parts: Sequence[bytes]) -> memoryview:
    if len(parts) == 1:
        return memoryview(parts[0])
    whole, at = bytearray(sum(map(len, parts))), 0
    for part in parts:
        whole[at : at + len(part)] = part
        at += len(part)
        await trio.lowlevel.checkpoint()
    return memoryview(whole)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _encode(method: Method, value: object) -> bytes:
    return bytes(from_json(method.request, value).SerializeToString())


def _first(method: Method, body: bytes) -> bytes:
    """The request in the body; what follows it is ignored, and an empty body is an empty request."""
    try:
        for value in documents(_text(body)):
            return _encode(method, value)
    except InputError as problem:
        raise GatewayFailure(Status.INVALID_ARGUMENT, str(problem), from_service=False) from None
    return b""


def _messages(method: Method, body: bytes) -> list[bytes]:
    """The requests in the body; behind the first, what cannot be read ends them."""
    messages: list[bytes] = []
    try:
        for value in documents(_text(body)):
            messages.append(_encode(method, value))
    except InputError as problem:
        if not messages:
            raise GatewayFailure(Status.UNKNOWN, str(problem), from_service=False) from None
    return messages


def _not_implemented(method: Method) -> GatewayFailure:
    service, _, name = method.path[1:].partition("/")
    return GatewayFailure(Status.UNIMPLEMENTED, f"unknown method {name} for service {service}")
