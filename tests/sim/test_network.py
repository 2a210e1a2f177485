"""Connections, cuts, clogs, resets, timeouts: TCP as programs see it."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio

from tercet.net.world import Connection, World
from tercet.sim.engine import SECOND
from tercet.sim.world import SimWorld

T = TypeVar("T")


class Pair:
    """A world of two hosts, a and b, with one connection from a to b."""

    def __init__(self, seed: int = 0) -> None:
        self.sim = SimWorld(seed, ("a", "b"))
        self.near: Connection
        self.far: Connection

    def run(self, body: Callable[[Pair], Awaitable[T]]) -> T:
        async def main() -> T:
            a, b = self.sim.world_for("a"), self.sim.world_for("b")
            listener = await b.net.listen("0.0.0.0", 80)
            self.near = await a.net.connect("b", 80)
            self.far = await listener.accept()
            for connection in self.sim.network.links(["a", "b"], ["a", "b"]):
                connection.latency, connection.jitter = 1_000_000, 0
            return await body(self)

        return self.sim.run(main)

    @property
    def a(self) -> World:
        return self.sim.world_for("a")

    @property
    def b(self) -> World:
        return self.sim.world_for("b")

    def cut(self, source: str, target: str, change: int = 1) -> None:
        self.sim.network.links([source], [target])[0].cut += change


async def read_all(connection: Connection) -> bytes:
    parts = []
    while data := await connection.receive(4096):
        parts.append(data)
    return b"".join(parts)


def test_bytes_arrive_in_order_after_the_latency() -> None:
    async def body(pair: Pair) -> None:
        start = pair.sim.now
        pair.near.try_send(b"one ")
        await pair.sim.sleep(0.0005)
        pair.near.try_send(b"two")
        pair.near.close_sending()
        assert await pair.far.receive(100) == b"one "
        assert pair.sim.now - start == pytest.approx(0.001)
        assert await read_all(pair.far) == b"two"

    Pair().run(body)


def test_a_full_window_stops_the_sender_until_the_receiver_reads() -> None:
    async def body(pair: Pair) -> None:
        sent = 0
        while taken := pair.near.try_send(b"x" * 100_000):
            sent += taken
        received = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.near.send_all, b"y" * 300_000)
            while received < sent + 300_000:
                received += len(await pair.far.receive(65_536))
        assert received == sent + 300_000

    Pair().run(body)


def test_a_one_way_cut_stops_one_direction_and_retransmission_heals_it() -> None:
    async def body(pair: Pair) -> None:
        pair.cut("a", "b")
        pair.near.try_send(b"lost for now")
        pair.far.try_send(b"arrives")
        assert await pair.near.receive(100) == b"arrives"
        with trio.move_on_after(2) as scope:
            await pair.far.receive(100)
        assert scope.cancelled_caught
        pair.cut("a", "b", -1)
        assert await pair.far.receive(100) == b"lost for now"

    Pair().run(body)


def test_a_long_cut_times_the_sender_out_and_leaves_the_other_side_half_open() -> None:
    async def body(pair: Pair) -> None:
        pair.cut("a", "b")
        pair.near.try_send(b"never")
        with pytest.raises(OSError) as caught:
            await pair.near.receive(100)
        assert caught.value.errno == errno.ETIMEDOUT
        assert 15 <= pair.sim.now < 20
        pair.cut("a", "b", -1)
        pair.far.try_send(b"who are you")  # answered with a reset
        with pytest.raises(OSError) as caught:
            await pair.far.receive(100)
        assert caught.value.errno == errno.ECONNRESET

    Pair().run(body)


def test_overlapping_cuts_do_not_end_each_other() -> None:
    async def body(pair: Pair) -> None:
        pair.cut("a", "b")
        pair.cut("a", "b")
        pair.near.try_send(b"x")
        pair.cut("a", "b", -1)
        with trio.move_on_after(3) as scope:
            await pair.far.receive(1)
        assert scope.cancelled_caught

    Pair().run(body)


def test_a_clog_holds_everything_and_lets_it_out_in_one_burst() -> None:
    async def body(pair: Pair) -> None:
        link = pair.sim.network.links(["a"], ["b"])[0]
        link.clogged += 1
        for _ in range(5):
            pair.near.try_send(b"12345")
            await pair.sim.sleep(0.5)
        link.release()
        start = pair.sim.now
        received = b""
        while len(received) < 25:
            received += await pair.far.receive(100)
        assert pair.sim.now == start

    Pair().run(body)


def test_loss_delays_but_never_loses() -> None:
    async def body(pair: Pair) -> None:
        pair.sim.network.links(["a"], ["b"])[0].loss = 0.5
        start = pair.sim.now
        for number in range(50):
            pair.near.try_send(bytes([number]))
            await pair.sim.sleep(0.001)
        pair.near.close_sending()
        assert await read_all(pair.far) == bytes(range(50))
        assert pair.sim.now - start > 0.2

    Pair().run(body)


def test_bandwidth_spreads_bytes_over_time() -> None:
    async def body(pair: Pair) -> None:
        pair.sim.network.links(["a"], ["b"])[0].bytes_per_second = 1000
        start = pair.sim.now
        pair.near.try_send(b"x" * 2000)
        await pair.far.receive(4096)
        assert pair.sim.now - start == pytest.approx(2.001)

    Pair().run(body)


def test_chunks_cut_deliveries_without_changing_the_bytes() -> None:
    async def body(pair: Pair) -> None:
        pair.sim.network.links(["a"], ["b"])[0].chunk_rate = 1.0
        text = bytes(range(256)) * 20
        pair.near.try_send(text)
        pair.near.close_sending()
        parts = []
        while data := await pair.far.receive(100_000):
            parts.append(data)
        assert b"".join(parts) == text
        assert len(parts) > 1

    Pair().run(body)


def test_a_reset_reaches_both_ends() -> None:
    async def body(pair: Pair) -> None:
        assert pair.sim.network.reset_between(pair.sim.host("a"), pair.sim.host("b")) == 1
        for connection in (pair.near, pair.far):
            with pytest.raises(OSError) as caught:
                await connection.receive(1)
            assert caught.value.errno == errno.ECONNRESET
            with pytest.raises(OSError):
                connection.try_send(b"x")

    Pair().run(body)


def test_a_half_open_connection_is_known_to_one_side_only() -> None:
    async def body(pair: Pair) -> None:
        assert pair.sim.network.halve_between(pair.sim.host("a"), pair.sim.host("b")) == 1
        assert pair.far.try_send(b"anybody?") == 8
        with pytest.raises(OSError):
            await pair.far.receive(1)

    Pair().run(body)


def test_closing_with_unread_data_resets_the_other_side() -> None:
    async def body(pair: Pair) -> None:
        pair.near.try_send(b"unread")
        await pair.sim.sleep(0.1)
        pair.far.close()
        with pytest.raises(OSError) as caught:
            await pair.near.receive(1)
        assert caught.value.errno == errno.ECONNRESET

    Pair().run(body)


def test_nobody_listening_means_refused_after_a_round_trip() -> None:
    async def body(pair: Pair) -> None:
        start = pair.sim.now
        with pytest.raises(ConnectionRefusedError):
            await pair.a.net.connect("b", 81)
        assert pair.sim.now - start == pytest.approx(0.002)
        pair.sim.host("b").refuses = True
        with pytest.raises(ConnectionRefusedError):
            await pair.a.net.connect("b", 80)

    Pair().run(body)


def test_connecting_into_a_cut_waits_and_goes_on_when_it_heals_or_times_out() -> None:
    async def body(pair: Pair) -> None:
        pair.cut("a", "b")
        pair.sim.engine.after(5 * SECOND, lambda _: pair.cut("a", "b", -1))
        start = pair.sim.now
        (await pair.a.net.connect("b", 80)).close()
        assert 5 < pair.sim.now - start < 9
        pair.cut("a", "b")
        with pytest.raises(TimeoutError):
            await pair.a.net.connect("b", 80)

    Pair().run(body)


def test_a_full_backlog_drops_attempts_until_somebody_accepts() -> None:
    async def body(pair: Pair) -> None:
        listener = await pair.b.net.listen("b", 90, backlog=1)
        first = await pair.a.net.connect("b", 90)
        with pair.a.clock.timeout(0.5) as scope:
            await pair.a.net.connect("b", 90)
        assert scope.cancelled_caught
        await listener.accept()
        (await pair.a.net.connect("b", 90)).close()
        first.close()

    Pair().run(body)


def test_hosts_are_found_by_name_and_address_and_strangers_are_unreachable() -> None:
    async def body(pair: Pair) -> None:
        connection = await pair.a.net.connect("10.0.0.2", 80)
        assert connection.remote == "10.0.0.2:80"
        with pytest.raises(OSError) as caught:
            await pair.a.net.connect("nowhere", 80)
        assert caught.value.errno == errno.EHOSTUNREACH
        with pytest.raises(OSError) as caught:
            await pair.a.net.listen("b", 99)
        assert caught.value.errno == errno.EADDRNOTAVAIL

    Pair().run(body)


def test_a_paused_host_receives_but_its_tasks_wait() -> None:
    async def body(pair: Pair) -> None:
        woke: list[float] = []

        async def read() -> None:
            await pair.far.receive(10)
            woke.append(pair.sim.now)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await pair.sim.sleep(0.1)
            pair.sim.pause("b")
            pair.near.try_send(b"x")
            await pair.sim.sleep(1)
            assert not woke
            pair.sim.resume("b")
        assert woke[0] == pytest.approx(1.1, abs=0.01)

    Pair().run(body)


def test_a_throttled_host_takes_time_for_every_step_and_loses_no_wake_up() -> None:
    async def body(pair: Pair) -> None:
        pair.sim.host("b").step_ns = 10_000_000
        done: list[float] = []

        async def wait(number: int) -> None:
            for _ in range(3):
                await pair.b.clock.sleep(0.001)
            done.append(pair.sim.now)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(wait, number)
        assert len(done) == 5
        assert 0.1 < max(done) < 0.2

    Pair().run(body)
