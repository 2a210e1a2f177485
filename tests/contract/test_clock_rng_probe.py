"""What the Clock, Rng and Probe ports promise, on the real and on the simulated machine."""

from __future__ import annotations

import trio

from tercet.net.world import World

from .conftest import Machine


def test_sleeping_takes_at_least_its_time_by_the_same_clock(machine: Machine) -> None:
    async def body(world: World) -> None:
        before = world.clock.monotonic()
        await world.clock.sleep(0.01)
        middle = world.clock.monotonic()
        assert middle - before >= 0.0099
        await world.clock.sleep(0)
        assert world.clock.monotonic() >= middle

    machine.run(body)


def test_sleeping_for_no_time_lets_others_run(machine: Machine) -> None:
    async def body(world: World) -> None:
        ran = []

        async def other() -> None:
            ran.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(10):
                await world.clock.sleep(0)
            assert ran

    machine.run(body)


def test_a_timeout_cancels_its_body_and_nothing_else(machine: Machine) -> None:
    async def body(world: World) -> None:
        with world.clock.timeout(0.01) as scope:
            await trio.Event().wait()
        assert scope.cancelled_caught
        with world.clock.timeout(60) as scope:
            await world.clock.sleep(0)
        assert not scope.cancelled_caught

    machine.run(body)


def test_wall_time_is_unix_time(machine: Machine) -> None:
    async def body(world: World) -> None:
        assert world.clock.wall() > 1_500_000_000

    machine.run(body)


def test_random_streams_have_names_and_do_not_disturb_each_other(machine: Machine) -> None:
    draws: list[list[float]] = []

    async def body(world: World) -> None:
        one = world.rng.stream("one")
        assert world.rng.stream("one") is one
        first = one.random()
        if draws:
            world.rng.stream("another").random()
        draws.append([first, one.random()])

    machine.run(body)
    machine.run(body)
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[0][1]


def test_the_probe_takes_everything_and_changes_nothing(machine: Machine) -> None:
    async def body(world: World) -> None:
        probe = world.probe
        probe.log("info", "hello", number=1, raw=b"\xff", error=ValueError("no"))
        probe.count("calls", 2, kind="put")
        probe.gauge("level", 3.5)
        probe.observe("seconds", 0.25)
        probe.point("somewhere")
        assert probe.step is None

    machine.run(body)
