"""Receiving a snapshot: kept aside on disk until all of it is there and checked, then handed to Raft.

Nothing of the state changes while chunks arrive. Their rows go to a backend of their own as they come, so
that memory holds a few chunks at a time; a sender that comes back after a cut is told how much is there. A
new snapshot takes the place of one that is not complete, unless it is of an older term; so does a new
connection for the same one. Only a complete one is told to Raft, and until Raft has either had it installed
or does not want it (``forget``) no other is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from tercet.core.errors import Corruption
from tercet.core.raft.types import SnapshotMeta, SnapshotRequest
from tercet.core.wire.peer import (
    Frame,
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
from .world import Backend, Connection, World

__all__ = ["SnapshotReceiver"]

#: How long the sender may say nothing.
SILENCE_SECONDS: Final = 10.0
#: Chunks whose rows are written in one commit.
COMMIT_CHUNKS: Final = 8


class _Partial:
    """One snapshot, as much of it as there is."""

    def __init__(self, offer: SnapshotOffer, sender: int, backend: Backend, began: float) -> None:
        self.offer = offer
        self.began = began  # monotonic seconds
        self.sender = sender
        self.backend = backend
        self.chunks = 0
        self.bytes = 0
        self.checksum = 0
        self.complete = False
        self.connection: Connection | None = None  # the one it arrives on
        self.pending: list[tuple[Row, ...]] = []  # rows that are not in the backend yet

    def add(self, chunk: SnapshotChunk) -> None:
        self.pending.append(chunk.rows)
        self.chunks += 1
        self.bytes += sum(len(key) + len(value) for _, key, value in chunk.rows)
        self.checksum = rows_checksum(chunk.rows, self.checksum)

    async def write(self) -> None:
        pending, self.pending = self.pending, []
        if pending:
            await self.backend.commit([row for rows in pending for row in rows])


class SnapshotReceiver:
    """The receiving side of one member.

    Args:
        create: an empty backend to keep rows aside in; one at a time.
        discard: lets such a backend go.
        deliver: takes the message once all has arrived; ``take`` or ``forget`` follows.
    """

    def __init__(
        self,
        world: World,
        member_id: int,
        create: Callable[[], Awaitable[Backend]],
        discard: Callable[[Backend], None],
        deliver: Callable[[SnapshotRequest], None],
    ) -> None:
        self._world = world
        self._member_id = member_id
        self._create = create
        self._discard = discard
        self._deliver = deliver
        self._partial: _Partial | None = None
        self._busy = trio.Lock()  # a commit is under way, or one snapshot takes another's place

    async def serve(self, sender: int, connection: Connection, decoder: FrameDecoder) -> None:
        """Serve a connection that a member has opened for a snapshot, until it ends.

        Raises ``PeerProtocolError`` and ``OSError`` of the connection; what has arrived until then is kept.
        """
        partial: _Partial | None = None
        try:
            while frames := await self._frames(connection, decoder):
                for frame in frames:
                    if isinstance(frame, SnapshotOffer) and partial is None:
                        partial = await self._begin(sender, connection, frame)
                        if partial is None:
                            return
                    elif partial is None or partial is not self._partial:
                        raise PeerProtocolError("another snapshot has taken this one's place")
                    elif isinstance(frame, SnapshotChunk):
                        await self._take(partial, frame)
                    elif isinstance(frame, SnapshotEnd):
                        await self._end(partial, connection, frame)
                        return
                    else:
                        raise PeerProtocolError(f"unexpected {type(frame).__name__} in a snapshot")
                if partial is not None:
                    await connection.send_all(encode(SnapshotHeld(partial.offer.snapshot_id, partial.chunks)))
        finally:
            if partial is not None and partial.connection is connection:
                partial.connection = None
                if not partial.complete:
                    self._world.probe.count("etcd_network_snapshot_receive_failures", From=f"{sender:x}")

    def take(self, meta: SnapshotMeta) -> Backend:
        """The rows of the snapshot that Raft wants; they are the caller's now, but ``forget`` must follow.

        Raises:
            Corruption: that snapshot is not here, which it must be, as Raft has just heard of it.
        """
        partial = self._partial
        if partial is None or not partial.complete or partial.offer.request.meta != meta:
            raise Corruption(f"the snapshot at index {meta.index} is to be installed, but it is not here")
        return partial.backend

    def forget(self, *, taken: bool = False) -> None:
        """Another snapshot may be received: this one is not wanted, or it was ``taken``."""
        partial = self._partial
        if partial is not None and partial.complete:
            self._partial = None
            if not taken:
                self._discard(partial.backend)

    async def _frames(self, connection: Connection, decoder: FrameDecoder) -> list[Frame]:
        frames: list[Frame] = []
        with self._world.clock.timeout(SILENCE_SECONDS):
            frames = await read_frames(connection, decoder)
        return frames

    async def _begin(
        self, sender: int, connection: Connection, offer: SnapshotOffer
    ) -> _Partial | None:
        """What the offer goes on with, or begins; None when it is refused."""
        request = offer.request
        if request.sender != sender or request.to != self._member_id:
            raise PeerProtocolError("a snapshot with another sender or receiver than its connection")
        async with self._busy:
            present, reason = self._partial, ""
            if present is not None and present.complete:
                reason = "another snapshot is being installed"
            elif present is not None and request.term < present.offer.request.term:
                reason = f"a snapshot of term {present.offer.request.term} is being received"
            if reason:
                await connection.send_all(encode(SnapshotTaken(reason)))
                return None
            if present is not None and present.connection is not None:
                present.connection.close()
            number = offer.snapshot_id
            if present is None or (present.sender, present.offer.snapshot_id) != (sender, number):
                if present is not None:
                    self._partial = None
                    self._discard(present.backend)
                present = self._partial = _Partial(
                    offer, sender, await self._create(), self._world.clock.monotonic()
                )
                self._world.probe.log(
                    "info", "receiving database snapshot", sender=f"{sender:x}", index=request.meta.index
                )
            present.connection = connection
            return present

    async def _take(self, partial: _Partial, chunk: SnapshotChunk) -> None:
        if chunk.number < partial.chunks:
            return  # it was sent again after a cut
        if chunk.number > partial.chunks or partial.complete:
            raise PeerProtocolError(f"chunk {chunk.number} of a snapshot, {partial.chunks} are held")
        partial.add(chunk)
        if len(partial.pending) >= COMMIT_CHUNKS:
            await self._write(partial)

    async def _write(self, partial: _Partial) -> None:
        """Not to be cut short: the connection may end, the rows stay."""
        with trio.CancelScope(shield=True):
            async with self._busy:
                if partial is self._partial:
                    clock = self._world.clock
                    started = clock.monotonic()
                    await partial.write()
                    self._world.probe.observe(
                        "etcd_snap_db_fsync_duration_seconds", clock.monotonic() - started
                    )

    async def _end(self, partial: _Partial, connection: Connection, end: SnapshotEnd) -> None:
        probe, sender, offer = self._world.probe, f"{partial.sender:x}", partial.offer
        await self._write(partial)
        if partial is not self._partial:
            raise PeerProtocolError("another snapshot has taken this one's place")
        partial.complete = True
        if (end.chunks, end.checksum) != (partial.chunks, partial.checksum):
            probe.log("warn", "a received snapshot is not what was sent", sender=sender)
            self.forget()
            await connection.send_all(encode(SnapshotTaken("the checksum of the snapshot does not match")))
            return
        probe.count("etcd_network_snapshot_receive_success", From=sender)
        taken = self._world.clock.monotonic() - partial.began
        probe.observe("etcd_snap_db_save_total_duration_seconds", taken)
        probe.log("info", "received and saved database snapshot", sender=sender, bytes=partial.bytes)
        self._deliver(offer.request)
        await connection.send_all(encode(SnapshotTaken("")))
