"""The transport between members: Raft messages and calls, framed over TCP, one connection each way.

Every member dials every other one and sends on the connection it dialled; what it accepts it only reads
(``peer_server``: it answers calls and pings there). Sending never waits: without a connection, or with
too much waiting on it, messages are dropped, which Raft repairs. A connection on which nothing was heard
for a while is closed by either end, so that half-open ones do not linger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import trio

from tercet.core import rpc_errors
from tercet.core.raft.types import Message
from tercet.core.rpc_errors import RpcRejected, RpcUnknown, Status
from tercet.core.wire.peer import (
    FORMAT_VERSION,
    FRAME_BYTES_MAX,
    MAGIC,
    Answer,
    Call,
    FrameDecoder,
    Hello,
    PeerProtocolError,
    Ping,
    Pong,
    Refusal,
    Welcome,
    encode,
    encode_batches,
)

from .channel import PENDING_BYTES_MAX, Channel, Identity, read_frames, until_error
from .world import Connection, World

__all__ = ["Peer", "Peers", "split_url"]

CONNECT_SECONDS: Final = 5.0
HELLO_SECONDS: Final = 5.0
PING_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 3.0  # heard nothing for so long: dial again
BACKOFF_FIRST: Final = 0.05
BACKOFF_LAST: Final = 1.0


def split_url(url: str) -> tuple[str, int]:
    """``http://host:port`` as (host, port); the host without IPv6 brackets. ``ValueError`` when it is not."""
    scheme, found, rest = url.partition("://")
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not found or scheme not in ("http", "https") or not colon or not port.isdigit():
        raise ValueError(f"need http://host:port, got {url!r}")
    return host.strip("[]"), int(port)


class Peer:
    """Another member as we dial it: its connection when there is one, and the calls under way on it."""

    def __init__(self, member_id: int, urls: tuple[str, ...]) -> None:
        self.member_id = member_id
        self.urls = urls
        self.channel: Channel | None = None
        self.heard_at = 0.0
        self.sent_bytes = 0  # of messages, since the start
        self.calls: dict[int, _PendingCall] = {}
        self._attempt = 0

    def next_address(self) -> tuple[str, int]:
        """The address to try next; the URLs take turns."""
        url = self.urls[self._attempt % len(self.urls)]
        self._attempt += 1
        return split_url(url)

    def fail_calls(self) -> None:
        """The connection is gone: whether the calls on it happened is unknown."""
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.finish(None)


class _PendingCall:
    """One call under way; ``answer`` None: the connection was lost."""

    __slots__ = ("answer", "finished")

    def __init__(self) -> None:
        self.finished = trio.Event()
        self.answer: Answer | None = None

    def finish(self, answer: Answer | None) -> None:
        self.answer = answer
        self.finished.set()


class Peers:
    """All peers of one member, as it dials them."""

    def __init__(self, world: World, identity: Identity, peer_urls: Mapping[int, tuple[str, ...]]) -> None:
        self._world = world
        self._identity = identity
        self.peers = {i: Peer(i, urls) for i, urls in sorted(peer_urls.items()) if i != identity.member_id}
        self._call_number = 0

    # Sending.

    def send(self, messages: list[Message]) -> list[Message]:
        """Send to each peer what is for it, one write per peer; what cannot leave at all is returned."""
        by_peer: dict[int, list[Message]] = {}
        for message in messages:
            to = message.to
            if to in by_peer:
                by_peer[to].append(message)
            else:
                by_peer[to] = [message]
        unsent: list[Message] = []
        for to, batch in by_peer.items():
            peer = self.peers.get(to)
            data = b"" if peer is None or peer.channel is None else encode_batches(batch)
            if peer is not None and peer.channel is not None and peer.channel.send(data):
                peer.sent_bytes += len(data)
            else:
                self._world.probe.count("etcd_network_peer_sent_failures_total", len(batch), To=f"{to:x}")
                unsent += batch
        return unsent

    async def call(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        """Ask another member; its answer within ``timeout`` seconds, or ``RpcError``."""
        peer = self.peers.get(member_id)
        if peer is None or peer.channel is None:
            raise rpc_errors.NO_LEADER.with_traceback(None)
        self._call_number += 1
        number = self._call_number
        pending = peer.calls[number] = _PendingCall()
        if not peer.channel.send(encode(Call(number, method, payload))):
            del peer.calls[number]
            raise rpc_errors.NO_LEADER.with_traceback(None)
        with self._world.clock.timeout(timeout):
            await pending.finished.wait()
        peer.calls.pop(number, None)
        answer = pending.answer
        if answer is None:
            raise rpc_errors.TIMEOUT.with_traceback(None)
        if answer.code:
            raise (RpcRejected if answer.definite else RpcUnknown)(Status(answer.code), answer.text)
        return answer.payload

    # Dialling.

    async def run(self) -> None:
        """Keep a connection to every peer, until cancelled."""
        async with trio.open_nursery() as nursery:
            for peer in self.peers.values():
                nursery.start_soon(self._keep_dialled, peer)

    async def _keep_dialled(self, peer: Peer) -> None:
        clock = self._world.clock
        chance = self._world.rng.stream("peers")
        backoff = BACKOFF_FIRST
        while True:
            host, port = peer.next_address()
            reason = "timed out"
            try:
                connection: Connection | None = None
                with clock.timeout(CONNECT_SECONDS):
                    connection = await self._world.net.connect(host, port)
                if connection is not None:
                    try:
                        await self._dialled(peer, connection)
                    finally:
                        peer.channel = None
                        connection.close()
                        peer.fail_calls()
                    backoff = BACKOFF_FIRST
                    reason = "closed"
            except (OSError, trio.ClosedResourceError) as error:
                reason = str(error) or type(error).__name__
            except PeerProtocolError as error:
                backoff, reason = BACKOFF_LAST, str(error)
                self._log("warn", "peer refused the connection", peer, reason)
            self._log("debug", "no connection to peer", peer, reason)
            await clock.sleep(backoff * (0.5 + chance.random() / 2))
            backoff = min(backoff * 2, BACKOFF_LAST)

    def _log(self, level: str, what: str, peer: Peer, error: str = "") -> None:
        fields = {"error": error} if error else {}
        self._world.probe.log(level, what, peer=f"{peer.member_id:x}", **fields)

    async def _dialled(self, peer: Peer, connection: Connection) -> None:
        """Speak on a connection we dialled, until it fails or falls silent."""
        clock = self._world.clock
        mine = self._identity
        hello = Hello(FORMAT_VERSION, mine.cluster_id, mine.member_id, peer.member_id)
        decoder = FrameDecoder()
        with clock.timeout(HELLO_SECONDS) as scope:
            await connection.send_all(MAGIC + encode(hello))
            frames = await read_frames(connection, decoder)
        if scope.cancelled_caught or not frames:
            return
        first = frames[0]
        if isinstance(first, Refusal):
            raise PeerProtocolError(first.reason)
        if not isinstance(first, Welcome) or first.sender != peer.member_id:
            raise PeerProtocolError("expected a welcome of the member that was dialled")
        decoder.bytes_max = FRAME_BYTES_MAX
        channel = Channel(connection, PENDING_BYTES_MAX)
        peer.heard_at = clock.monotonic()
        peer.channel = channel
        self._log("info", "established connection to peer", peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_error, channel.write_rest, nursery.cancel_scope)
            nursery.start_soon(self._ping, peer, channel, nursery.cancel_scope)
            try:
                await self._read_answers(peer, connection, decoder)
            except (OSError, trio.ClosedResourceError):
                pass
            except PeerProtocolError as error:
                self._log("warn", "peer broke the protocol", peer, str(error))
            nursery.cancel_scope.cancel()
        self._log("info", "lost connection to peer", peer)

    async def _read_answers(self, peer: Peer, connection: Connection, decoder: FrameDecoder) -> None:
        while frames := await read_frames(connection, decoder):
            peer.heard_at = self._world.clock.monotonic()
            for frame in frames:
                if isinstance(frame, Answer):
                    call = peer.calls.pop(frame.number, None)
                    if call is not None:
                        call.finish(frame)
                elif not isinstance(frame, Pong):
                    raise PeerProtocolError(f"unexpected {type(frame).__name__} from the dialled member")

    async def _ping(self, peer: Peer, channel: Channel, scope: trio.CancelScope) -> None:
        clock = self._world.clock
        ping = encode(Ping())
        while True:
            channel.send(ping)
            await clock.sleep(PING_SECONDS)
            if clock.monotonic() - peer.heard_at > SILENCE_SECONDS:
                scope.cancel()
                return
