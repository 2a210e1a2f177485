"""The accepting half of the peer port: who may speak to us, and what a connection may make us hold.

A connection introduces itself with ``Hello`` within five seconds, or it is an HTTP request and goes to the
handler for those. Strangers, other clusters and damaged frames are refused with a reason where the other
end can understand one, and the connection is closed. A member that dials again may still have something
under way on its earlier connection, a forwarded proposal that nobody repeats; and who speaks in its name need
not be it. So an earlier connection is heard until it ends, falls silent, or too many others spoke since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import trio
from google.protobuf.message import DecodeError

from tercet.core import rpc_errors
from tercet.core.raft.types import AppendRequest, Message, ProposeRequest, SnapshotRequest, decode_conf_change
from tercet.core.rpc_errors import RpcError, RpcRejected
from tercet.core.wire.peer import (
    FORMAT_VERSION,
    FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    MAGIC,
    Answer,
    Batch,
    Call,
    Frame,
    FrameDecoder,
    Hello,
    PeerProtocolError,
    Ping,
    Pong,
    Refusal,
    Welcome,
    encode,
)

from .channel import PENDING_BYTES_MAX, Channel, Identity, read_frames, until_error
from .loop_ports import COMMAND_HEADER
from .world import Connection, World

__all__ = ["PeerServer"]

CALLS_MAX: Final = 256  # under way from one peer
CONNECTIONS_MAX: Final = 256  # accepted at once, strangers included
MEMBER_CONNECTIONS_MAX: Final = 4  # on which one member has spoken
HELLO_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 10.0  # heard nothing for so long: close

#: Serves an HTTP request on the peer port; the bytes already read come with it.
HttpHandler = Callable[[Connection, bytes], Awaitable[None]]
CallHandler = Callable[[str, bytes], Awaitable[bytes]]
#: Whether a sender with these URLs may speak to us: None, or why not.
Admission = Callable[[int, "tuple[str, ...]"], "Refusal | None"]
#: Serves a connection on which a member sends us a snapshot; raises ``PeerProtocolError``.
SnapshotHandler = Callable[[int, Connection, FrameDecoder], Awaitable[None]]


class PeerServer:
    """Serves what peers dial: ``deliver`` takes messages, ``answer`` answers calls or raises ``RpcError``."""

    def __init__(
        self,
        world: World,
        identity: Identity,
        *,
        admit: Admission,
        deliver: Callable[[tuple[Message, ...]], None],
        answer: CallHandler,
        http_handler: HttpHandler | None = None,
        snapshot_handler: SnapshotHandler | None = None,
    ) -> None:
        self._world = world
        self._identity = identity
        self._may = admit
        self._snapshot_handler = snapshot_handler
        self._deliver = deliver
        self._answer = answer
        self._http_handler = http_handler
        self._accepted: dict[int, list[Connection]] = {}  # by member; which spoke last comes last
        self._accepted_count = 0
        self.received_bytes: dict[int, int] = {}  # by sender, once it has spoken

    async def serve(self, connection: Connection) -> None:
        """Serve one accepted connection until it ends; never raises for what the other end does."""
        if self._accepted_count >= CONNECTIONS_MAX:
            connection.close()
            return
        self._accepted_count += 1
        try:
            await self._serve(connection)
        except PeerProtocolError as error:
            self._log("closing a peer connection", connection, str(error))
        except (OSError, trio.ClosedResourceError):
            pass
        finally:
            self._accepted_count -= 1
            connection.close()

    def _log(self, what: str, connection: Connection, reason: str) -> None:
        self._world.probe.log("warn", what, remote=connection.remote, error=reason)

    async def _serve(self, connection: Connection) -> None:
        clock = self._world.clock
        first = b""
        decoder = FrameDecoder()
        frames: list[Frame] = []
        with clock.timeout(HELLO_SECONDS) as scope:
            while len(first) < len(MAGIC) and MAGIC.startswith(first):
                data = await connection.receive(HELLO_BYTES_MAX)
                if not data:
                    return
                first += data
            if first.startswith(MAGIC):
                frames = decoder.feed(first[len(MAGIC) :])
                if not frames:
                    frames = await read_frames(connection, decoder)
        if scope.cancelled_caught:
            return
        if not first.startswith(MAGIC):
            if self._http_handler is not None and first[:1].isalpha():
                await self._http_handler(connection, first)
            return
        if not frames:
            return
        hello = await self._admit(connection, frames)
        if hello is None:
            return
        if not hello.snapshot:
            await self._accepted_peer(hello.sender, connection, decoder)
        elif self._snapshot_handler is not None:
            decoder.bytes_max = FRAME_BYTES_MAX
            await self._snapshot_handler(hello.sender, connection, decoder)

    def let_go(self, member_id: int) -> None:
        """Close what a member has opened: it is none any more. When it dials again it is told."""
        for connection in self._accepted.pop(member_id, ()):
            connection.close()

    async def _admit(self, connection: Connection, frames: list[Frame]) -> Hello | None:
        """Check a hello; None after a refusal."""
        hello = frames[0]
        if not isinstance(hello, Hello) or len(frames) != 1:
            raise PeerProtocolError("expected one hello")
        mine = self._identity
        reason, refusal = "", None
        if hello.format_version != FORMAT_VERSION:
            reason = f"format version {hello.format_version} is not spoken here, only {FORMAT_VERSION}"
        elif hello.cluster_id != mine.cluster_id:
            reason = f"cluster ID mismatch: got {hello.cluster_id:x}, this is {mine.cluster_id:x}"
        elif hello.to != mine.member_id:
            reason = f"member ID mismatch: dialled {hello.to:x}, this is {mine.member_id:x}"
        else:
            refusal = self._may(hello.sender, hello.peer_urls)
        if reason:
            refusal = Refusal(reason)
        if refusal is not None:
            self._log("refused a peer", connection, refusal.reason)
            await connection.send_all(encode(refusal))
            return None
        await connection.send_all(encode(Welcome(mine.member_id)))
        return hello

    async def _accepted_peer(self, sender: int, connection: Connection, decoder: FrameDecoder) -> None:
        decoder.bytes_max = FRAME_BYTES_MAX
        channel = Channel(connection, PENDING_BYTES_MAX)
        heard = _Heard()
        broken: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_error, channel.write_rest, nursery.cancel_scope)
                nursery.start_soon(self._close_when_silent, heard, nursery.cancel_scope)
                calls = _Calls(self._answer, channel, nursery)
                try:
                    counted = decoder.fed_bytes
                    while frames := await read_frames(connection, decoder):
                        heard.something = True
                        fed = decoder.fed_bytes
                        self.received_bytes[sender] = self.received_bytes.get(sender, 0) + fed - counted
                        counted = fed
                        for frame in frames:
                            self._take(frame, sender, channel, calls)
                        self._note_spoken(sender, connection)
                except (OSError, trio.ClosedResourceError, PeerProtocolError) as error:
                    broken = error  # raised below: inside the nursery it would become a group
                nursery.cancel_scope.cancel()
        finally:
            self._forget(sender, connection)
        if broken is not None:
            raise broken

    def _note_spoken(self, sender: int, connection: Connection) -> None:
        """A member spoke on this connection. A greeting alone does not count: anybody can repeat it."""
        spoken = self._accepted.setdefault(sender, [])
        if spoken[-1:] != [connection]:
            if connection in spoken:
                spoken.remove(connection)
            spoken.append(connection)
            if len(spoken) > MEMBER_CONNECTIONS_MAX:
                spoken.pop(0).close()

    def _forget(self, sender: int, connection: Connection) -> None:
        spoken = self._accepted.get(sender, [])
        if connection in spoken:
            spoken.remove(connection)
            if not spoken:
                del self._accepted[sender]

    def _take(self, frame: Frame, sender: int, channel: Channel, calls: _Calls) -> None:
        if isinstance(frame, Batch):
            me = self._identity.member_id
            for message in frame.messages:
                if message.sender != sender or message.to != me:
                    raise PeerProtocolError("a message with another sender or receiver than its connection")
                if not _plausible(message):
                    raise PeerProtocolError(f"a {type(message).__name__} that no member sends")
            self._deliver(frame.messages)
        elif isinstance(frame, Ping):
            channel.send(encode(Pong()))
        elif isinstance(frame, Call):
            calls.start(frame)
        else:
            raise PeerProtocolError(f"unexpected {type(frame).__name__} from the dialling member")

    async def _close_when_silent(self, heard: _Heard, scope: trio.CancelScope) -> None:
        while True:
            heard.something = False
            await self._world.clock.sleep(SILENCE_SECONDS)
            if not heard.something:
                scope.cancel()
                return


class _Heard:
    """Whether anything was received since the last look."""

    __slots__ = ("something",)

    def __init__(self) -> None:
        self.something = True


class _Calls:
    """Answers the calls of one connection, a task each, a bounded number at once."""

    def __init__(self, handler: CallHandler, channel: Channel, nursery: trio.Nursery) -> None:
        self._handler = handler
        self._channel = channel
        self._nursery = nursery
        self._running = 0

    def start(self, call: Call) -> None:
        if self._running >= CALLS_MAX:
            self._channel.send(encode(_refusal(call.number, rpc_errors.TOO_MANY_REQUESTS)))
            return
        self._running += 1
        self._nursery.start_soon(self._run, call)

    async def _run(self, call: Call) -> None:
        try:
            payload = await self._handler(call.method, call.payload)
            answer = Answer(call.number, 0, "", payload)
        except RpcError as error:
            answer = _refusal(call.number, error)
        except DecodeError:
            answer = _refusal(call.number, rpc_errors.undecodable(f"request of {call.method}"))
        finally:
            self._running -= 1
        self._channel.send(encode(answer))


def _plausible(message: Message) -> bool:
    """Whether what has the shape of a message could be one: the core and the log must not meet what is not.

    An entry too short to be a command, or a change that is none, would stop every member that applies it.
    """
    if isinstance(message, AppendRequest):
        entries, first = message.entries, message.prev_log_index + 1
        terms = [message.prev_log_term, *(entry.term for entry in entries), message.term]
        return not entries or (
            [entry.index for entry in entries] == [*range(first, first + len(entries))]
            and terms == sorted(terms)  # in a log terms never fall, and its leader is of none before them
        )
    if isinstance(message, ProposeRequest):
        shortest = min(map(len, message.entries), default=COMMAND_HEADER.size)
        return shortest >= COMMAND_HEADER.size and all(map(_is_change, message.conf_changes))
    return not isinstance(message, SnapshotRequest)  # those come with their data, on another connection


def _is_change(data: bytes) -> bool:
    try:
        change = decode_conf_change(data)
    except msgspec.MsgspecError:
        return False
    return not change.context or len(change.context) >= COMMAND_HEADER.size


def _refusal(number: int, error: RpcError) -> Answer:
    return Answer(number, int(error.code), error.message, b"", isinstance(error, RpcRejected))
