"""Sending a snapshot to a member whose log is too far behind (figure 13 of the paper).

The state is read from a view that later commits do not change, row by row, so that no more of it is in
memory than what the receiver has not acknowledged. When the connection is cut the sending goes on on a new
one: the receiver tells how many chunks it holds, and what it lacks is either still in that window or not yet
read. One snapshot at a time goes to a member, few at once to all, and none faster than a bound, so that the
cluster's heartbeats and writes go on beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Final, Protocol

import trio
from msgspec.structs import replace

from tercet.core.raft.types import SnapshotMeta, SnapshotRequest, SnapshotSent
from tercet.core.wire.peer import (
    FrameDecoder,
    PeerProtocolError,
    Row,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotHeld,
    SnapshotOffer,
    SnapshotTaken,
    encode,
    rows_checksum,
)

from .channel import read_frames
from .tasks import Tasks
from .world import BackendView, Connection, World

__all__ = ["OpenView", "SnapshotSender"]

#: About what one chunk carries.
CHUNK_BYTES: Final = 256 << 10
#: Chunks sent and not acknowledged, which are kept in memory.
WINDOW_CHUNKS: Final = 16
#: Snapshots under way at once; the others wait.
SENDINGS_MAX: Final = 2
#: Bytes a second of one snapshot, so that everything else has room.
BYTES_PER_SECOND: Final = 64 << 20
#: Connections in a row without a new chunk taken, after which sending is given up.
ATTEMPTS_MAX: Final = 5
RETRY_SECONDS: Final = 0.2
#: How long the receiver may say nothing at all.
SILENCE_SECONDS: Final = 10.0
#: How long it may take to check and store the last of it.
VERDICT_SECONDS: Final = 120.0

#: A durable state and what it stands for.
OpenView = Callable[[], "tuple[SnapshotMeta, BackendView]"]


class Dialling(Protocol):
    """What sending needs of ``net.peers.Peers``."""

    async def open_for_snapshot(self, member_id: int) -> tuple[Connection, FrameDecoder]: ...


class SnapshotSender:
    """Sends snapshots on a leader's request, and reports how each ended.

    Args:
        open_view: the newest durable state.
        report: told the end of each sending.
    """

    def __init__(
        self, world: World, peers: Dialling, open_view: OpenView, report: Callable[[SnapshotSent], None]
    ) -> None:
        self._world = world
        self._peers = peers
        self._open_view = open_view
        self._report = report
        self._ids = world.rng.stream("snapshot")
        self._tasks = Tasks()
        self._limit = trio.CapacityLimiter(SENDINGS_MAX)
        self._sending: dict[int, None] = {}

    async def run(self) -> None:
        """Must run while snapshots are asked for; until cancelled."""
        await self._tasks.run()

    def send(self, request: SnapshotRequest) -> None:
        """Begin to send; a sending to the same member that is under way goes on instead."""
        nursery = self._tasks.nursery
        if nursery is None:
            self._report(SnapshotSent(request.to, False))
        elif request.to not in self._sending:
            self._sending[request.to] = None
            nursery.start_soon(self._send, request)

    async def _send(self, request: SnapshotRequest) -> None:
        probe, clock, to = self._world.probe, self._world.clock, f"{request.to:x}"
        ok = False
        try:
            async with self._limit:
                started = clock.monotonic()
                number = self._ids.getrandbits(63)
                sending = _Sending(self._world, self._peers, request, self._open_view(), number)
                index = sending.offer.request.meta.index
                probe.log("info", "sending database snapshot", to=to, index=index)
                try:
                    ok = await sending.run()
                finally:
                    sending.close()
                taken = clock.monotonic() - started
                if ok:
                    probe.count("etcd_network_snapshot_send_success", To=to)
                    probe.observe("etcd_network_snapshot_send_total_duration_seconds", taken, To=to)
                    probe.log("info", "sent database snapshot", to=to, bytes=sending.bytes, seconds=taken)
        except OSError as problem:  # of the view: of connections it is dealt with inside
            probe.log("warn", "cannot read the snapshot to be sent", to=to, error=str(problem))
        finally:
            del self._sending[request.to]
            if not ok:
                probe.count("etcd_network_snapshot_send_failures", To=to)
            self._report(SnapshotSent(request.to, ok))


class _Sending:
    """One snapshot on its way to one member, over as many connections as it takes."""

    def __init__(
        self,
        world: World,
        peers: Dialling,
        request: SnapshotRequest,
        source: tuple[SnapshotMeta, BackendView],
        snapshot_id: int,
    ) -> None:
        meta, self._view = source
        self._clock = world.clock
        self._probe = world.probe
        self._peers = peers
        self._to = request.to
        self.offer = SnapshotOffer(snapshot_id, replace(request, meta=meta))
        self.bytes = 0  # of keys and values, read so far
        self._begin_reading()

    def _begin_reading(self) -> None:
        self._chunks = self._read_chunks()
        self._window: deque[SnapshotChunk] = deque()  # read, and not known to be held
        self._next = 0  # the chunk to be read next
        self._checksum = 0
        self._at_end = False

    def close(self) -> None:
        """Let the view go."""
        self._chunks.close()
        self._view.close()

    async def run(self) -> bool:
        """Whether the receiver has taken all of it."""
        attempts, held_before = 0, 0
        while attempts < ATTEMPTS_MAX:
            try:
                connection, decoder = await self._peers.open_for_snapshot(self._to)
                try:
                    return await self._over(connection, decoder)
                finally:
                    connection.close()
            except (OSError, trio.ClosedResourceError, PeerProtocolError) as problem:
                self._probe.log(
                    "warn", "sending a snapshot was interrupted", to=f"{self._to:x}", error=str(problem)
                )
            held = self._next - len(self._window)
            attempts = 1 if held > held_before else attempts + 1
            held_before = held
            await self._clock.sleep(RETRY_SECONDS * attempts)
        return False

    async def _over(self, connection: Connection, decoder: FrameDecoder) -> bool:
        """Send what the receiver lacks over this connection. Raises when it fails."""
        await connection.send_all(encode(self.offer))
        self._resume(await self._held(connection, decoder))
        for waiting in list(self._window):
            await connection.send_all(encode(waiting))
        started, sent = self._clock.monotonic(), 0
        while not self._at_end:
            while len(self._window) >= WINDOW_CHUNKS:
                self._acknowledge(await self._held(connection, decoder))
            chunk = next(self._chunks, None)
            if chunk is None:
                self._at_end = True
                break
            self._window.append(chunk)
            self._next = chunk.number + 1
            data = encode(chunk)
            await connection.send_all(data)
            sent += len(data)
            early = sent / BYTES_PER_SECOND - (self._clock.monotonic() - started)
            if early > 0:
                await self._clock.sleep(early)
        await connection.send_all(encode(SnapshotEnd(self._next, self._checksum)))
        while True:
            answer = await self._answer(connection, decoder, VERDICT_SECONDS)
            if isinstance(answer, SnapshotTaken):
                if answer.reason:
                    self._probe.log(
                        "warn", "a snapshot was refused", to=f"{self._to:x}", error=answer.reason
                    )
                return not answer.reason
            self._acknowledge(answer.chunks)

    def _resume(self, held: int) -> None:
        """The receiver holds ``held`` chunks: go on there, or begin again when what it lacks is gone."""
        if self._next - len(self._window) <= held <= self._next:
            self._acknowledge(held)
        elif held == 0:
            self._chunks.close()
            self._begin_reading()
        else:
            raise PeerProtocolError(f"{held} chunks are held, {self._next} were sent")

    def _acknowledge(self, held: int) -> None:
        while self._window and self._window[0].number < held:
            self._window.popleft()

    async def _held(self, connection: Connection, decoder: FrameDecoder) -> int:
        answer = await self._answer(connection, decoder, SILENCE_SECONDS)
        if isinstance(answer, SnapshotTaken):
            raise PeerProtocolError(answer.reason or "a verdict before the end")
        return answer.chunks

    async def _answer(
        self, connection: Connection, decoder: FrameDecoder, seconds: float
    ) -> SnapshotHeld | SnapshotTaken:
        """The newest of what the receiver says; raises when it says nothing for so long."""
        frames = []
        with self._clock.timeout(seconds):
            frames = await read_frames(connection, decoder)
        if not frames:
            raise ConnectionAbortedError("the receiver fell silent or closed the connection")
        newest = frames[-1]
        if not isinstance(newest, SnapshotHeld | SnapshotTaken):
            raise PeerProtocolError(f"unexpected {type(newest).__name__} from the receiver of a snapshot")
        return newest

    def _read_chunks(self) -> Generator[SnapshotChunk, None, None]:
        rows: list[Row] = []
        number = size = 0
        for bucket in self._view.buckets():
            for key, value in self._view.scan(bucket):
                rows.append((bucket, key, bytes(value)))
                size += len(key) + len(value)
                if size >= CHUNK_BYTES:
                    yield self._chunk(number, rows, size)
                    number, rows, size = number + 1, [], 0
        if rows:
            yield self._chunk(number, rows, size)

    def _chunk(self, number: int, rows: list[Row], size: int) -> SnapshotChunk:
        chunk = SnapshotChunk(number, tuple(rows))
        self._checksum = rows_checksum(chunk.rows, self._checksum)
        self.bytes += size
        return chunk
