"""One gRPC connection, client's side: framing by ``framing``, calls as small state machines.

A reader task feeds the frames and hands what comes to the calls; whoever calls writes at once through a
bounded channel. When the connection ends, every call on it learns whether the server can have seen it:
a stream beyond GOAWAY's last, or refused, was never processed; anything else that was sent may have been.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, cast

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.hpack_decode import Field
from tercet.core.wire.http2_frames import ErrorCode

from ..channel import Channel
from ..world import Connection, World
from .errors import ConnectionLost, NotProcessed, rpc_error
from .framing import ClientFraming, Event, FramingError
from .reply import Reply, framed

__all__ = ["DEFAULT_PATIENCE", "Call", "GrpcConnection", "Patience"]

RECEIVE_BYTES: Final = 64 << 10
PENDING_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client bears with a server that says nothing; all in seconds, all > 0."""

    dial: float = 2.0  # until a connection stands
    silence: float = 10.0  # with calls open and nothing heard: ask by a PING (servers of Go bear one in 5 s)
    answer: float = 10.0  # and nothing heard after that: give the connection up

    def __post_init__(self) -> None:
        if min(self.dial, self.silence, self.answer) <= 0:
            raise ValueError(f"need times > 0, got {self}")


DEFAULT_PATIENCE: Final = Patience()


class Call(Reply):
    """One RPC under way. Messages arrive in order; ``error`` is set when it ended in anything but OK."""

    __slots__ = ("_connection", "_wake", "ended", "error", "outgoing", "stream_id")

    def __init__(self, connection: GrpcConnection, stream_id: int) -> None:
        super().__init__()
        self._connection = connection
        self._wake: trio.Event | None = None
        self.stream_id = stream_id
        self.outgoing: deque[tuple[bytes, bool]] = deque()  # what the flow-control window holds back
        self.ended = False
        self.error: TercetError | None = None

    def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message, after those that wait for the window; ``end`` half-closes behind it."""
        self.outgoing.append((framed(message), end))
        self._connection.pump(self)

    def close_sending(self) -> None:
        """Half-close; harmless when the call has ended."""
        self.outgoing.append((b"", True))
        self._connection.pump(self)

    async def receive(self) -> bytes | None:
        """The next message; None after the last one of a call that ended with OK. Raises its error."""
        while not self.messages:
            if self.ended:
                if self.error is not None:
                    raise self.error
                return None
            self._wake = trio.Event()
            await self._wake.wait()
        return self.messages.popleft()

    def cancel(self) -> None:
        """Tell the server that nobody waits; harmless when the call has ended."""
        self._connection.cancel(self)

    def feed(self, data: bytes) -> None:
        """Take bytes of the answer, and wake who waits for the messages they complete."""
        super().feed(data)
        if self.messages:
            self.wake()

    def wake(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def finish(self, error: TercetError | None) -> None:
        if not self.ended:
            self.ended = True
            self.error = error
            self.wake()


class GrpcConnection:
    """A connection with its calls. ``run`` must run for anything to arrive."""

    def __init__(
        self, world: World, connection: Connection, authority: str, patience: Patience = DEFAULT_PATIENCE
    ) -> None:
        self._world = world
        self._connection = connection
        self._channel = Channel(connection, PENDING_BYTES_MAX)
        self._framing = ClientFraming(authority)
        self._calls: dict[int, Call] = {}
        self._patience = patience
        self._heard_at = world.clock.monotonic()
        self.usable = True  # new calls may be started
        self._flush()

    @property
    def idle(self) -> bool:
        """No call is open."""
        return not self._calls

    def start(self, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> Call:
        """Open a call; its head leaves with its first message. ``NotProcessed``: there is no room."""
        if not self.usable:
            raise NotProcessed("the connection has been closed")
        stream_id = self._framing.open(path, metadata)
        if not stream_id:
            raise NotProcessed("the connection takes no more calls now")
        call = self._calls[stream_id] = Call(self, stream_id)
        return call

    async def unary(self, path: str, message: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> bytes:
        """One request, one answer. Raises ``RpcError``, ``ConnectionLost`` or ``NotProcessed``."""
        call = self.start(path, metadata)
        try:
            call.send(message, end=True)
            answer = await call.receive()
            if answer is None or await call.receive() is not None:
                raise rpc_error(13, "a unary call must be answered by one message")
            return answer
        finally:
            if not call.ended:
                call.cancel()

    def pump(self, call: Call) -> None:
        """Send what the windows allow of a call's messages."""
        outgoing = call.outgoing
        while outgoing and not call.ended:
            data, end = outgoing[0]
            taken = self._framing.send(call.stream_id, data, end)
            if taken < len(data):
                outgoing[0] = (data[taken:], end)
                break
            outgoing.popleft()
        self._flush()

    def cancel(self, call: Call) -> None:
        """Reset a call's stream."""
        if call.ended:
            return
        self._framing.reset(call.stream_id, ErrorCode.CANCEL)
        self._drop(call, ConnectionLost("the call was cancelled"))
        self._flush()

    async def run(self) -> None:
        """Receive until the connection ends; then every open call has ended, too."""
        reason = "connection closed by the server"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_rest, nursery.cancel_scope)
                nursery.start_soon(self._keep_alive, nursery.cancel_scope)
                try:
                    while data := await self._connection.receive(RECEIVE_BYTES):
                        self._heard_at = self._world.clock.monotonic()
                        for event in self._framing.receive(data):
                            self._take(event)
                        self._flush()
                        if not self.usable and self.idle:
                            break
                except (OSError, trio.ClosedResourceError, FramingError) as error:
                    reason = str(error) or type(error).__name__
                nursery.cancel_scope.cancel()
        finally:
            self.close(reason)

    def retire(self) -> None:
        """Take no more calls; close once those that are open have ended."""
        self.usable = False
        if self.idle:
            self.close("retired")

    def close(self, reason: str = "closed") -> None:
        """Close at once; the outcome of open calls is unknown."""
        self.usable = False
        self._connection.close()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.finish(ConnectionLost(reason))

    # Events.

    def _take(self, event: Event) -> None:
        kind, stream_id, value = event
        if kind == "goaway":
            self._take_goaway(stream_id)
            return
        if kind == "room" and not stream_id:
            for waiting in list(self._calls.values()):
                if waiting.outgoing:
                    self.pump(waiting)
            return
        call = self._calls.get(stream_id)
        if call is None:
            return
        if kind == "data":
            call.feed(cast("bytes", value))
        elif kind == "headers":
            call.read_fields(cast("list[Field]", value))
        elif kind == "end":
            self._drop(call, call.outcome())
        elif kind == "reset":
            self._take_reset(call, cast("int", value))
        else:
            self.pump(call)

    def _take_reset(self, call: Call, code: int) -> None:
        if code == ErrorCode.REFUSED_STREAM:
            self._drop(call, NotProcessed("the server refused the stream"))
        else:
            self._drop(call, ConnectionLost(f"the server reset the stream with code {code}"))

    def _take_goaway(self, last: int) -> None:
        self.usable = False
        for call in list(self._calls.values()):
            if call.stream_id > last:
                self._drop(call, NotProcessed("the server is going away"))

    def _drop(self, call: Call, error: TercetError | None) -> None:
        self._calls.pop(call.stream_id, None)
        call.finish(error)
        if not self.usable and not self._calls:
            self._connection.close()

    def _flush(self) -> None:
        data = self._framing.take_output()
        if data and not self._channel.send(data):
            self._connection.close()  # the reader finds out, and every call with it

    async def _write_rest(self, scope: trio.CancelScope) -> None:
        try:
            await self._channel.write_rest()
        except (OSError, trio.ClosedResourceError):
            scope.cancel()

    async def _keep_alive(self, scope: trio.CancelScope) -> None:
        clock, patience = self._world.clock, self._patience
        while True:
            await clock.sleep(min(patience.silence, patience.answer))
            now = clock.monotonic()
            if self.idle:
                self._heard_at = now  # there was nothing to hear
            silent = now - self._heard_at
            if silent < patience.silence:
                continue
            if silent >= patience.silence + patience.answer:
                scope.cancel()
                return
            self._framing.ping()
            self._flush()
