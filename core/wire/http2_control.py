"""What of a server connection is neither request nor answer: settings, windows, resets, pings, ends.

Also the books of what was received: the connection's window is repaid as bytes arrive (what is stored is
bounded by ``max_buffered_bytes``), a stream's window as its handler takes messages, so that a slow handler
slows its own client and nobody else.
"""

from __future__ import annotations

import struct
from typing import Any

from .http2_frames import (
    DEFAULT_WINDOW,
    FRAME,
    MAX_WINDOW,
    ErrorCode,
    Flag,
    FrameType,
    Setting,
    goaway_frame,
    settings_frame,
    window_frame,
)
from .http2_guard import Bucket, PingPolice
from .http2_limits import Http2Limits
from .http2_send import Sender
from .http2_streams import Outgoing, Partial, Stream, StreamReset, UnaryRequest

__all__ = ["ConnectionFault", "Control", "StreamFault"]

_MESSAGE_OVERHEAD = 128  # what a queued message costs beside its bytes
_SETTINGS_ACK = FRAME.pack(0, 0, FrameType.SETTINGS, Flag.ACK, 0)
_DRAIN_PING = b"tercet\0\1"
_MAX_SETTINGS = 64


class ConnectionFault(Exception):
    """The connection must end with GOAWAY."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StreamFault(Exception):
    """One stream must end with RST_STREAM."""

    def __init__(self, stream_id: int, code: int, text: str) -> None:
        super().__init__(text)
        self.stream_id = stream_id
        self.code = code


class Control(Sender):
    """Control frames and receive windows, on top of the sending half."""

    def __init__(self, limits: Http2Limits, dirty: list[Any]) -> None:
        super().__init__(limits, dirty)
        #: A graceful end has begun.
        self.draining = False
        self._now = 0.0
        self._table_cleared = False
        self._settings_seen = False
        self._stream_limit = limits.max_streams
        self._owed = 0  # received bytes whose window the client has not got back
        self._owed_limit = limits.connection_window // 4
        #: Bytes received that no handler has taken yet, and what holding them costs.
        self.buffered_bytes = 0
        self._final_id: int | None = None
        self._nuisance = Bucket(limits.nuisance_burst, limits.nuisance_rate, 4.0)
        self._reset_budget = Bucket(limits.reset_burst, limits.reset_rate, 1.0)
        self._pings = PingPolice(limits.ping_min_seconds, limits.ping_idle_seconds, limits.ping_strikes)

    def _send_preface(self) -> None:
        limits = self.limits
        self._put(
            settings_frame(
                (
                    (Setting.MAX_CONCURRENT_STREAMS, limits.max_streams),
                    (Setting.INITIAL_WINDOW_SIZE, limits.stream_window),
                    (Setting.MAX_FRAME_SIZE, limits.max_frame_bytes),
                    (Setting.MAX_HEADER_LIST_SIZE, limits.max_header_list_bytes),
                )
            )
        )
        if limits.connection_window > DEFAULT_WINDOW:
            self._put(window_frame(0, limits.connection_window - DEFAULT_WINDOW))

    # -- budgets -------------------------------------------------------------------------------------

    def _spend_nuisance(self, cost: float) -> None:
        if not self._nuisance.take(self._now, self.answers, cost):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many useless frames")

    def _spend_reset(self) -> None:
        if not self._reset_budget.take(self._now, self.answers):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many reset streams")

    def _deadline(self, timeout: float) -> float:
        deadline = self._now + timeout
        if self.next_deadline is None or deadline < self.next_deadline:
            self.next_deadline = deadline
        return deadline

    # -- receive windows -----------------------------------------------------------------------------

    def _repay(self) -> None:
        self._put(window_frame(0, self._owed))
        self._owed = 0

    def _grant(self, stream: Partial | Stream) -> None:
        unread = stream.unread if isinstance(stream, Stream) else 0
        window = self.limits.stream_window
        missing = window - stream.recv_window - unread
        if missing * 2 >= window:
            stream.recv_window += missing
            self._put(window_frame(stream.stream_id, missing))

    def _hold(self, stream: Stream, message: bytes) -> None:
        cost = len(message) + _MESSAGE_OVERHEAD
        stream.unread += cost
        self.buffered_bytes += cost

    def consumed(self, stream: Stream, message: bytes) -> None:
        """The handler has taken a message: its room may be used again."""
        if stream.unread:
            cost = len(message) + _MESSAGE_OVERHEAD
            stream.unread -= cost
            self.buffered_bytes -= cost
            if stream.remote_open and not self.closed and stream.stream_id in self.streams:
                self._grant(stream)

    def _drop_partial(self, stream: Partial | Stream) -> None:
        self.buffered_bytes -= stream.reader.pending
        stream.reader.clear()

    def _settle(self, stream: UnaryRequest | Partial | Outgoing) -> None:
        if not isinstance(stream, Partial | Stream):
            return
        self._drop_partial(stream)
        if isinstance(stream, Stream):
            self.buffered_bytes -= stream.unread
            stream.unread = 0
        elif stream.message is not None:
            self.buffered_bytes -= len(stream.message)
            stream.message = None

    def _lost(self, stream: Stream) -> None:
        self._events.append(StreamReset(stream))

    # -- frames --------------------------------------------------------------------------------------

    def _stream_fault(self, fault: StreamFault) -> None:
        """Reset the stream that broke a rule; such resets cost as those of the client do."""
        self._spend_reset()
        stream = self.streams.get(fault.stream_id)
        if stream is not None:
            self._forget(stream)
        self._send_reset(fault.stream_id, fault.code)

    def _strip_headers(self, flags: int, payload: bytes) -> tuple[bytes, int]:
        """Remove padding and priority of a HEADERS frame; returns the block and the stream depended on."""
        start = 0
        end = len(payload)
        depends_on = 0
        if flags & Flag.PADDED:
            if not payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its padding length")
            start = 1
            end -= payload[0]
        if flags & Flag.PRIORITY:
            if len(payload) < start + 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            depends_on = int.from_bytes(payload[start : start + 4], "big") & MAX_WINDOW
            start += 5
        if end < start:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
        return payload[start:end], depends_on

    def _on_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == FrameType.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == FrameType.RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == FrameType.PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == FrameType.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == FrameType.PRIORITY:
            self._on_priority(stream_id, payload)
        elif kind == FrameType.GOAWAY:
            self._on_goaway(stream_id, payload)
        elif kind == FrameType.PUSH_PROMISE:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        else:
            self._spend_nuisance(1.0)  # unknown types must be ignored

    def _on_priority(self, stream_id: int, payload: bytes) -> None:
        self._spend_nuisance(1.0)
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamFault(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong size")
        if int.from_bytes(payload[:4], "big") & MAX_WINDOW == stream_id:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if stream_id == 0 or stream_id > self.last_stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        self._spend_reset()
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._forget(stream)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong size")
        self._spend_nuisance(1.0)
        if flags & Flag.ACK:
            if payload == _DRAIN_PING and self.draining:
                self.finish_drain()
            return
        self._put(FRAME.pack(0, 8, FrameType.PING, Flag.ACK, 0) + payload)
        if not self._pings.ping(self._now, self.answers, len(self.streams)):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

    def _on_goaway(self, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self._spend_nuisance(1.0)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        self._spend_nuisance(1.0)
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            self._send_window += increment
            if self._send_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window over 2**31 - 1")
            if self._waiting:
                self._pump_waiting()
            return
        if stream_id > self.last_stream_id or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if increment == 0:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        stream.send_window += increment
        if stream.send_window > MAX_WINDOW:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "a window over 2**31 - 1")
        if isinstance(stream, Outgoing) and stream.chunks:
            self._pump(stream)

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            self._spend_nuisance(1.0)
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        if len(payload) > 6 * _MAX_SETTINGS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many settings")
        self._spend_nuisance(10.0)
        for key, value in struct.iter_unpack(">HI", payload):
            self._apply_setting(key, value)
        self._settings_seen = True
        self._put(_SETTINGS_ACK)

    def _apply_setting(self, key: int, value: int) -> None:
        if key == Setting.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "an initial window over 2**31 - 1")
            self._move_windows(value)
        elif key == Setting.MAX_FRAME_SIZE:
            if not 16384 <= value <= (1 << 24) - 1:
                raise ConnectionFault(
                    ErrorCode.PROTOCOL_ERROR, "need 16384 <= SETTINGS_MAX_FRAME_SIZE < 2**24"
                )
            self._max_send_frame = min(value, 1 << 20)
            if self._direct_limit >= 0:
                self._direct_limit = self._max_send_frame
        elif key == Setting.ENABLE_PUSH:
            if value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "need SETTINGS_ENABLE_PUSH 0 or 1")
        elif key == Setting.HEADER_TABLE_SIZE and value < 4096 and not self._table_cleared:
            # Our encoder keeps no table, but the client must hear that it fits (RFC 7541, 4.2).
            self._table_cleared = True
            self._direct_limit = -1

    def _move_windows(self, value: int) -> None:
        change = value - self._initial_send_window
        self._initial_send_window = value
        if not change:
            return
        for stream in list(self.streams.values()):
            stream.send_window += change
            if stream.send_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window over 2**31 - 1")
            if isinstance(stream, Outgoing) and stream.chunks:
                self._pump(stream)

    # -- a graceful end ------------------------------------------------------------------------------

    def drain(self) -> None:
        """Begin a graceful end: the client learns that no more streams are wanted; those under way go on.

        The second GOAWAY, with the real last stream, follows when the client has answered a PING, or when
        ``finish_drain`` is called. The connection is ``drained`` when no stream is left after that.
        """
        if self.closed or self.draining:
            return
        self.draining = True
        self.announce_goaway()
        self._put(FRAME.pack(0, 8, FrameType.PING, 0, 0) + _DRAIN_PING)

    def finish_drain(self) -> None:
        """Send the final GOAWAY; streams opened later are refused."""
        if not self.closed and self._final_id is None:
            self._final_id = self.last_stream_id
            self._stream_limit = 0
            self._put(goaway_frame(self.last_stream_id, ErrorCode.NO_ERROR))

    @property
    def drained(self) -> bool:
        """The final GOAWAY is out and every stream has ended: write the output and close."""
        return self._final_id is not None and not self.streams

    def ping(self) -> None:
        """Ask for a sign of life; any later ``receive`` is one."""
        if not self.closed:
            self._put(FRAME.pack(0, 8, FrameType.PING, 0, 0) + b"tercet\0\0")
