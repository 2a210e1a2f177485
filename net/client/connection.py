"""One gRPC connection, client's side: HTTP/2 framing by the ``h2`` library, calls as small state machines.

A reader task feeds ``h2`` and hands what comes to the calls; whoever calls writes at once through a
bounded channel. When the connection ends, every call on it learns whether the server can have seen it:
a stream beyond GOAWAY's last, or refused, was never processed; anything else that was sent may have been.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any, Final
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio

from tercet.core.errors import TercetError

from ..channel import Channel
from ..world import Connection, World
from .errors import ConnectionLost, NotProcessed, rpc_error

__all__ = ["Call", "GrpcConnection"]

RECEIVE_BYTES: Final = 64 << 10
STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 16 << 20
PENDING_BYTES_MAX: Final = 64 << 20
GOAWAY: Final = 7
INCOMPLETE_BYTES_MAX: Final = 128 << 10
#: With calls open and nothing heard for so long, ask by a PING; after three times as long give up.
KEEP_ALIVE_SECONDS: Final = 5.0


class Call:
    """One RPC under way. Messages arrive in order; ``error`` is set when it ended in anything but OK."""

    __slots__ = (
        "_connection", "_wake", "buffer", "code", "ended", "error", "messages", "outgoing", "stream_id",
        "text",
    )

    def __init__(self, connection: GrpcConnection, stream_id: int) -> None:
        self._connection = connection
        self._wake: trio.Event | None = None
        self.stream_id = stream_id
        self.buffer = bytearray()
        self.messages: deque[bytes] = deque()
        self.outgoing: deque[tuple[bytes, bool]] = deque()  # what the flow-control window holds back
        self.ended = False
        self.error: TercetError | None = None
        self.code = -1
        self.text = ""

    def send(self, message: bytes, *, end: bool = False) -> None:
        """Send a message, after those that wait for the window; ``end`` half-closes behind it."""
        self.outgoing.append((b"\0" + len(message).to_bytes(4, "big") + message, end))
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

    def __init__(self, world: World, connection: Connection, authority: str) -> None:
        self._world = world
        self._connection = connection
        self._authority = authority
        self._channel = Channel(connection, PENDING_BYTES_MAX)
        self._calls: dict[int, Call] = {}
        self._incomplete = b""
        self._heard_at = world.clock.monotonic()
        self.usable = True  # new calls may be started
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 65536,
            },
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self._flush()

    @property
    def idle(self) -> bool:
        """No call is open."""
        return not self._calls

    def start(self, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> Call:
        """Open a call. Raises ``NotProcessed`` when the connection takes no more."""
        if not self.usable:
            raise NotProcessed("the connection has been closed")
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "tercet"),
            *metadata,
        ]
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, headers)
        except h2.exceptions.H2Error as error:
            raise NotProcessed(f"no stream could be opened: {error}") from error
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
        """Send what the window allows of a call's messages."""
        if call.ended:
            return
        connection, outgoing = self._h2, call.outgoing
        try:
            while outgoing:
                data, end = outgoing[0]
                window = connection.local_flow_control_window(call.stream_id)
                room = min(window, connection.max_outbound_frame_size)
                if len(data) <= room:
                    outgoing.popleft()
                    connection.send_data(call.stream_id, data, end_stream=end)
                elif room > 0:
                    connection.send_data(call.stream_id, data[:room])
                    outgoing[0] = (data[room:], end)
                else:
                    break
        except h2.exceptions.H2Error as error:
            self._drop(call, ConnectionLost(f"stream closed: {error}"))
        self._flush()

    def cancel(self, call: Call) -> None:
        """Reset a call's stream."""
        if call.ended:
            return
        with contextlib.suppress(h2.exceptions.H2Error):  # the stream has just ended by itself
            self._h2.reset_stream(call.stream_id, h2.errors.ErrorCodes.CANCEL)
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
                        for event in self._h2.receive_data(self._without_goaway(data)):
                            self._take(event)
                        self._flush()
                        if not self.usable and self.idle:
                            break
                except (OSError, trio.ClosedResourceError, h2.exceptions.ProtocolError) as error:
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

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._take_data(event)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self._take_headers(event)
            case h2.events.StreamEnded():
                self._take_end(event)
            case h2.events.StreamReset():
                self._take_reset(event)
            case h2.events.WindowUpdated():
                self._take_window(event)
            case h2.events.RemoteSettingsChanged():
                for call in list(self._calls.values()):
                    self.pump(call)
            case _:
                pass

    def _take_data(self, event: Any) -> None:
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        buffer = call.buffer
        buffer += event.data
        while len(buffer) >= 5:
            end = 5 + int.from_bytes(buffer[1:5], "big")
            if len(buffer) < end:
                break
            call.messages.append(bytes(buffer[5:end]))
            del buffer[:end]
            call.wake()

    def _take_headers(self, event: Any) -> None:
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        for name, value in event.headers:
            if name == "grpc-status":
                call.code = int(value) if value.isdigit() else 2
            elif name == "grpc-message":
                call.text = unquote(value)
            elif name == ":status" and value != "200":
                call.code, call.text = 2, f"unexpected HTTP status {value}"

    def _take_end(self, event: Any) -> None:
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        if call.code == 0:
            self._drop(call, None)
        elif call.code < 0:
            self._drop(call, ConnectionLost("the answer ended without a status"))
        else:
            self._drop(call, rpc_error(call.code, call.text))

    def _take_reset(self, event: Any) -> None:
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        if event.error_code == h2.errors.ErrorCodes.REFUSED_STREAM:
            self._drop(call, NotProcessed("the server refused the stream"))
        else:
            self._drop(call, ConnectionLost(f"the server reset the stream with code {event.error_code}"))

    def _take_window(self, event: Any) -> None:
        if event.stream_id:
            call = self._calls.get(event.stream_id)
            if call is not None:
                self.pump(call)
            return
        for call in list(self._calls.values()):
            if call.outgoing:
                self.pump(call)

    def _without_goaway(self, data: bytes) -> bytes:
        """Take GOAWAY frames out of what was received: ``h2`` would refuse the answers that still follow."""
        frames = self._incomplete + data
        kept: list[bytes] = []
        start = 0
        while len(frames) - start >= 9:
            end = start + 9 + int.from_bytes(frames[start : start + 3], "big")
            if end > len(frames):
                break
            if frames[start + 3] == GOAWAY:
                self._take_goaway(int.from_bytes(frames[start + 9 : start + 13], "big") & 0x7FFFFFFF)
            else:
                kept.append(frames[start:end])
            start = end
        self._incomplete = frames[start:]
        if len(self._incomplete) > INCOMPLETE_BYTES_MAX:
            raise h2.exceptions.FrameTooLargeError("a frame is longer than allowed")
        return b"".join(kept)

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
        data = self._h2.data_to_send()
        if data and not self._channel.send(data):
            self._connection.close()  # the reader finds out, and every call with it

    async def _write_rest(self, scope: trio.CancelScope) -> None:
        try:
            await self._channel.write_rest()
        except (OSError, trio.ClosedResourceError):
            scope.cancel()

    async def _keep_alive(self, scope: trio.CancelScope) -> None:
        clock = self._world.clock
        while True:
            await clock.sleep(KEEP_ALIVE_SECONDS)
            silent = clock.monotonic() - self._heard_at
            if self.idle or silent < KEEP_ALIVE_SECONDS:
                continue
            if silent >= 3 * KEEP_ALIVE_SECONDS:
                scope.cancel()
                return
            self._h2.ping(b"tercet\0\0")
            self._flush()
