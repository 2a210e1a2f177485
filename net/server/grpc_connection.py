"""One client's HTTP/2 connection: the task that reads, the writes, and a task per streaming call.

Unary handlers are called synchronously by the reader and answer when they like; their answers wait in the
protocol's output until the flusher comes by. What the kernel does not take at once goes to a writer task;
while its backlog is long the reader pauses (a client that does not read gets no new work), and a backlog
that is too long or does not move ends the connection.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import trio
from google.protobuf.message import DecodeError

from tercet.core.rpc_errors import UNREADABLE_TEXT, RpcError, Status
from tercet.core.wire.http2 import ServerConnection
from tercet.core.wire.http2_streams import (
    Event,
    HalfClosed,
    MessageReceived,
    Stream,
    StreamOpened,
    StreamReset,
    StreamWritable,
    UnaryRequest,
)

from ..tls_connection import client_common_name
from ..world import Connection
from .call import StreamHandler, UnaryHandler

if TYPE_CHECKING:
    from .front import Front

__all__ = ["GrpcConnection", "GrpcStreamCall"]

_READ_BYTES = 256 * 1024
_PIECE_BYTES = 256 * 1024  # the writer's progress is measured in these


class GrpcStreamCall:
    """A streaming call (``net.server.call.StreamCall``) on a connection."""

    __slots__ = ("_arrived", "_connection", "_half_closed", "_inbox", "_room", "_stream", "scope")

    def __init__(self, connection: GrpcConnection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._inbox: deque[bytes] = deque()
        self._half_closed = False
        self._arrived = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        #: Cancelled when the client resets the stream or its deadline passes.
        self.scope = trio.CancelScope()

    @property
    def path(self) -> str:
        """The method, e.g. ``/etcdserverpb.Watch/Watch``."""
        return self._stream.head.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Lower-case request metadata."""
        return self._stream.head.metadata

    @property
    def remote(self) -> str:
        """The client as ``host:port``."""
        return self._connection.remote

    @property
    def client_common_name(self) -> str:
        """Whom the client's certificate names; empty when there is none."""
        return self._connection.client_common_name

    async def receive(self) -> bytes | None:
        """The next serialised request; None once the client has half-closed."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._inbox:
            if self._half_closed:
                return None
            await self._arrived.park()
        message = self._inbox.popleft()
        self._stream.head.route.received += 1
        self._connection.protocol.consumed(self._stream, message)
        self._connection.front.flusher.request()
        return message

    async def send(self, message: bytes) -> None:
        """Send one response; waits while more than the limit is queued for this client."""
        await trio.lowlevel.checkpoint_if_cancelled()
        connection = self._connection
        stream = self._stream
        limit = connection.front.limits.stream_queue_bytes
        connection.protocol.send_message(stream, message)
        stream.head.route.sent += 1
        connection.front.flusher.request()
        while True:
            if stream.queued > limit:
                stream.starved = True
                await self._room.park()
            elif connection.backlog_bytes > limit:
                await connection.drained.park()
            else:
                return

    def finish(self, code: int = 0, message: str = "") -> None:
        """End the stream with a status; without effect when it has ended."""
        self._connection.protocol.finish(self._stream, code, message)
        self._connection.front.flusher.request()

    def deliver(self, message: bytes) -> None:
        """The connection's reader has a message."""
        self._inbox.append(message)
        self._arrived.unpark()

    def half_close(self) -> None:
        self._half_closed = True
        self._arrived.unpark_all()

    def writable(self) -> None:
        self._room.unpark_all()


class GrpcConnection:
    """Runs one connection; made by ``Front`` after the client's preface was recognised."""

    def __init__(self, front: Front, transport: Connection) -> None:
        self.front = front
        self.remote = transport.remote
        self.protocol = ServerConnection(front.limits.http2, front.routes, front.flusher.dirty)
        self.protocol.owner = self
        #: Bytes that the kernel has not taken yet.
        self.backlog_bytes = 0
        #: Unparked whenever the backlog has become empty.
        self.drained = trio.lowlevel.ParkingLot()
        #: When the client was last heard of, in the member's monotonic seconds.
        self.last_heard = front.world.clock.monotonic()
        self._transport = transport
        self._backlog: deque[memoryview] = deque()
        self._writing = False
        self._broken = False
        self._departing = False
        self._nursery: trio.Nursery | None = None

    @property
    def client_common_name(self) -> str:
        """Whom the client's certificate names; empty when there is none."""
        return client_common_name(self._transport)

    async def run(self, first: bytes) -> None:
        """Serve until the client leaves, the protocol ends it, or cancelled; closes the transport."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self._read(first)
                finally:
                    self.break_off()
                    self._nursery = None  # no task may start from here on
        finally:
            self.protocol.cut_off()

    async def _read(self, data: bytes) -> None:
        clock = self.front.world.clock
        protocol = self.protocol
        flusher = self.front.flusher
        soft_limit = self.front.limits.pause_bytes
        while True:
            now = clock.monotonic()
            self.last_heard = now
            self.front.received_bytes += len(data)
            self.dispatch(protocol.receive(data, now))
            flusher.flush()
            if protocol.closed or protocol.drained:
                await self._part()
                return
            if protocol.next_deadline is not None:
                self.front.want_sweep()
            while self.backlog_bytes > soft_limit:
                await self.drained.park()
            try:
                data = await self._transport.receive(_READ_BYTES)
            except (OSError, trio.ClosedResourceError):
                return
            if not data:
                return

    def depart(self) -> None:
        """End a drained connection: its last bytes first, then the transport. Idempotent."""
        if not self._departing and not self._broken and self._nursery is not None:
            self._departing = True
            self._nursery.start_soon(self._depart)

    async def _depart(self) -> None:
        with self.front.world.clock.timeout(self.front.limits.linger_seconds):
            while self.backlog_bytes:
                await self.drained.park()
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                self._transport.close_sending()  # the client closes then, and the reader ends
            await trio.Event().wait()
        self.break_off()

    async def _part(self) -> None:
        """Let the last bytes reach the client: a close with unread input would discard them."""
        with self.front.world.clock.timeout(self.front.limits.linger_seconds):
            while self.backlog_bytes:
                await self.drained.park()
            try:
                self._transport.close_sending()
                while await self._transport.receive(_READ_BYTES):
                    pass
            except (OSError, trio.ClosedResourceError):
                pass

    # -- events ----------------------------------------------------------------------------------------

    def dispatch(self, events: list[Event]) -> None:
        """Hand events to handlers and streams."""
        for event in events:
            kind = type(event)
            if kind is UnaryRequest:
                self._unary(cast(UnaryRequest, event))
            elif kind is MessageReceived:
                cast(MessageReceived, event).stream.context.deliver(cast(MessageReceived, event).message)
            elif kind is StreamOpened:
                self._open(cast(StreamOpened, event).stream)
            elif kind is HalfClosed:
                cast(HalfClosed, event).stream.context.half_close()
            elif kind is StreamWritable:
                cast(StreamWritable, event).stream.context.writable()
            elif kind is StreamReset:
                context = cast(StreamReset, event).stream.context
                if context is not None:
                    context.scope.cancel()

    def _unary(self, request: UnaryRequest) -> None:
        handler = cast(UnaryHandler, request.head.route.handler)
        try:
            handler(request)
        except RpcError as error:
            request.fail(error.code, error.message)
        except DecodeError:
            request.fail(Status.INTERNAL, UNREADABLE_TEXT)

    def _open(self, stream: Stream) -> None:
        call = GrpcStreamCall(self, stream)
        stream.context = call
        assert self._nursery is not None
        self._nursery.start_soon(self._stream, call, stream)

    async def _stream(self, call: GrpcStreamCall, stream: Stream) -> None:
        handler = cast(StreamHandler, stream.head.route.handler)
        with call.scope:
            try:
                await handler(call)
            except RpcError as error:
                call.finish(error.code, error.message)
            except DecodeError:
                call.finish(Status.INTERNAL, UNREADABLE_TEXT)
            else:
                call.finish()

    # -- output ----------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the protocol's output: at once what the kernel takes, the rest through the writer."""
        data = self.protocol.take_output()
        if self._broken or not data:
            return
        self.front.sent_bytes += len(data)
        if not self._writing:
            try:
                taken = self._transport.try_send(data)
            except (OSError, trio.ClosedResourceError):
                self.break_off()
                return
            if taken == len(data):
                self._go_on()
                return
            rest = memoryview(data)[taken:]
        else:
            rest = memoryview(data)
        self._backlog.append(rest)
        self.backlog_bytes += len(rest)
        if self.backlog_bytes > self.front.limits.max_backlog_bytes:
            self.front.world.probe.log("warn", "closing a client that does not read", remote=self.remote)
            self.break_off()
        elif not self._writing and self._nursery is not None:
            self._writing = True
            self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        """Write the backlog; ends when it is empty."""
        backlog = self._backlog
        clock = self.front.world.clock
        while backlog and not self._broken:
            rest = backlog.popleft()
            while rest:
                piece = rest[:_PIECE_BYTES]
                rest = rest[_PIECE_BYTES:]
                sent = False
                with clock.timeout(self.front.limits.stall_seconds):
                    try:
                        await self._transport.send_all(bytes(piece))
                        sent = True
                    except (OSError, trio.ClosedResourceError):
                        pass
                if not sent:
                    self.break_off()
                    return
                self.backlog_bytes -= len(piece)
        self._writing = False
        self._go_on()
        self.drained.unpark_all()

    def _go_on(self) -> None:
        """All is written: if more was held back, it is for the next turn."""
        if self.protocol.holds_back:
            self.protocol.resume()
            self.front.flusher.request()

    def break_off(self) -> None:
        """Close the transport now; the reader ends by itself. Idempotent."""
        if not self._broken:
            self._broken = True
            self._backlog.clear()
            self._transport.close()
            if self._nursery is not None:
                self._nursery.cancel_scope.cancel()
