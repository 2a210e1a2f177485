"""Each host's own time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tercet.sim.world import SimWorld


def in_world(body: Callable[[SimWorld], Awaitable[None]]) -> None:
    sim = SimWorld(1, ("a", "b"))
    sim.run(body, sim)


def test_a_fast_clock_sleeps_shorter_and_a_slow_one_longer() -> None:
    async def body(sim: SimWorld) -> None:
        clock = sim.world_for("a").clock
        sim.host("a").clock.set_rate(2_000_000)
        await clock.sleep(4)
        assert sim.now == pytest.approx(2)
        sim.host("a").clock.set_rate(500_000)
        before = clock.monotonic()
        await clock.sleep(1)
        assert sim.now == pytest.approx(4)
        assert clock.monotonic() - before == pytest.approx(1)

    in_world(body)


def test_a_change_of_rate_moves_timers_that_are_pending() -> None:
    async def body(sim: SimWorld) -> None:
        sim.engine.after(1_000_000_000, lambda _: sim.host("a").clock.set_rate(2_000_000))
        await sim.world_for("a").clock.sleep(3)
        assert sim.now == pytest.approx(2)

    in_world(body)


def test_clocks_of_two_hosts_are_independent() -> None:
    async def body(sim: SimWorld) -> None:
        sim.host("a").clock.jump(5_000_000_000)
        a, b = sim.world_for("a").clock, sim.world_for("b").clock
        assert a.wall() - b.wall() == pytest.approx(5)
        await sim.sleep(1)
        assert a.wall() - b.wall() == pytest.approx(5)

    in_world(body)


def test_a_jump_moves_the_wall_clock_only_and_may_go_back() -> None:
    async def body(sim: SimWorld) -> None:
        clock = sim.world_for("a").clock
        wall, monotonic = clock.wall(), clock.monotonic()
        sim.host("a").clock.jump(-3_000_000_000)
        assert clock.wall() - wall == pytest.approx(-3)
        assert clock.monotonic() == monotonic

    in_world(body)


def test_a_leap_makes_timers_due() -> None:
    async def body(sim: SimWorld) -> None:
        sim.engine.after(1_000_000_000, lambda _: sim.host("a").clock.advance(60_000_000_000))
        with sim.world_for("a").clock.timeout(30) as scope:
            await trio.sleep(80_000)
        assert scope.cancelled_caught
        assert sim.now == pytest.approx(1)

    in_world(body)


def test_correcting_a_clock_restores_rate_and_wall_time() -> None:
    async def body(sim: SimWorld) -> None:
        chip = sim.host("a").clock
        chip.set_rate(1_050_000)
        chip.jump(9_000_000_000)
        await sim.sleep(10)
        chip.correct()
        assert chip.rate_ppm == 1_000_000
        assert sim.world_for("a").clock.wall() == pytest.approx(sim.world_for("b").clock.wall(), abs=1e-6)

    in_world(body)


def test_a_timeout_leaves_no_timer_behind() -> None:
    async def body(sim: SimWorld) -> None:
        with sim.world_for("a").clock.timeout(5):
            await sim.sleep(1)
        events = sim.engine.events
        await sim.sleep(20)
        assert sim.engine.events - events <= 2

    in_world(body)


def test_a_timer_of_a_paused_host_fires_when_it_resumes() -> None:
    async def body(sim: SimWorld) -> None:
        sim.engine.after(500_000_000, lambda _: sim.pause("a"))
        sim.engine.after(4_000_000_000, lambda _: sim.resume("a"))
        await sim.world_for("a").clock.sleep(1)
        assert sim.now == pytest.approx(4)
        sim.pause("a")
        sim.engine.after(2_000_000_000, lambda _: sim.resume("a"))
        with sim.world_for("a").clock.timeout(1) as scope:
            await trio.sleep(80_000)
        assert scope.cancelled_caught
        assert sim.now == pytest.approx(6)

    in_world(body)


def test_a_rate_must_be_positive() -> None:
    with pytest.raises(ValueError, match="need rate_ppm > 0, got 0"):
        SimWorld(0, ("a",)).host("a").clock.set_rate(0)
