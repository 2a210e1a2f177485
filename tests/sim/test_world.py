"""Programs that live and die on simulated hosts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tercet.net.world import World
from tercet.sim.host import ProcessDied
from tercet.sim.world import SimWorld


async def idle(world: World) -> None:
    await trio.sleep_forever()


def in_world(body: Callable[[SimWorld], Awaitable[None]], seed: int = 1) -> SimWorld:
    sim = SimWorld(seed, ("a", "b"))
    sim.run(body, sim)
    return sim


def test_a_dead_program_reaches_nobody_with_its_last_words() -> None:
    tried: list[str] = []

    async def stubborn(world: World) -> None:
        world.disk.make_dirs("/d")
        file = world.disk.open("/d/f", create=True)
        connection = await world.net.connect("b", 80)
        try:
            await world.clock.sleep(1000)
        finally:
            for name, action in (
                ("write", lambda: file.write_at(0, b"last words")),
                ("send", lambda: connection.try_send(b"last words")),
                ("remove", lambda: world.disk.remove("/d/f")),
            ):
                try:
                    action()
                except ProcessDied:
                    tried.append(name)
            connection.close()
            with trio.CancelScope(shield=True):
                await world.clock.sleep(5)
                tried.append("unreachable")

    async def body(sim: SimWorld) -> None:
        listener = await sim.world_for("b").net.listen("b", 80)
        sim.start("a", stubborn)
        far = await listener.accept()
        await sim.sleep(1)
        sim.kill("a")
        await sim.sleep(10)
        assert await far.receive(100) == b""  # the kernel's FIN, nothing else
        assert sim.host("a").disk.files["/d/f"].size == 0

    sim = in_world(body)
    assert tried == ["write", "send", "remove"]
    assert not sim.failures


def test_a_power_cut_is_silent_until_the_host_is_back() -> None:
    async def program(world: World) -> None:
        await world.net.connect("b", 80)
        await trio.sleep_forever()

    async def body(sim: SimWorld) -> None:
        listener = await sim.world_for("b").net.listen("b", 80)
        sim.start("a", program)
        far = await listener.accept()
        sim.crash("a")
        with sim.world_for("b").clock.timeout(5) as scope:
            await far.receive(1)
        assert scope.cancelled_caught
        sim.restart("a")
        far.try_send(b"x")
        with pytest.raises(ConnectionResetError):
            await far.receive(1)

    in_world(body)


def test_a_shielded_program_dies_all_the_same() -> None:
    ended: list[str] = []

    async def shielded(world: World) -> None:
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    await world.clock.sleep(1e9)
        finally:
            ended.append(world.name)

    async def body(sim: SimWorld) -> None:
        process = sim.start("a", shielded)
        await sim.sleep(1)
        sim.crash("a")
        await process.done.wait()

    in_world(body)
    assert ended == ["a"]


def test_a_restart_begins_a_new_incarnation_with_other_draws_and_the_same_disk() -> None:
    lives: list[tuple[bool, int]] = []

    async def program(world: World) -> None:
        lives.append((world.disk.exists("/d/mark"), world.rng.stream("x").getrandbits(32)))
        world.disk.make_dirs("/d")
        world.disk.write_atomic("/d/mark", b"")
        await trio.sleep_forever()

    async def body(sim: SimWorld) -> None:
        sim.start("a", program)
        await sim.sleep(1)
        sim.crash("a")
        assert sim.restart("a") is not None
        assert sim.restart("a") is None
        await sim.sleep(1)

    in_world(body)
    assert [found for found, _ in lives] == [False, True]
    assert lives[0][1] != lives[1][1]


def test_a_program_that_ends_with_an_error_is_remembered() -> None:
    async def program(world: World) -> None:
        await world.clock.sleep(2)
        raise ZeroDivisionError("a bug")

    async def body(sim: SimWorld) -> None:
        sim.start("a", program)
        await sim.sleep(3)
        assert not sim.running("a")

    sim = in_world(body)
    assert [(when, name, str(error)) for when, name, error in sim.failures] == [(2_000_000_000, "a", "a bug")]


@pytest.mark.parametrize(("operation", "expected"), [("disk", 1), ("network", 0), ("here", 2)])
def test_a_crash_can_be_placed_at_an_operation_or_a_named_point(operation: str, expected: int) -> None:
    async def program(world: World) -> None:
        world.disk.make_dirs("/d")
        for number in range(10):
            world.disk.write_atomic(f"/d/{number}", b"")
            world.probe.point("here")
            await world.clock.sleep(0.1)

    async def body(sim: SimWorld) -> None:
        crashed: list[tuple[str, str]] = []
        sim.on_crash_point = lambda name, what: crashed.append((name, what))
        sim.start("a", program)
        # the fifth disk operation is the rename of the second file: each atomic write is two
        sim.host("a").arm(operation, {"disk": 5, "network": 5, "here": 2}[operation])
        await sim.sleep(5)
        if operation == "network":
            assert not crashed  # it never uses the network
            return
        assert crashed == [("a", operation)]
        assert not sim.host("a").up
        assert len(sim.host("a").disk.files) == expected

    sim = in_world(body)
    assert not sim.failures


def test_an_error_of_the_scenario_is_raised_as_it_is() -> None:
    async def body(sim: SimWorld) -> None:
        sim.start("a", idle)
        raise LookupError("the scenario failed")

    with pytest.raises(LookupError, match="the scenario failed"):
        in_world(body)


def test_a_host_runs_one_program_at_a_time() -> None:
    async def body(sim: SimWorld) -> None:
        sim.start("a", idle)
        with pytest.raises(RuntimeError, match="a already runs a program"):
            sim.start("a", idle)

    in_world(body)


def test_the_probe_keeps_what_it_is_told() -> None:
    async def program(world: World) -> None:
        world.probe.log("warn", "watch out", reason="test")
        world.probe.log("debug", "noise")
        world.probe.count("things", 2)
        world.probe.count("things")
        world.probe.gauge("level", 7)

    async def body(sim: SimWorld) -> None:
        process = sim.start("a", program)
        await process.done.wait()
        probe = process.probe
        assert [line[1:] for line in probe.lines] == [("warn", "watch out", {"reason": "test"})]
        assert probe.counts == {"things": 3}
        assert probe.gauges == {"level": 7}

    in_world(body)
