"""One snapshot between two ends: whole, cut, damaged, refused; and how much of it is in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from tercet.core.errors import Corruption
from tercet.core.raft.types import SnapshotMeta, SnapshotRequest, SnapshotSent
from tercet.core.wire.peer import (
    FRAME_BYTES_MAX,
    FrameDecoder,
    PeerProtocolError,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotHeld,
    SnapshotOffer,
    SnapshotTaken,
    encode,
    rows_checksum,
)
from tercet.net.channel import read_frames
from tercet.net.snapshot_receive import SnapshotReceiver
from tercet.net.snapshot_send import CHUNK_BYTES, WINDOW_CHUNKS, SnapshotSender
from tercet.net.world import Backend, Connection
from tercet.sim.world import SimWorld

META = SnapshotMeta(9, 5, (1, 2))
REQUEST = SnapshotRequest(sender=1, to=2, term=5, meta=META)


class View:
    """A state of ``count`` rows of 64 KiB that notes how far it has been read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0
        self.closed = False

    def buckets(self) -> tuple[str, ...]:
        return ("key", "meta")

    def scan(self, bucket: str, *_: Any) -> Iterator[tuple[bytes, bytes]]:
        for number in range(self.count if bucket == "key" else 1):
            self.read += 1
            yield b"%06d" % number, bytes([number % 251]) * 65_536

    def close(self) -> None:
        self.closed = True


class Ends:
    """A sender on host a and a receiver on host b of a simulated world."""

    def __init__(self, sim: SimWorld, nursery: trio.Nursery) -> None:
        self.sim = sim
        self.here, self.there = sim.world_for("a"), sim.world_for("b")
        self.views: list[View] = []
        self.reports: list[SnapshotSent] = []
        self.delivered: list[SnapshotRequest] = []
        self.discarded = 0
        self.connections: list[Connection] = []
        self.made = 0
        self.rows = 40
        self.sender = SnapshotSender(self.here, self, self._open, self.reports.append)
        self.receiver = SnapshotReceiver(self.there, 2, self._create, self._discard, self.delivered.append)
        self.nursery = nursery
        nursery.start_soon(self.sender.run)
        nursery.start_soon(self._listen)

    def _open(self) -> Any:
        self.views.append(View(self.rows))
        return META, self.views[-1]

    async def _create(self) -> Backend:
        self.made += 1
        return self.there.disk.open_backend(f"/received-{self.made}")

    def _discard(self, backend: Backend) -> None:
        self.discarded += 1
        backend.close()

    async def _listen(self) -> None:
        listener = await self.there.net.listen("0.0.0.0", 2380)
        while True:
            self.nursery.start_soon(self._serve, await listener.accept())

    async def _serve(self, connection: Connection) -> None:
        try:
            await self.receiver.serve(1, connection, FrameDecoder(FRAME_BYTES_MAX))
        except (PeerProtocolError, OSError, trio.ClosedResourceError):
            pass
        finally:
            connection.close()

    async def open_for_snapshot(self, member_id: int) -> tuple[Connection, FrameDecoder]:
        connection = await self.here.net.connect("b", 2380)
        self.connections.append(connection)
        return connection, FrameDecoder(FRAME_BYTES_MAX)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(20_000):
            if condition():
                return
            await self.sim.sleep(0.01)
        raise AssertionError("it does not happen")

    def received(self) -> dict[bytes, bytes]:
        return dict(self.receiver.take(META).scan("key"))


def between(test: Callable[[Ends], Awaitable[None]], seed: int = 1) -> None:
    sim = SimWorld(seed, ("a", "b"))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ends = Ends(sim, nursery)
            await sim.sleep(0.01)
            await test(ends)
            nursery.cancel_scope.cancel()

    sim.run(main)


def test_every_row_arrives_and_raft_is_told_once() -> None:
    async def test(ends: Ends) -> None:
        ends.sender.send(REQUEST)
        ends.sender.send(REQUEST)  # it is under way already
        await ends.until(lambda: bool(ends.reports))
        assert ends.reports == [SnapshotSent(2, True)] and ends.delivered == [REQUEST]
        assert ends.received() == dict(View(ends.rows).scan("key"))
        assert [view.closed for view in ends.views] == [True]
        ends.receiver.forget()
        assert ends.discarded == 1

    between(test)


@pytest.mark.parametrize("seed", range(1, 6))
def test_cuts_cost_no_more_than_what_was_in_flight(seed: int) -> None:
    async def test(ends: Ends) -> None:
        ends.rows = 300
        for link in ends.sim.network.links(["a"], ["b"]):
            link.bytes_per_second = 20_000_000
        ends.sender.send(REQUEST)
        for _ in range(4):
            await ends.sim.sleep(0.15)
            ends.connections[-1].close()
        await ends.until(lambda: bool(ends.reports))
        assert ends.reports == [SnapshotSent(2, True)] and len(ends.connections) > 2
        assert ends.received() == dict(View(300).scan("key"))
        assert ends.views[0].read == 301, "no row is read twice"
        assert ends.made == 1

    between(test, seed)


def test_a_receiver_that_takes_nothing_keeps_no_more_than_the_window_in_memory() -> None:
    async def test(ends: Ends) -> None:
        ends.rows = 1000
        await ends.sim.sleep(0.1)
        listener = await ends.there.net.listen("0.0.0.0", 2381)

        async def deaf() -> None:
            connection = await listener.accept()
            await read_frames(connection, FrameDecoder(FRAME_BYTES_MAX))
            await connection.send_all(encode(SnapshotHeld(0, 0)))
            await trio.sleep_forever()

        async def dial(member_id: int) -> tuple[Connection, FrameDecoder]:
            return await ends.here.net.connect("b", 2381), FrameDecoder(FRAME_BYTES_MAX)

        ends.open_for_snapshot = dial  # type: ignore[method-assign]
        ends.nursery.start_soon(deaf)
        ends.sender.send(REQUEST)
        await ends.sim.sleep(5)
        assert 0 < ends.views[0].read <= (WINDOW_CHUNKS + 2) * (CHUNK_BYTES // 65_536)

    between(test)


def test_sending_is_given_up_when_nobody_answers_and_the_view_is_let_go() -> None:
    async def test(ends: Ends) -> None:
        async def refuse(member_id: int) -> Any:
            raise ConnectionRefusedError

        ends.open_for_snapshot = refuse  # type: ignore[method-assign]
        ends.sender.send(REQUEST)
        await ends.until(lambda: bool(ends.reports))
        assert ends.reports == [SnapshotSent(2, False)] and ends.views[0].closed
        ends.sender.send(REQUEST)
        await ends.until(lambda: len(ends.reports) == 2)

    between(test)


async def talk(ends: Ends, *frames: Any) -> list[Any]:
    """Send frames to the receiver as a member would; what it says until it falls silent."""
    connection = await ends.here.net.connect("b", 2380)
    await connection.send_all(b"".join(map(encode, frames)))
    decoder, said = FrameDecoder(), list[Any]()
    with ends.here.clock.timeout(1):
        while found := await read_frames(connection, decoder):
            said += found
    connection.close()
    await ends.sim.sleep(0.01)
    return said


ROWS = (("key", b"k", b"v"),)


def test_a_snapshot_that_does_not_add_up_is_refused_and_forgotten() -> None:
    async def test(ends: Ends) -> None:
        end = SnapshotEnd(1, rows_checksum(ROWS, 0) ^ 1)
        said = await talk(ends, SnapshotOffer(7, REQUEST), SnapshotChunk(0, ROWS), end)
        assert said[-1] == SnapshotTaken("the checksum of the snapshot does not match")
        assert (ends.delivered, ends.discarded) == ([], 1)
        with pytest.raises(Corruption, match="is not here"):
            ends.receiver.take(META)

    between(test)


def test_while_one_waits_to_be_installed_no_other_is_taken() -> None:
    async def test(ends: Ends) -> None:
        whole = SnapshotChunk(0, ROWS), SnapshotEnd(1, rows_checksum(ROWS, 0))
        assert SnapshotTaken("") in await talk(ends, SnapshotOffer(7, REQUEST), *whole)
        busy = [SnapshotTaken("another snapshot is being installed")]
        assert await talk(ends, SnapshotOffer(8, REQUEST), *whole) == busy
        ends.receiver.forget(taken=True)
        assert SnapshotTaken("") in await talk(ends, SnapshotOffer(9, REQUEST), *whole)

    between(test)


def test_a_newer_leaders_snapshot_takes_the_place_of_one_that_is_not_complete() -> None:
    async def test(ends: Ends) -> None:
        newer = SnapshotRequest(sender=1, to=2, term=6, meta=META)
        await talk(ends, SnapshotOffer(7, newer), SnapshotChunk(0, ROWS))
        older = [SnapshotTaken("a snapshot of term 6 is being received")]
        assert await talk(ends, SnapshotOffer(8, REQUEST)) == older
        assert await talk(ends, SnapshotOffer(7, newer)) == [SnapshotHeld(7, 1)], "it goes on"
        assert await talk(ends, SnapshotOffer(9, newer)) == [SnapshotHeld(9, 0)]
        assert ends.discarded == 1

    between(test)


def test_a_gap_or_another_members_name_ends_the_connection() -> None:
    async def test(ends: Ends) -> None:
        await talk(ends, SnapshotOffer(7, REQUEST), SnapshotChunk(3, ROWS))
        assert await talk(ends, SnapshotOffer(7, REQUEST)) == [SnapshotHeld(7, 0)]
        stranger = SnapshotRequest(sender=3, to=2, term=9, meta=META)
        assert await talk(ends, SnapshotOffer(8, stranger)) == []
        assert ends.discarded == 0

    between(test)

