"""The sending half of a server connection: answers, windows, and the queue behind them.

The usual answer, a unary one that fits both windows and one frame, is three frames around the message: the
header block and the trailers are constants, so one ``pack`` and one append make it. Everything else goes
through ``Outgoing``: chunks leave as far as the stream's and the connection's windows allow; a stream that
waits for the connection's window stands in ``_waiting`` and is served in turn, one that waits for its own is
found by its id when the window opens. So no event costs more than what it lets through. However wide the
windows are, what waits leaves a burst at a time: the rest follows when that is written (``resume``).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from ..rpc_errors import Status
from .grpc import frame_message, message_prefix
from .hpack_encode import encode_plain
from .http2_frames import (
    DEFAULT_WINDOW,
    FRAME,
    MAX_STREAM_ID,
    ErrorCode,
    Flag,
    FrameType,
    goaway_frame,
    headers_frames,
    reset_frame,
)
from .http2_head import status_block
from .http2_limits import Http2Limits
from .http2_streams import Event, Outgoing, Partial, Stream, StreamReset, StreamWritable, UnaryRequest

__all__ = ["Sender"]

_HEADERS_BLOCK = encode_plain([(b":status", b"200"), (b"content-type", b"application/grpc")])
_OK_BLOCK = status_block(0, "", initial=False)
_HEADERS_START = FRAME.pack(0, len(_HEADERS_BLOCK), FrameType.HEADERS, Flag.END_HEADERS, 0)[:5]
_OK_START = FRAME.pack(0, len(_OK_BLOCK), FrameType.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, 0)[:5]
_ANSWER = struct.Struct(f">5sI{len(_HEADERS_BLOCK)}sHBHIBI")
_answer = _ANSWER.pack
_trailer = struct.Struct(f">5sI{len(_OK_BLOCK)}s").pack
_SIZE_UPDATE_ZERO = b"\x20"  # HPACK: our encoder's table has no entries from here on
_MAX_CACHED_STATUSES = 256
_BURST_BYTES = 1 << 20  # of queued DATA in one output
_USEFUL_BYTES = 1024  # a DATA frame of that size counts as work done for the client
_REMEMBERED_RESETS = 512


class Sender:
    """What ``ServerConnection`` sends, and the state it depends on.

    Args:
        limits: bounds of this connection.
        dirty: the list this connection appends itself to whenever its output stops being empty; the owner
            of the list calls ``take_output`` on each and empties the list.
    """

    def __init__(self, limits: Http2Limits, dirty: list[Any]) -> None:
        self.limits = limits
        #: The driver's own.
        self.owner: Any = None
        #: Nothing more will be read or sent: write what ``take_output`` gives and close.
        self.closed = False
        #: Why, in words for a log; "" for an ordinary end.
        self.reason = ""
        #: Answers so far (messages, failures): the measure of real work.
        self.answers = 0
        #: Bytes that wait for the client's windows.
        self.queued_bytes = 0
        #: No stream has an earlier deadline than this (monotonic); None: no stream has one.
        self.next_deadline: float | None = None
        self.streams: dict[int, UnaryRequest | Partial | Outgoing] = {}
        self.last_stream_id = 0
        self._dirty = dirty
        self._out: list[bytes | memoryview] = []
        self._send_window = DEFAULT_WINDOW
        self._initial_send_window = DEFAULT_WINDOW
        self._max_send_frame = 16384
        self._direct_limit = 16384  # the largest DATA of the fast path; -1: the next block needs a prefix
        self._burst = _BURST_BYTES  # so much more queued DATA may go into the present output
        self._waiting: dict[int, Outgoing] = {}
        self._resets: dict[int, None] = {}  # streams we reset: frames in flight for them are no offence
        self._statuses: dict[tuple[int, str, bool], bytes] = {}
        self._events: list[Event] = []  # found while sending; given out by the next ``receive``

    def take_output(self) -> bytes:
        """All bytes to write now; empties the output."""
        data = b"".join(self._out)
        self._out.clear()
        self._burst = _BURST_BYTES
        return data

    @property
    def holds_back(self) -> bool:
        """More could leave than the last output had: call ``resume`` once that is written."""
        return bool(self._waiting) and self._send_window > 0

    def resume(self) -> None:
        """Go on with what the last output had no room for."""
        self._pump_waiting()

    # -- answers -------------------------------------------------------------------------------------

    def reply_unary(self, request: UnaryRequest, message: bytes) -> None:
        """Answer a unary request (``UnaryRequest.reply`` calls this once at most)."""
        request.answered = True
        self.answers += 1
        request.head.route.ok += 1
        stream_id = request.stream_id
        size = len(message)
        framed = size + 5
        if framed <= self._direct_limit and framed <= request.send_window and framed <= self._send_window:
            del self.streams[stream_id]
            self._send_window -= framed
            out = self._out
            if not out:
                self._dirty.append(self)
            out += (
                _answer(
                    _HEADERS_START,
                    stream_id,
                    _HEADERS_BLOCK,
                    framed >> 8,
                    framed & 255,
                    0,
                    stream_id,
                    0,
                    size,
                ),
                message,
                _trailer(_OK_START, stream_id, _OK_BLOCK),
            )
            return
        outgoing = Outgoing(stream_id, request.send_window)
        self.streams[stream_id] = outgoing
        self._headers(stream_id, _HEADERS_BLOCK, end_stream=False)
        outgoing.trailers = _OK_BLOCK
        self._queue(outgoing, frame_message(message))

    def reply_unary_in_parts(self, request: UnaryRequest, parts: Sequence[bytes]) -> None:
        """As ``reply_unary`` with the pieces of a long message, which are not copied."""
        request.answered = True
        self.answers += 1
        request.head.route.ok += 1
        outgoing = Outgoing(request.stream_id, request.send_window)
        self.streams[request.stream_id] = outgoing
        self._headers(request.stream_id, _HEADERS_BLOCK, end_stream=False)
        outgoing.trailers = _OK_BLOCK
        self._queue(outgoing, message_prefix(sum(map(len, parts))), *parts)

    def fail_unary(self, request: UnaryRequest, code: int, message: str) -> None:
        """Answer a unary request with a status (``UnaryRequest.fail`` calls this once at most)."""
        request.answered = True
        self.answers += 1
        request.head.route.count(code)
        del self.streams[request.stream_id]
        self._headers(request.stream_id, self._status(code, message, initial=True), end_stream=True)

    def send_message(self, stream: Stream, message: bytes) -> int:
        """Send or queue one message of a streaming call.

        Returns:
            The stream's bytes that wait for the client's windows; when that is more than the caller likes to
            keep, it sets ``stream.starved`` and waits for ``StreamWritable``.
        """
        if stream.finished:
            return 0
        self.answers += 1
        if not stream.headers_sent:
            stream.headers_sent = True
            self._headers(stream.stream_id, _HEADERS_BLOCK, end_stream=False)
        self._queue(stream, frame_message(message))
        return stream.queued

    def finish(self, stream: Stream, code: int = 0, message: str = "") -> None:
        """End a streaming call with a status, after what is queued; without effect on a finished one."""
        if stream.finished:
            return
        stream.finished = True
        self.answers += 1
        stream.head.route.count(code)
        stream.trailers = self._status(code, message, initial=not stream.headers_sent)
        if not stream.chunks:
            self._end(stream)

    def expire(self, now: float) -> None:
        """Answer DEADLINE_EXCEEDED for every request whose deadline has passed; cheap when none has.

        Streaming calls show up as ``StreamReset`` in ``take_events``.
        """
        if self.next_deadline is None or now < self.next_deadline:
            return
        late = [s for s in self.streams.values() if s.deadline is not None and s.deadline <= now]
        for stream in late:
            stream.deadline = None
            if isinstance(stream, UnaryRequest):
                stream.fail(4, "context deadline exceeded")
            elif isinstance(stream, Stream):
                self.finish(stream, 4, "context deadline exceeded")
                self._events.append(StreamReset(stream))
            elif isinstance(stream, Partial):
                self._refuse(stream, self._status(4, "context deadline exceeded", initial=True))
        left = [s.deadline for s in self.streams.values() if s.deadline is not None]
        self.next_deadline = min(left, default=None)

    def take_events(self) -> list[Event]:
        """Events that arose outside of ``receive``."""
        events, self._events = self._events, []
        return events

    # -- frames --------------------------------------------------------------------------------------

    def _put(self, data: bytes | memoryview) -> None:
        out = self._out
        if not out:
            self._dirty.append(self)
        out.append(data)

    def _headers(self, stream_id: int, block: bytes, end_stream: bool) -> None:
        if self._direct_limit < 0:
            block = _SIZE_UPDATE_ZERO + block
            self._direct_limit = self._max_send_frame
        self._put(headers_frames(stream_id, block, end_stream, self._max_send_frame))

    def _status(self, code: int, message: str, initial: bool) -> bytes:
        key = (code, message, initial)
        block = self._statuses.get(key)
        if block is None:
            if len(self._statuses) >= _MAX_CACHED_STATUSES:
                self._statuses.clear()
            block = self._statuses[key] = status_block(code, message, initial)
        return block

    def _settle(self, stream: UnaryRequest | Partial | Outgoing) -> None:
        """The stream ends: settle the books of what was received for it."""
        raise NotImplementedError

    def _refuse(self, stream: Partial, block: bytes) -> None:
        """Answer a request that is still arriving, and stop it from arriving."""
        self._settle(stream)
        del self.streams[stream.stream_id]
        self._headers(stream.stream_id, block, end_stream=True)
        self._send_reset(stream.stream_id, ErrorCode.NO_ERROR)

    def _send_reset(self, stream_id: int, code: int) -> None:
        resets = self._resets
        if len(resets) >= _REMEMBERED_RESETS:
            del resets[next(iter(resets))]
        resets[stream_id] = None
        self._put(reset_frame(stream_id, code))

    # -- windows -------------------------------------------------------------------------------------

    def _queue(self, stream: Outgoing, *data: bytes) -> None:
        size = sum(map(len, data))
        if self.queued_bytes > self.limits.max_queued_bytes and self._queues_too_much():
            self._abort(ErrorCode.ENHANCE_YOUR_CALM, "too many answers wait for the client's windows")
            return
        idle = not stream.chunks
        stream.chunks.extend(memoryview(part) for part in data if part)
        stream.queued += size
        self.queued_bytes += size
        if idle:
            self._pump(stream)

    def _queues_too_much(self) -> bool:
        """Whether more waits than the limit, one answer left out: a single one may be of any size."""
        waiting = (one.queued for one in self.streams.values() if isinstance(one, Outgoing))
        largest = max(waiting, default=0)
        return self.queued_bytes - largest > self.limits.max_queued_bytes

    def _pump(self, stream: Outgoing) -> None:
        """Send of one stream what the windows allow."""
        chunks = stream.chunks
        while chunks:
            room = min(stream.send_window, self._send_window, self._max_send_frame)
            if room <= 0 or self._burst <= 0:
                if stream.send_window > 0:
                    self._waiting[stream.stream_id] = stream
                return
            chunk = chunks[0]
            size = len(chunk)
            if size <= room:
                chunks.popleft()
            else:
                size = room
                chunks[0] = chunk[room:]
                chunk = chunk[:room]
            stream.send_window -= size
            self._send_window -= size
            self._burst -= size
            stream.queued -= size
            self.queued_bytes -= size
            self._put(FRAME.pack(size >> 8, size & 255, FrameType.DATA, 0, stream.stream_id))
            self._put(chunk)
            if size >= _USEFUL_BYTES:
                self.answers += 1
        if stream.trailers is not None:
            self._end(stream)
        elif isinstance(stream, Stream) and stream.starved:
            stream.starved = False
            self._events.append(StreamWritable(stream))

    def _pump_waiting(self) -> None:
        while self._waiting and self._send_window > 0 and self._burst > 0:
            stream_id = next(iter(self._waiting))
            self._pump(self._waiting.pop(stream_id))

    def _end(self, stream: Outgoing) -> None:
        assert stream.trailers is not None
        self._settle(stream)
        del self.streams[stream.stream_id]
        self._headers(stream.stream_id, stream.trailers, end_stream=True)
        if stream.remote_open:
            self._send_reset(stream.stream_id, ErrorCode.NO_ERROR)

    def _forget(self, stream: UnaryRequest | Partial | Outgoing) -> None:
        """The stream was reset: drop all there is of it."""
        self._settle(stream)
        del self.streams[stream.stream_id]
        if isinstance(stream, UnaryRequest):
            stream.answered = True
            stream.head.route.count(Status.CANCELLED)
        elif isinstance(stream, Outgoing):
            self._waiting.pop(stream.stream_id, None)
            self.queued_bytes -= stream.queued
            stream.queued = 0
            stream.chunks.clear()
            if isinstance(stream, Stream):
                if not stream.finished:
                    stream.finished = True
                    stream.head.route.count(Status.CANCELLED)
                self._events.append(StreamReset(stream))

    # -- the end -------------------------------------------------------------------------------------

    def _abort(self, code: int, reason: str) -> None:
        """Connection error: GOAWAY, and nothing after it."""
        if self.closed:
            return
        self._put(goaway_frame(self.last_stream_id, code, reason.encode("ascii", "replace")))
        self.reason = reason
        self.cut_off()

    def cut_off(self) -> None:
        """The connection is gone: every stream ends, answers have no effect from now on."""
        self.closed = True
        for stream in list(self.streams.values()):
            self._forget(stream)

    def announce_goaway(self) -> None:
        """First half of a graceful end: ask the client to open no more streams (RFC 9113, 6.8)."""
        if not self.closed:
            self._put(goaway_frame(MAX_STREAM_ID, ErrorCode.NO_ERROR))
