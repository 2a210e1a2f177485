"""The transport between members: Raft messages and calls, framed over TCP, one connection each way.

Every member dials every other one and sends on the connection it dialled; what it accepts it only reads
(``peer_server``: it answers calls and pings there). Sending never waits: without a connection, or with
too much waiting on it, messages are dropped, which Raft repairs. A connection on which nothing was heard
for a while is closed by either end, so that half-open ones do not linger.

Who is dialled follows the cluster's members (``follow``). A member that we have not heard of yet may dial us:
it was added, and we have not applied that. It is dialled back at the URLs it names (``meet``), or a member
that lags could never catch up from a leader that is new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
from .dial import Dialer
from .world import Connection, World

__all__ = ["Peer", "Peers"]

CONNECT_SECONDS: Final = 5.0
HELLO_SECONDS: Final = 5.0
PING_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 3.0  # heard nothing for so long: dial again
BACKOFF_FIRST: Final = 0.05
BACKOFF_LAST: Final = 1.0
#: How many that are no members, as far as we know, are dialled back at once.
STRANGERS_MAX: Final = 16
#: Bytes of our own URLs in a hello, which is short.
OWN_URLS_BYTES_MAX: Final = 600


class Peer:
    """Another member as we dial it: its connection when there is one, and the calls under way on it."""

    def __init__(self, member_id: int, urls: tuple[str, ...]) -> None:
        self.member_id = member_id
        self.urls = urls
        self.channel: Channel | None = None
        self.connected_since: float | None = None  # monotonic seconds; None: there is no connection now
        self.scope = trio.CancelScope()  # of the task that dials it
        self.stranger = False  # not known as a member
        self.heard_at = 0.0
        self.pinged_at: float | None = None  # when the ping went out whose answer we wait for
        self.sent_bytes = 0  # of messages, since the start
        self.calls: dict[int, _PendingCall] = {}
        self._attempt = 0

    def next_url(self) -> str:
        """The URL to try next; they take turns. Without any there is none, and dialling it fails."""
        if not self.urls:
            return ""
        url = self.urls[self._attempt % len(self.urls)]
        self._attempt += 1
        return url

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


def _nobody(member_id: int) -> None:
    """Stand in for ``on_lost``."""


def _nothing() -> None:
    """Stand in for ``on_removed``."""


class Peers:
    """All peers of one member, as it dials them.

    Args:
        peer_urls: whom to dial at first, by id; ourselves left out.
        own_urls: told to whom we dial.
        dialer: how to reach a URL; None: without certificates of our own.
    """

    def __init__(
        self,
        world: World,
        identity: Identity,
        peer_urls: Mapping[int, tuple[str, ...]],
        own_urls: tuple[str, ...] = (),
        dialer: Dialer | None = None,
    ) -> None:
        self._world = world
        self._dialer = dialer or Dialer(world)
        self._identity = identity
        self._own_urls = own_urls if sum(map(len, own_urls)) <= OWN_URLS_BYTES_MAX else ()
        self.peers: dict[int, Peer] = {}
        #: Called with the member's id when the connection to it was lost.
        self.on_lost: Callable[[int], None] = _nobody
        #: Called when a peer says that we are no member any more.
        self.on_removed: Callable[[], None] = _nothing
        self._nursery: trio.Nursery | None = None
        self._call_number = 0
        self.follow(peer_urls)

    @property
    def own_id(self) -> int:
        """Whose peers these are."""
        return self._identity.member_id

    # Who is dialled.

    def follow(self, peer_urls: Mapping[int, tuple[str, ...]], removed: Collection[int] = ()) -> None:
        """Dial these members from now on, at these URLs; let go of who is a member no more.

        Args:
            removed: who will never be a member again, strangers included.
        """
        for member_id, peer in list(self.peers.items()):
            if member_id not in peer_urls and (not peer.stranger or member_id in removed):
                del self.peers[member_id]
                peer.scope.cancel()
        for member_id, urls in sorted(peer_urls.items()):
            if member_id == self._identity.member_id:
                continue
            known = self.peers.get(member_id)
            if known is None:
                self._add(member_id, urls)
            else:
                known.urls, known.stranger = urls, False

    def meet(self, member_id: int, urls: tuple[str, ...]) -> bool:
        """Dial somebody back who says to be a member; False when there are too many of those."""
        if sum(peer.stranger for peer in self.peers.values()) >= STRANGERS_MAX:
            return False
        self._add(member_id, urls).stranger = True
        return True

    def connected_since(self, member_id: int) -> float | None:
        """Monotonic seconds since when there has been a connection to that member; None: there is none."""
        peer = self.peers.get(member_id)
        return None if peer is None else peer.connected_since

    def _add(self, member_id: int, urls: tuple[str, ...]) -> Peer:
        peer = self.peers[member_id] = Peer(member_id, urls)
        if self._nursery is not None:
            self._nursery.start_soon(self._dial_until_let_go, peer)
        return peer

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
                nursery.start_soon(self._dial_until_let_go, peer)
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _dial_until_let_go(self, peer: Peer) -> None:
        with peer.scope:
            await self._keep_dialled(peer)

    async def _keep_dialled(self, peer: Peer) -> None:
        clock = self._world.clock
        chance = self._world.rng.stream("peers")
        backoff = BACKOFF_FIRST
        while True:
            reason = "timed out"
            try:
                connection: Connection | None = None
                with clock.timeout(CONNECT_SECONDS):
                    connection = await self._dialer.dial(peer.next_url())
                if connection is not None:
                    try:
                        await self._dialled(peer, connection)
                    finally:
                        lost, peer.channel = peer.channel is not None, None
                        peer.connected_since = None
                        connection.close()
                        peer.fail_calls()
                        if lost:
                            self._count_lost(peer)
                            self.on_lost(peer.member_id)
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

    def _count_lost(self, peer: Peer) -> None:
        ends = {"Local": f"{self.own_id:x}", "Remote": f"{peer.member_id:x}"}
        self._world.probe.count("etcd_network_disconnected_peers_total", **ends)

    def _log(self, level: str, what: str, peer: Peer, error: str = "") -> None:
        fields = {"error": error} if error else {}
        self._world.probe.log(level, what, peer=f"{peer.member_id:x}", **fields)

    async def _greet(
        self, peer: Peer, connection: Connection, *, snapshot: bool = False
    ) -> FrameDecoder | None:
        """Introduce ourselves on a connection we dialled; None when nobody answers in time."""
        mine = self._identity
        hello = Hello(
            FORMAT_VERSION, mine.cluster_id, mine.member_id, peer.member_id, self._own_urls, snapshot
        )
        decoder = FrameDecoder()
        with self._world.clock.timeout(HELLO_SECONDS) as scope:
            await connection.send_all(MAGIC + encode(hello))
            frames = await read_frames(connection, decoder)
        if scope.cancelled_caught or not frames:
            return None
        first = frames[0]
        if isinstance(first, Refusal):
            if first.removed:
                self.on_removed()
            raise PeerProtocolError(first.reason)
        if not isinstance(first, Welcome) or first.sender != peer.member_id:
            raise PeerProtocolError("expected a welcome of the member that was dialled")
        decoder.bytes_max = FRAME_BYTES_MAX
        return decoder

    async def open_for_snapshot(self, member_id: int) -> tuple[Connection, FrameDecoder]:
        """A connection of its own to a member, over which a snapshot can be sent; the caller closes it.

        Raises:
            OSError: there is no such member, or it cannot be reached or does not answer in time.
            PeerProtocolError: it refuses us.
        """
        peer = self.peers.get(member_id)
        if peer is None:
            raise ConnectionAbortedError(f"member {member_id:x} is not known")
        connection: Connection | None = None
        with self._world.clock.timeout(CONNECT_SECONDS):
            connection = await self._dialer.dial(peer.next_url())
        if connection is None:
            raise ConnectionAbortedError("timed out")
        try:
            decoder = await self._greet(peer, connection, snapshot=True)
            if decoder is None:
                raise ConnectionAbortedError("no answer to the hello")
        except BaseException:
            connection.close()
            raise
        return connection, decoder

    async def _dialled(self, peer: Peer, connection: Connection) -> None:
        """Speak on a connection we dialled, until it fails or falls silent."""
        clock = self._world.clock
        decoder = await self._greet(peer, connection)
        if decoder is None:
            return
        channel = Channel(connection, PENDING_BYTES_MAX)
        peer.heard_at = clock.monotonic()
        peer.channel, peer.connected_since = channel, clock.monotonic()
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
                elif isinstance(frame, Pong):
                    self._note_round_trip(peer)
                else:
                    raise PeerProtocolError(f"unexpected {type(frame).__name__} from the dialled member")

    def _note_round_trip(self, peer: Peer) -> None:
        started, peer.pinged_at = peer.pinged_at, None
        if started is not None:
            self._world.probe.observe(
                "etcd_network_peer_round_trip_time_seconds", peer.heard_at - started, To=f"{peer.member_id:x}"
            )

    async def _ping(self, peer: Peer, channel: Channel, scope: trio.CancelScope) -> None:
        clock = self._world.clock
        ping = encode(Ping())
        while True:
            channel.send(ping)
            peer.pinged_at = clock.monotonic()
            await clock.sleep(PING_SECONDS)
            if clock.monotonic() - peer.heard_at > SILENCE_SECONDS:
                scope.cancel()
                return
