"""The JSON gateway: ``POST /v3/kv/range`` and its sisters, in front of the same services as gRPC.

Which path is which method is data (``ROUTES``); everything else follows from the methods' descriptors. A
unary handler is a plain function that may answer later, so the gateway waits for it; a streaming one runs
in the connection's task with the body's JSON values as its incoming messages. A unary method that may wait
for long (a lock) has a streaming handler; its one message is the answer, and it ends with its client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from http import HTTPStatus
from typing import Final

import trio
from google.protobuf.message import DecodeError, Message

from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.services import METHODS, Method

from .call import Methods, StreamHandler, UnaryHandler
from .gateway_json import InputError, documents, dumps, from_json, to_json

__all__ = [
    "HTTP_STATUS", "PREFIXES", "ROUTES", "SINCE_3_5", "Gateway", "GatewayFailure", "error_body",
    "stream_error_body",
]

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

#: gRPC status -> HTTP status, as the gateway of etcd 3.4 maps them.
HTTP_STATUS: Final[Mapping[int, int]] = {
    0: 200, 1: 408, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 412, 10: 409, 11: 400,
    12: 501, 13: 500, 14: 503, 15: 500, 16: 401,
}


def error_body(code: int, message: str) -> bytes:
    """The JSON of a failed call."""
    return dumps({"error": message, "message": message, "code": code}).encode()


def stream_error_body(code: int, message: str) -> bytes:
    """The JSON of a failed stream: its only line, or its last one."""
    status = HTTP_STATUS.get(code, 500)
    error = {
        "grpc_code": code,
        "http_code": status,
        "message": message,
        "http_status": HTTPStatus(status).phrase,
    }
    return dumps({"error": error}).encode()


class GatewayFailure(Exception):
    """A call failed before its first answer."""

    def __init__(
        self, code: int, message: str, *, from_service: bool = True, streaming: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.from_service = from_service  # False: the body could not be read
        self.streaming = streaming  # the method would have answered with a stream


class _Unary:
    """A ``UnaryCall`` whose answer is waited for."""

    client_common_name = ""  # the gateway shows tokens only, as etcd's does

    __slots__ = ("deadline", "failure", "finished", "message", "metadata", "path", "response")

    def __init__(self, path: str, message: bytes, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.message = message
        self.metadata = metadata
        self.deadline: float | None = None
        self.response = b""
        self.failure: GatewayFailure | None = None
        self.finished = trio.Event()

    def reply(self, message: bytes) -> None:
        self.response = message
        self.finished.set()

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        self.reply(b"".join(parts))

    @property
    def answered(self) -> bool:
        return self.finished.is_set()

    def fail(self, code: int, message: str) -> None:
        self.failure = GatewayFailure(int(code), message)
        self.finished.set()


class _Stream:
    """A ``StreamCall`` that reads the body's values and writes one JSON object a line.

    A watch goes on when its body has ended; any other stream learns of the half-close.
    """

    client_common_name = ""  # the gateway shows tokens only, as etcd's does

    def __init__(
        self,
        method: Method,
        messages: list[bytes],
        metadata: Mapping[str, str],
        remote: str,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self.metadata = metadata
        self.path = method.path
        self.remote = remote
        self.deadline: float | None = None
        self.status: tuple[int, str] | None = None
        self.sent = 0
        self._method = method
        self._messages = messages
        self._write = write
        self._ended = trio.CancelScope()

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        if self._messages:
            return self._messages.pop(0)
        if self._method.path == ROUTES["/watch"]:
            await trio.sleep_forever()
        return None

    async def send(self, message: bytes) -> None:
        text = to_json(_decode(self._method.response, message))
        self.sent += 1
        await self._write(f'{{"result":{text}}}\n'.encode())

    def finish(self, code: int = 0, message: str = "") -> None:
        if self.status is None:
            self.status = (int(code), message)
            self._ended.cancel()

    async def run(self, handler: StreamHandler) -> None:
        """Run the handler until it returns or finishes; a failure after the first answer is a last line."""
        with self._ended:
            try:
                await handler(self)
            except RpcError as error:
                self.status = (int(error.code), error.message)
            except DecodeError:
                self.status = (int(Status.INTERNAL), "grpc: failed to unmarshal the received message")
        code, message = self.status or (0, "")
        if code == 0:
            return
        if not self.sent:
            raise GatewayFailure(code, message, streaming=True)
        await self._write(stream_error_body(code, message))


class _Long:
    """A ``StreamCall`` for a unary method whose handler runs as a task: one message each way."""

    client_common_name = ""  # the gateway shows tokens only, as etcd's does

    def __init__(self, path: str, message: bytes, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.metadata = metadata
        self.deadline: float | None = None
        self._message: bytes | None = message
        self._response: bytes | None = None
        self._status = (int(Status.INTERNAL), "no answer")

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        message, self._message = self._message, None
        return message

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._response = message

    def finish(self, code: int = 0, message: str = "") -> None:
        self._status = (int(code), message)

    async def run(self, handler: StreamHandler) -> bytes:
        """The serialised response; raises ``GatewayFailure``."""
        try:
            await handler(self)
        except RpcError as error:
            raise GatewayFailure(int(error.code), error.message) from None
        if self._response is None:
            raise GatewayFailure(*self._status)
        return self._response


def _decode(message_class: type[Message], data: bytes) -> Message:
    message = message_class()
    message.ParseFromString(data)
    return message


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

    async def call(self, path: str, body: bytes, metadata: Mapping[str, str]) -> bytes:
        """Answer a unary method with JSON; raises ``GatewayFailure``."""
        async with self._slots or nullcontext():
            return await self._call(path, body, metadata)

    async def _call(self, path: str, body: bytes, metadata: Mapping[str, str]) -> bytes:
        method, handler = self._unary[path]
        request = _first(method, body)
        if path in self._long:
            response = await _Long(method.path, request, metadata).run(self._long[path])
            return to_json(_decode(method.response, response)).encode()
        if handler is None:
            raise _not_implemented(method)
        call = _Unary(method.path, request, metadata)
        try:
            handler(call)
        except RpcError as error:
            raise GatewayFailure(int(error.code), error.message) from None
        except DecodeError:
            raise GatewayFailure(Status.INTERNAL, "grpc: failed to unmarshal the received message") from None
        await call.finished.wait()
        if call.failure is not None:
            raise call.failure
        return to_json(_decode(method.response, call.response)).encode()

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
        try:
            messages = [_encode(method, value) for value in documents(_text(body))]
        except InputError as problem:
            raise GatewayFailure(Status.UNKNOWN, str(problem), from_service=False) from None
        if not method.client_streaming:
            messages = messages[:1] or [b""]
        if handler is None:
            raise _not_implemented(method)
        async with self._slots or nullcontext():
            await _Stream(method, messages, metadata, remote, write).run(handler)


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


def _not_implemented(method: Method) -> GatewayFailure:
    service, _, name = method.path[1:].partition("/")
    return GatewayFailure(Status.UNIMPLEMENTED, f"unknown method {name} for service {service}")
