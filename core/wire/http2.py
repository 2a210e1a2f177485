"""A server's HTTP/2 connection for gRPC: bytes in, events out; answers in, bytes out. No I/O, no clock.

``receive`` walks over the frames of what was read and returns events; the answers' bytes gather in the output
until ``take_output``. The walk has one fast path, which nearly all requests take: HEADERS whose block was
seen before, followed by a DATA frame that holds the whole message and ends the stream. It costs one
dictionary look-up, one object and one slice. All other frames go to one method each.

Errors: what breaks the protocol is answered as RFC 9113 asks, by RST_STREAM or by GOAWAY; ``receive`` never
raises. What is legal but useless is paid from budgets (``http2_guard``), what is stored is bounded
(``Http2Limits``). Time enters as the ``now`` of ``receive``, in monotonic seconds.

Source: RFC 9113; RFC 7541; https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from ..rpc_errors import RpcError, Status
from .grpc import MessageReader, parse_timeout
from .hpack_decode import Field, HeaderDecoder, HeaderListTooLarge, HpackError
from .http2_control import ConnectionFault, Control, StreamFault
from .http2_frames import FRAME, MAX_STREAM_ID, PREFACE, ErrorCode, Flag, FrameType
from .http2_head import RequestHead, Route, build_head, malformed_trailers
from .http2_limits import Http2Limits
from .http2_streams import (
    Event,
    HalfClosed,
    MessageReceived,
    Partial,
    Stream,
    StreamOpened,
    UnaryRequest,
)

__all__ = ["ServerConnection"]

_unpack = FRAME.unpack_from
#: The frame header and gRPC prefix of a DATA frame: length (16 + 8), type, flags, stream, compressed, size
_unpack_data = struct.Struct(">HBBBIBI").unpack_from
_TIMEOUT = b"grpc-timeout"
_DEPENDS_ON_ITSELF = 0x100  # beyond the flags of the wire
_MAX_CACHED_BLOCK = 1024
_MAX_CACHED = 64


class ServerConnection(Control):
    """One connection, from the client's preface on.

    Args:
        limits: bounds of this connection.
        routes: where requests go, by path; may be shared, is never changed here.
        dirty: list for the connections that have output (see ``Sender``).
    """

    def __init__(self, limits: Http2Limits, routes: Mapping[str, Route], dirty: list[Any]) -> None:
        super().__init__(limits, dirty)
        self._routes = routes
        self._decoder = HeaderDecoder(4096, limits.max_header_list_bytes)
        #: header block -> what it means, while the dynamic table stands still
        self._blocks: dict[bytes, tuple[RequestHead, float | None]] = {}
        #: fields -> head
        self._heads: dict[tuple[Field, ...], RequestHead] = {}
        self._rest = b""
        self._preface_seen = False
        self._block_parts: list[bytes] | None = None  # HEADERS seen, CONTINUATION owed
        self._block_stream = 0
        self._block_flags = 0
        self._block_bytes = 0
        self._send_preface()

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take what was read and tell what it means.

        Args:
            data: any number of bytes; ``b""`` gives only the events that are due.
            now: the monotonic time in seconds.

        Returns:
            The events in the order of their frames. When ``closed`` is set afterwards, write the output, then
            close.
        """
        self._now = now
        if not self.closed:
            if self._rest:
                data = self._rest + data
            try:
                used = self._walk(data)
                self._rest = data[used:] if used else data
            except ConnectionFault as fault:
                self._rest = b""
                self._abort(fault.code, fault.text)
        return self.take_events()

    def _walk(self, data: bytes) -> int:
        """Handle all whole frames; returns how many bytes they had."""
        position = 0
        end = len(data)
        if not self._preface_seen:
            if data[:24] != PREFACE[:end]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad client preface")
            if end < 24:
                return 0
            position = 24
            self._preface_seen = True
        max_frame = self.limits.max_frame_bytes
        blocks = self._blocks
        streams = self.streams
        events = self._events
        while end - position >= 9:
            high, low, kind, flags, stream_id = _unpack(data, position)
            length = high << 8 | low
            start = position + 9
            stop = start + length
            if length > max_frame:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            if stop > end:
                break
            position = stop
            if (
                kind == 1
                and flags == 4
                and self._block_parts is None
                and self._settings_seen
                and self.last_stream_id < stream_id <= MAX_STREAM_ID
                and stream_id & 1
            ):
                block = data[start:stop]
                head, timeout = blocks.get(block) or self._request_head(block)
                if stop + 14 <= end and head.direct and len(streams) < self._stream_limit:
                    high, low, kind, flags, data_stream_id, compressed, size = _unpack_data(data, stop)
                    framed = high << 8 | low
                    position = stop + 9 + framed
                    if (
                        kind == 0
                        and flags == 1
                        and not compressed
                        and framed == size + 5
                        and data_stream_id == stream_id
                        and position <= end
                        and framed <= max_frame
                    ):
                        self.last_stream_id = stream_id
                        deadline = None if timeout is None else self._deadline(timeout)
                        request = UnaryRequest(
                            self,
                            stream_id,
                            head,
                            data[stop + 14 : position],
                            deadline,
                            self._initial_send_window,
                        )
                        streams[stream_id] = request
                        events.append(request)
                        self._owed += framed
                        if self._owed > self._owed_limit:
                            self._repay()
                        continue
                    position = stop
                self._begin(stream_id, head, timeout, ended=False)
                continue
            if kind == 0 and flags == 1 and self._whole_request(stream_id, data, start, stop):
                continue
            self._frame(kind, flags, stream_id & 0x7FFFFFFF, data[start:stop])
            if self.closed:
                break
        return position

    def _whole_request(self, stream_id: int, data: bytes, start: int, stop: int) -> bool:
        """Take the one DATA frame that is a whole unary request; False: take it the long way.

        Clients with several requests at hand send their HEADERS first and the DATA after them, so this is
        the common case besides HEADERS and DATA in one piece.
        """
        partial = self.streams.get(stream_id)
        if (
            type(partial) is not Partial
            or partial.received
            or not partial.head.direct
            or self._block_parts is not None
            or stop - start < 5
            or data[start]
            or int.from_bytes(data[start + 1 : start + 5], "big") != stop - start - 5
        ):
            return False
        request = UnaryRequest(
            self, stream_id, partial.head, data[start + 5 : stop], partial.deadline, partial.send_window
        )
        self.streams[stream_id] = request
        self._events.append(request)
        self._owed += stop - start
        if self._owed > self._owed_limit:
            self._repay()
        return True

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._settings_seen and (kind != FrameType.SETTINGS or flags & Flag.ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if self._block_parts is not None and (
            kind != FrameType.CONTINUATION or stream_id != self._block_stream
        ):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is not finished")
        try:
            if kind == FrameType.DATA:
                self._on_data(flags, stream_id, payload)
            elif kind == FrameType.HEADERS:
                self._on_headers(flags, stream_id, payload)
            elif kind == FrameType.CONTINUATION:
                self._on_continuation(flags, payload)
            else:
                self._on_control(kind, flags, stream_id, payload)
        except StreamFault as fault:
            self._stream_fault(fault)

    # -- header blocks -------------------------------------------------------------------------------

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not the client's")
        if flags & (Flag.PADDED | Flag.PRIORITY):
            payload, depends_on = self._strip_headers(flags, payload)
        else:
            depends_on = 0
        if depends_on == stream_id:
            flags |= _DEPENDS_ON_ITSELF  # remembered until the block is decoded: compression state must go on
        if flags & Flag.END_HEADERS:
            self._on_block(flags, stream_id, payload)
        else:
            self._block_parts = [payload]
            self._block_bytes = len(payload)
            self._block_stream = stream_id
            self._block_flags = flags

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        parts = self._block_parts
        if parts is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        parts.append(payload)
        self._block_bytes += len(payload)
        limits = self.limits
        if len(parts) > limits.max_continuations or self._block_bytes > limits.max_header_block_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & Flag.END_HEADERS:
            self._block_parts = None
            self._on_block(self._block_flags, self._block_stream, b"".join(parts))

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """A complete header block: a request, or trailers of one."""
        ended = bool(flags & Flag.END_STREAM)
        if stream_id <= self.last_stream_id:
            fields, _ = self._decode(block)
            self._on_trailers(stream_id, fields, ended)
            return
        head, timeout = self._request_head(block)
        self._begin(stream_id, head, timeout, ended, bool(flags & _DEPENDS_ON_ITSELF))

    def _begin(
        self,
        stream_id: int,
        head: RequestHead,
        timeout: float | None,
        ended: bool,
        circular: bool = False,
    ) -> None:
        """A new stream of the client."""
        self.last_stream_id = stream_id
        try:
            if circular:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
            if head.malformed is not None:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, head.malformed)
            if len(self.streams) >= self._stream_limit:
                raise StreamFault(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
            if head.refusal is not None:
                self._refuse_head(stream_id, head.refusal, ended)
                return
            self._open(stream_id, head, None if timeout is None else self._deadline(timeout), ended)
        except StreamFault as fault:
            self._stream_fault(fault)

    def _refuse_head(self, stream_id: int, block: bytes, ended: bool) -> None:
        self._spend_nuisance(1.0)
        self._headers(stream_id, block, end_stream=True)
        if not ended:
            self._send_reset(stream_id, ErrorCode.NO_ERROR)

    def _decode(self, block: bytes) -> tuple[list[Field], float | None]:
        """Fields without ``grpc-timeout``, and that in seconds."""
        try:
            fields = self._decoder.decode(block)
        except HpackError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        except HeaderListTooLarge as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, str(error)) from None
        if self._decoder.changed:
            self._blocks.clear()
        timeout = None
        for field in fields:
            if field[0] == _TIMEOUT:
                fields.remove(field)
                try:
                    timeout = parse_timeout(field[1].decode("latin-1"))
                except ValueError:
                    fields.append((b"grpc-timeout\n", field[1]))  # no legal name: the head is malformed
                break
        return fields, timeout

    def _request_head(self, block: bytes) -> tuple[RequestHead, float | None]:
        known = self._blocks.get(block)
        if known is not None:
            return known
        fields, timeout = self._decode(block)
        key = tuple(fields)
        head = self._heads.get(key)
        small = len(block) <= _MAX_CACHED_BLOCK
        if head is None:
            head = build_head(fields, self._routes)
            if small:
                if len(self._heads) >= _MAX_CACHED:
                    self._heads.clear()
                self._heads[key] = head
        if small and not self._decoder.changed:
            if len(self._blocks) >= _MAX_CACHED:
                self._blocks.clear()
            self._blocks[block] = (head, timeout)
        return head, timeout

    def _open(self, stream_id: int, head: RequestHead, deadline: float | None, ended: bool) -> None:
        reader = MessageReader(self.limits.max_message_bytes, head.encoding)
        window = self._initial_send_window
        kind = Stream if head.route.streaming else Partial
        stream = kind(stream_id, head, reader, deadline, window, self.limits.stream_window)
        self.streams[stream_id] = stream
        if isinstance(stream, Stream):
            self._events.append(StreamOpened(stream))
        if ended:
            self._end_of_stream(stream)

    def _on_trailers(self, stream_id: int, fields: list[Field], ended: bool) -> None:
        stream = self.streams.get(stream_id)
        if isinstance(stream, Partial) or (isinstance(stream, Stream) and stream.remote_open):
            if not ended or malformed_trailers(fields):
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "malformed trailers")
            self._end_of_stream(stream)
        elif stream_id in self._resets:
            self._spend_nuisance(1.0)
        elif stream is not None:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end of the stream")
        else:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")

    # -- data ----------------------------------------------------------------------------------------

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        framed = len(payload)
        self._owed += framed
        if self._owed > self._owed_limit:
            self._repay()
        if flags & Flag.PADDED:
            padding = payload[0] if payload else 0
            if padding >= framed:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
            payload = payload[1 : framed - padding]
        if len(payload) < 16 and not flags & Flag.END_STREAM:
            self._spend_nuisance(1.0)
        stream = self.streams.get(stream_id)
        if not isinstance(stream, Partial) and not (isinstance(stream, Stream) and stream.remote_open):
            self._stray_data(stream_id)
            return
        stream.recv_window -= framed
        if stream.recv_window < 0:
            raise StreamFault(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        stream.received += len(payload)
        expected = stream.head.content_length
        ended = bool(flags & Flag.END_STREAM)
        if expected is not None and stream.received > expected:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "more DATA than content-length")
        try:
            self._feed(stream, payload)
        except RpcError as error:
            self._refuse_message(stream, error, ended)
            return
        if self.buffered_bytes > self.limits.max_buffered_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too much unfinished input")
        if ended:
            self._end_of_stream(stream)
        elif not self.closed:
            self._grant(stream)

    def _stray_data(self, stream_id: int) -> None:
        if stream_id in self._resets:
            return
        if stream_id == 0 or stream_id > self.last_stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")
        raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "DATA after the end of the stream")

    def _feed(self, stream: Partial | Stream, payload: bytes) -> None:
        reader = stream.reader
        before = reader.pending
        try:
            messages = reader.feed(payload)
        finally:
            self.buffered_bytes += reader.pending - before
        if isinstance(stream, Partial):
            if messages and stream.message is None:
                stream.message = messages[0]
                self.buffered_bytes += len(messages[0])
            return
        if stream.finished:
            return
        for message in messages:
            self._hold(stream, message)
            self._events.append(MessageReceived(stream, message))

    def _refuse_message(self, stream: Partial | Stream, error: RpcError, ended: bool) -> None:
        """A message was refused by its prefix: the call ends with a status."""
        if isinstance(stream, Partial):
            if ended:
                self._settle(stream)
                del self.streams[stream.stream_id]
                self._headers(stream.stream_id, self._status(error.code, error.message, True), True)
            else:
                self._refuse(stream, self._status(error.code, error.message, initial=True))
            return
        if ended:
            stream.remote_open = False
        self.finish(stream, error.code, error.message)
        self._lost(stream)

    def _end_of_stream(self, stream: Partial | Stream) -> None:
        expected = stream.head.content_length
        if expected is not None and stream.received != expected:
            raise StreamFault(stream.stream_id, ErrorCode.PROTOCOL_ERROR, "less DATA than content-length")
        if isinstance(stream, Stream):
            self._drop_partial(stream)
            stream.remote_open = False
            if not stream.finished:
                self._events.append(HalfClosed(stream))
            return
        message = stream.message
        torn = stream.reader.pending > 0
        self._settle(stream)
        if message is None:
            del self.streams[stream.stream_id]
            block = self._status(Status.UNKNOWN, "unexpected EOF" if torn else "EOF", initial=True)
            self._headers(stream.stream_id, block, end_stream=True)
            self._spend_nuisance(1.0)
            return
        request = UnaryRequest(
            self, stream.stream_id, stream.head, message, stream.deadline, stream.send_window
        )
        self.streams[stream.stream_id] = request
        self._events.append(request)
