"""Handing calls on: what a client asks of the proxy, the proxy asks of the cluster, message by message.

Each call of a client is one call on the proxy's connection to an endpoint, with the client's metadata, so
tokens, deadlines and ``hasleader`` mean what they mean to a member. A call that an endpoint has not looked at
is asked of the next one; any other failure is the client's to judge. Nothing is cached, and nothing that
several clients ask is asked once: an answer is the cluster's, of now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from tercet.core.errors import OutcomeUnknown, TercetError
from tercet.core.rpc_errors import RpcError, RpcRejected, RpcUnknown, Status
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS, Method

from ..client.client import Client
from ..client.connection import Call, GrpcConnection
from ..client.errors import NotProcessed
from ..server.call import StreamCall, StreamHandler, UnaryHandler
from .namespace import Namespace

__all__ = ["Relay", "RelayLimits"]

CONNECT_SECONDS: Final = 5.0  # for an endpoint that takes connections
HELD_MESSAGES_MAX: Final = 4096  # of a stream whose client does not read
MEMBER_LIST: Final = "/etcdserverpb.Cluster/MemberList"
_UNREACHABLE: Final = RpcRejected(Status.UNAVAILABLE, "all endpoints failed: no connection to the cluster")
_LOST: Final = RpcUnknown(Status.UNAVAILABLE, "transport is closing")
_SLOW: Final = RpcRejected(Status.RESOURCE_EXHAUSTED, "the client of this stream does not read")
#: Of a request's metadata, what belongs to the connection it came on.
_NOT_PASSED_ON: Final = frozenset({"user-agent", "te", "grpc-accept-encoding", "grpc-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Bytes of one message."""

    send_bytes: int = 1_572_864  # to the cluster
    receive_bytes: int = 2**31 - 1  # from it


class Relay:
    """The methods of a proxy (``net.server.call.Methods``).

    Args:
        client: connects to the cluster; must be entered while calls are served.
        namespace: None: keys are passed on as they are.
        own: told as the only member to who asks for the members: the proxy itself. None: the cluster's are.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: Namespace | None = None,
        limits: RelayLimits | None = None,
        own: rpc.Member | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._limits = limits or RelayLimits()
        self.unary: Mapping[str, UnaryHandler] = {}
        streams: dict[str, StreamHandler] = {
            path: partial(self._stream if method.client_streaming or method.server_streaming else self._ask,
                          method)
            for path, method in METHODS.items()
        }  # fmt: skip
        if own is not None:
            streams[MEMBER_LIST] = partial(_tell, rpc.MemberListResponse(members=[own]).SerializeToString())
        self.stream: Mapping[str, StreamHandler] = streams

    # ---- one request, one answer

    async def _ask(self, method: Method, call: StreamCall) -> None:
        request = self._outward(method, await call.receive() or b"")
        metadata = _passed_on(call.metadata)
        while True:
            connection = await self._connect()
            try:
                answer = await connection.unary(method.path, request, metadata)
            except NotProcessed:
                self._client.leave(connection)
                continue
            except RpcError as error:
                if error.code == Status.UNAVAILABLE:
                    self._client.leave(connection)
                raise
            except OutcomeUnknown:
                self._client.leave(connection)
                raise _LOST.with_traceback(None) from None
            await call.send(self._homeward(method, answer))
            return

    # ---- streams

    async def _stream(self, method: Method, call: StreamCall) -> None:
        upstream = await self._open(method, call)
        failure: RpcError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_requests, method, call, upstream, nursery.cancel_scope)
                try:
                    await self._send_responses(method, call, upstream)
                except RpcError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        finally:
            upstream.cancel()
        if failure is not None:
            raise failure.with_traceback(None)

    async def _open(self, method: Method, call: StreamCall) -> Call:
        while True:
            connection = await self._connect()
            try:
                return connection.start(method.path, _passed_on(call.metadata))
            except NotProcessed:
                self._client.leave(connection)

    async def _send_requests(
        self, method: Method, call: StreamCall, upstream: Call, scope: trio.CancelScope
    ) -> None:
        try:
            while (message := await call.receive()) is not None:
                upstream.send(self._outward(method, message))
            upstream.close_sending()
        except RpcError as error:
            call.finish(error.code, error.message)
            scope.cancel()

    async def _send_responses(self, method: Method, call: StreamCall, upstream: Call) -> None:
        while True:
            try:
                message = await upstream.receive()
            except RpcError:
                raise
            except TercetError:
                raise _LOST.with_traceback(None) from None
            if message is None:
                return
            await call.send(self._homeward(method, message))
            if len(upstream.messages) > HELD_MESSAGES_MAX:
                raise _SLOW.with_traceback(None)

    # ---- what both need

    async def _connect(self) -> GrpcConnection:
        connection: GrpcConnection | None = None
        with self._client.world.clock.timeout(CONNECT_SECONDS):
            connection = await self._client.connection()
        if connection is None:
            raise _UNREACHABLE.with_traceback(None)
        return connection

    def _outward(self, method: Method, message: bytes) -> bytes:
        if self._namespace is not None:
            message = self._namespace.request(method.path, message)
        _check_size("trying to send message", len(message), self._limits.send_bytes)
        return message

    def _homeward(self, method: Method, message: bytes) -> bytes:
        _check_size("received message", len(message), self._limits.receive_bytes)
        if self._namespace is not None:
            message = self._namespace.response(method.path, message)
        return message


async def _tell(answer: bytes, call: StreamCall) -> None:
    """An answer that is always the same: the proxy is who this client should talk to."""
    await call.receive()
    await call.send(answer)


def _check_size(what: str, size: int, most: int) -> None:
    if size > most:
        raise RpcRejected(Status.RESOURCE_EXHAUSTED, f"{what} larger than max ({size} vs. {most})")


def _passed_on(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, value in metadata.items()
        if not name.startswith(":") and name not in _NOT_PASSED_ON
    )
