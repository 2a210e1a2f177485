"""The streams of a server connection and the events a driver gets of them.

A stream is in the connection's table as long as it is open: as ``Partial`` while a unary request arrives, as
``UnaryRequest`` while a handler has it, as ``Stream`` for a streaming call, as ``Outgoing`` when an answer
waits for the client's window. A unary request that arrives whole never is anything but a ``UnaryRequest``,
which is event, table entry and handle for the answer in one object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .grpc import MessageReader
from .http2_head import RequestHead

if TYPE_CHECKING:
    from .http2_send import Sender

__all__ = [
    "Event",
    "HalfClosed",
    "MessageReceived",
    "Outgoing",
    "Partial",
    "Stream",
    "StreamOpened",
    "StreamReset",
    "StreamWritable",
    "UnaryRequest",
]


class UnaryRequest:
    """A whole unary request: an event, and the handle for its answer (a ``net.server.call.UnaryCall``)."""

    __slots__ = ("_connection", "answered", "deadline", "head", "message", "send_window", "stream_id")

    def __init__(
        self,
        connection: Sender,
        stream_id: int,
        head: RequestHead,
        message: bytes,
        deadline: float | None,
        send_window: int,
    ) -> None:
        self._connection = connection
        self.stream_id = stream_id
        self.head = head
        #: The serialised request.
        self.message = message
        #: Monotonic time at which the client stops waiting; None: never.
        self.deadline = deadline
        self.send_window = send_window
        #: Answered, reset or cut off: further answers have no effect.
        self.answered = False

    @property
    def path(self) -> str:
        """The method, e.g. ``/etcdserverpb.KV/Put``."""
        return self.head.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Lower-case request metadata."""
        return self.head.metadata

    @property
    def client_common_name(self) -> str:
        """Whom the client's certificate names; empty when there is none."""
        return getattr(self._connection.owner, "client_common_name", "")

    def reply(self, message: bytes) -> None:
        """Answer with a serialised response; without effect once answered or when the client has gone."""
        if not self.answered:
            self._connection.reply_unary(self, message)

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        """As ``reply`` with the pieces of a long response."""
        if not self.answered:
            self._connection.reply_unary_in_parts(self, parts)

    def fail(self, code: int, message: str) -> None:
        """Answer with a gRPC status 1..16; without effect once answered or when the client has gone."""
        if not self.answered:
            self._connection.fail_unary(self, code, message)


class Partial:
    """A unary request of which more than one DATA frame is needed."""

    __slots__ = (
        "deadline",
        "head",
        "message",
        "reader",
        "received",
        "recv_window",
        "send_window",
        "stream_id",
    )

    def __init__(
        self,
        stream_id: int,
        head: RequestHead,
        reader: MessageReader,
        deadline: float | None,
        send_window: int,
        recv_window: int,
    ) -> None:
        self.stream_id = stream_id
        self.head = head
        self.reader = reader
        self.deadline = deadline
        self.send_window = send_window
        self.recv_window = recv_window
        self.received = 0  # payload bytes, to be compared with content-length
        self.message: bytes | None = None  # the first message; any further one is ignored, as grpc-go does


class Outgoing:
    """The sending half of a stream: chunks that wait for the client's windows, and what ends them."""

    __slots__ = ("chunks", "deadline", "queued", "remote_open", "send_window", "stream_id", "trailers")

    def __init__(self, stream_id: int, send_window: int) -> None:
        self.stream_id = stream_id
        self.send_window = send_window
        self.chunks: deque[memoryview] = deque()
        self.queued = 0  # bytes in ``chunks``
        self.trailers: bytes | None = None  # header block to send after the chunks; None: more may come
        self.remote_open = False  # the client may still send: reset the stream after the trailers
        self.deadline: float | None = None


class Stream(Outgoing):
    """A streaming call, both directions."""

    __slots__ = (
        "context",
        "finished",
        "head",
        "headers_sent",
        "reader",
        "received",
        "recv_window",
        "starved",
        "unread",
    )

    def __init__(
        self,
        stream_id: int,
        head: RequestHead,
        reader: MessageReader,
        deadline: float | None,
        send_window: int,
        recv_window: int,
    ) -> None:
        super().__init__(stream_id, send_window)
        self.head = head
        self.reader = reader
        self.deadline = deadline
        self.recv_window = recv_window
        self.remote_open = True
        self.received = 0
        self.unread = 0  # cost of complete messages that the driver has not consumed yet
        self.headers_sent = False
        self.finished = False  # a status was given, or the stream is gone
        self.starved = False  # the driver waits for StreamWritable
        self.context: Any = None  # the driver's own


class StreamOpened(msgspec.Struct, frozen=True):
    """A streaming call begins; ``stream.head.route`` says where it goes."""

    stream: Stream


class MessageReceived(msgspec.Struct, frozen=True):
    """One message of a streaming call; call ``consumed`` when the handler has taken it."""

    stream: Stream
    message: bytes


class HalfClosed(msgspec.Struct, frozen=True):
    """The client of a streaming call will send no more."""

    stream: Stream


class StreamReset(msgspec.Struct, frozen=True):
    """A streaming call is gone: cancelled by the client, or refused by the protocol."""

    stream: Stream


class StreamWritable(msgspec.Struct, frozen=True):
    """All that a starved stream had queued has left."""

    stream: Stream


Event: TypeAlias = UnaryRequest | StreamOpened | MessageReceived | HalfClosed | StreamReset | StreamWritable
