"""For tests of HTTP/1.1: a node and methods in small, a client of raw bytes, and a door between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from tercet.core.machine import Alarm
from tercet.core.mvcc.tally import Tally
from tercet.core.rpc_errors import LEASE_NOT_FOUND
from tercet.core.wire.proto import lock_pb2 as lockpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server.call import StreamCall, UnaryCall
from tercet.net.server.http import Http1Handler
from tercet.net.world import Connection, World

__all__ = ["Client", "Machine", "Methods", "Node", "Row", "open_door"]


@dataclass
class Auth:
    revision: int = 1


@dataclass
class Machine:
    auth: Auth = field(default_factory=Auth)
    cluster_version: str = "3.4.0"
    alarms: tuple[Alarm, ...] = ()
    revision: int = 7
    tally: Tally = field(default_factory=Tally)
    store: Any = field(
        default_factory=lambda: type("S", (), {"compacted": -1, "live_count": lambda _: 3, "data_bytes": 9})()
    )


@dataclass(frozen=True)
class Row:
    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool = False


@dataclass
class Node:
    """As much of ``net.node.Node`` as HTTP asks for."""

    member_id: int = 0xABC
    cluster_id: int = 0xDEF
    leader_id: int = 0xABC
    is_leader: bool = True
    is_learner: bool = False
    term: int = 2
    commit_index: int = 5
    applied_index: int = 5
    pending_proposals: int = 0
    failed_proposals: int = 0
    leader_changes: int = 1
    slow_reads: int = 0
    failed_reads: int = 0
    keeper: None = None
    machine: Machine = field(default_factory=Machine)
    read_error: Exception | None = None

    def database_size(self) -> tuple[int, int]:
        return (8192, 4096)

    def members(self) -> list[Row]:
        return [Row(0xABC, "n1", ("http://a:1",), ("http://a:2",)), Row(0xABD, "", ("http://b:1",), ())]

    def read_index(self, done: Callable[[Any], None], deadline: float | None = None) -> None:
        done(self.read_error)


class Methods:
    """A few methods: enough for every way an answer can go."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.later: list[UnaryCall] = []
        self.unary = {
            "/etcdserverpb.KV/Range": self._range,
            "/etcdserverpb.KV/Put": self.later.append,
            "/etcdserverpb.Lease/LeaseRevoke": self._refuse,
        }
        self.stream = {
            "/etcdserverpb.Watch/Watch": self._watch,
            "/etcdserverpb.Lease/LeaseKeepAlive": self._keep_alive,
            "/v3lockpb.Lock/Lock": self._lock,  # unary, but it waits
        }
        self.watch_ended = trio.Event()
        self.lock_asked = trio.Event()
        self.lock_ended = trio.Event()

    def _range(self, call: UnaryCall) -> None:
        request = rpc.RangeRequest.FromString(call.message)
        self.seen.append((request.key, dict(call.metadata)))
        call.reply(rpc.RangeResponse(count=len(request.key)).SerializeToString())

    def _refuse(self, call: UnaryCall) -> None:
        raise LEASE_NOT_FOUND.with_traceback(None)

    async def _watch(self, call: StreamCall) -> None:
        try:
            while (message := await call.receive()) is not None:
                request = rpc.WatchRequest.FromString(message)
                await call.send(rpc.WatchResponse(
                    watch_id=request.create_request.watch_id, created=True).SerializeToString())  # fmt: skip
        finally:
            self.watch_ended.set()

    async def _lock(self, call: StreamCall) -> None:
        request = lockpb.LockRequest.FromString(await call.receive() or b"")
        try:
            self.lock_asked.set()
            if request.name == b"taken":
                await trio.sleep_forever()
            elif request.name == b"refused":
                raise LEASE_NOT_FOUND.with_traceback(None)
            elif request.name == b"finished":
                call.finish(14, "etcdserver: server stopped")
            else:
                await call.send(lockpb.LockResponse(key=request.name).SerializeToString())
        finally:
            self.lock_ended.set()

    async def _keep_alive(self, call: StreamCall) -> None:
        while (message := await call.receive()) is not None:
            request = rpc.LeaseKeepAliveRequest.FromString(message)
            if request.ID == 666:
                call.finish(5, "etcdserver: requested lease not found")
                await trio.sleep_forever()
            await call.send(rpc.LeaseKeepAliveResponse(ID=request.ID, TTL=9).SerializeToString())


class Client:
    """Raw bytes to a served connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.buffer = b""

    async def send(
        self, method: str, path: str, body: bytes = b"", *headers: str, version: str = "1.1"
    ) -> None:
        head = [f"{method} {path} HTTP/{version}", "Host: x", *headers]
        if body:
            head.append(f"Content-Length: {len(body)}")
        await self.connection.send_all("\r\n".join([*head, "", ""]).encode() + body)

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            data = await self.connection.receive(65536)
            assert data, f"ended without {mark!r}: {self.buffer!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One whole response; a chunked one with its chunks joined and its trailers skipped."""
        head = (await self.until(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:])
        status = int(head[0].split()[1])
        if headers.get("transfer-encoding") != "chunked":
            size = int(headers.get("content-length", "0"))
            while len(self.buffer) < size:
                self.buffer += await self.connection.receive(65536)
            body, self.buffer = self.buffer[:size], self.buffer[size:]
            return status, headers, body
        body = b""
        while size := int(await self.until(b"\r\n"), 16):
            body += (await self.until(b"\r\n"))[:size]
        while await self.until(b"\r\n"):
            pass
        return status, headers, body

    async def ended(self) -> bool:
        return await self.connection.receive(1) == b""


class _Secure:
    """A connection that says it is TLS."""

    secure = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


@asynccontextmanager
async def open_door(
    world: World, handler: Http1Handler, *, secure: bool = False
) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """Serve on a free port, as if over TLS when ``secure``; gives a function that connects."""
    listener = await world.net.listen("127.0.0.1", 0)
    opened: list[Connection] = []

    async def one(connection: Connection) -> None:
        try:
            first = await connection.receive(65536)
            await handler(world, _Secure(connection) if secure else connection, first)  # type: ignore[arg-type]
        finally:
            connection.close()

    async with trio.open_nursery() as nursery:

        async def accept() -> None:
            while True:
                nursery.start_soon(one, await listener.accept())

        async def connect() -> Client:
            opened.append(await world.net.connect("127.0.0.1", int(listener.address.rpartition(":")[2])))
            return Client(opened[-1])

        nursery.start_soon(accept)
        with trio.fail_after(90):
            yield connect
        nursery.cancel_scope.cancel()
    for connection in opened:
        connection.close()
    listener.close()
