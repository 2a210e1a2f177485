"""What a power cut leaves, and what a bad disk says."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
import trio

from tercet.net.world import DiskFile, World
from tercet.sim.host import ProcessDied
from tercet.sim.inode import SECTOR
from tercet.sim.world import SimWorld


async def idle(world: World) -> None:
    await trio.sleep_forever()


def in_world(body: Callable[[SimWorld], Awaitable[None]], seed: int = 1) -> None:
    sim = SimWorld(seed, ("a", "b"))

    async def main() -> None:
        sim.start("a", idle)
        await body(sim)

    sim.run(main)


async def durable_file(world: World, data: bytes) -> DiskFile:
    world.disk.make_dirs("/d")
    file = world.disk.open("/d/f", create=True)
    file.write_at(0, data)
    await file.sync()
    world.disk.sync_dir("/d")
    return file


def after_power_cut(sim: SimWorld, mode: str | None) -> bytes:
    sim.crash("a", mode)
    sim.restart("a")
    return sim.world_for("a").disk.read("/d/f")


@pytest.mark.parametrize(("mode", "expected"), [("lose", b"old"), ("keep", b"new!")])
def test_a_power_cut_loses_or_keeps_what_was_not_synced(mode: str, expected: bytes) -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"old")
        file.write_at(0, b"new!")
        assert after_power_cut(sim, mode) == expected

    in_world(body)


def test_a_torn_write_is_torn_at_a_sector() -> None:
    seen: set[int] = set()
    for seed in range(40):

        async def body(sim: SimWorld) -> None:
            file = await durable_file(sim.world_for("a"), bytes(8 * SECTOR))
            file.write_at(100, b"x" * (4 * SECTOR))
            data = after_power_cut(sim, "prefix")
            kept = data.count(b"x")
            assert data == bytes(100) + b"x" * kept + bytes(8 * SECTOR - 100 - kept)
            assert kept == 4 * SECTOR or kept == 0 or (100 + kept) % SECTOR == 0
            seen.add(kept)

        in_world(body, seed)
    assert len(seen) > 3


def test_scattered_sectors_are_old_or_new_each_as_a_whole() -> None:
    mixed = 0
    for seed in range(20):

        async def body(sim: SimWorld) -> None:
            nonlocal mixed
            file = await durable_file(sim.world_for("a"), b"o" * (6 * SECTOR))
            file.write_at(0, b"n" * (6 * SECTOR))
            data = after_power_cut(sim, "scatter")
            sectors = [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]
            assert all(sector in (b"o" * SECTOR, b"n" * SECTOR) for sector in sectors)
            flips = sum(one != two for one, two in pairwise(sectors))
            mixed += flips > 1

        in_world(body, seed)
    assert mixed > 0


def test_a_file_whose_folder_was_not_synced_may_be_gone() -> None:
    async def body(sim: SimWorld) -> None:
        disk = sim.world_for("a").disk
        disk.make_dirs("/d")
        file = disk.open("/d/f", create=True)
        file.write_at(0, b"x")
        await file.sync()
        sim.crash("a", "lose")
        sim.restart("a")
        assert sim.world_for("a").disk.list("/d") == []

    in_world(body)


def test_a_rename_without_a_folder_sync_may_be_undone() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        await durable_file(world, b"x")
        world.disk.rename("/d/f", "/d/g")
        assert world.disk.list("/d") == ["g"]
        sim.crash("a", "lose")
        sim.restart("a")
        assert sim.world_for("a").disk.list("/d") == ["f"]

    in_world(body)


def test_an_atomic_write_survives_once_its_time_has_passed() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        await durable_file(world, b"old")
        world.disk.write_atomic("/d/f", b"whole")
        await world.clock.sleep(1e-9)
        assert after_power_cut(sim, "lose") == b"whole"

    in_world(body)


@pytest.mark.parametrize("mode", ["lose", "keep", "prefix", "scatter"])
def test_a_crash_while_an_atomic_write_blocks_leaves_the_old_file(mode: str) -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        await durable_file(world, b"old")
        sim.host("a").disk.slow_factor = 1000
        world.disk.write_atomic("/d/f", b"whole")
        assert world.disk.read("/d/f") == b"whole"
        await sim.sleep(0.05)
        assert after_power_cut(sim, mode) == b"old"
        await sim.sleep(5)
        assert after_power_cut(sim, mode) == b"old"

    in_world(body)


def test_a_process_that_is_killed_in_a_sync_in_place_leaves_its_writes_unsynced() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        file = await durable_file(world, b"old")
        sim.host("a").disk.slow_factor = 1000
        file.write_at(0, b"new")
        file.sync_now()
        file.write_at(0, b"too late")
        await sim.sleep(0.05)
        sim.kill("a")
        sim.restart("a")
        assert sim.world_for("a").disk.read("/d/f") == b"new"
        assert after_power_cut(sim, "lose") == b"old"

    in_world(body)


def test_what_a_blocked_process_does_to_names_is_taken_back_when_it_dies() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        file = await durable_file(world, b"old")
        sim.host("a").disk.slow_factor = 1000
        world.disk.rename("/d/f", "/d/g")
        file.sync_now()
        world.disk.sync_dir("/d")
        world.disk.rename("/d/g", "/d/h")
        await sim.sleep(0.05)
        sim.kill("a")
        sim.restart("a")
        assert sim.world_for("a").disk.list("/d") == ["g"]
        assert after_power_cut(sim, "lose") == b"old"

    in_world(body)


def test_a_lying_disk_loses_an_atomic_write_at_a_power_cut() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        await durable_file(world, b"old")
        sim.host("a").disk.lying = True
        world.disk.write_atomic("/d/f", b"whole")
        assert world.disk.read("/d/f") == b"whole"
        assert after_power_cut(sim, "lose") == b"old"

    in_world(body)


@pytest.mark.parametrize(("operation", "count"), [("disk", 1), ("sync", 1), ("disk", 2)])
def test_a_crash_inside_an_atomic_write_leaves_the_old_file(operation: str, count: int) -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        await durable_file(world, b"old")
        sim.host("a").arm(operation, count)
        with pytest.raises(ProcessDied):
            world.disk.write_atomic("/d/f", b"whole")
        sim.restart("a")
        assert sim.world_for("a").disk.read("/d/f") == b"old"

    in_world(body)


def test_an_atomic_write_takes_the_time_of_a_sync() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        await durable_file(world, b"old")
        started = world.clock.monotonic()
        world.disk.write_atomic("/d/f", b"whole")
        assert world.clock.monotonic() > started

    in_world(body)


def test_a_sync_that_is_under_way_at_the_cut_promises_nothing() -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"old")
        file.write_at(0, b"new")
        sim.host("a").disk.slow_factor = 1000
        returned = False

        async def sync() -> None:
            nonlocal returned
            await file.sync()
            returned = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sync)
            await sim.sleep(0.001)
            nursery.cancel_scope.cancel()
        assert after_power_cut(sim, "lose") == b"old"
        assert not returned
        await sim.sleep(5)
        assert sim.world_for("a").disk.read("/d/f") == b"old"

    in_world(body)


def test_killing_a_process_loses_nothing_that_it_wrote() -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"old")
        file.write_at(0, b"new")
        sim.kill("a")
        sim.restart("a")
        assert sim.world_for("a").disk.read("/d/f") == b"new"

    in_world(body)


def test_a_lying_disk_forgets_what_it_synced() -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"old")
        sim.host("a").disk.lying = True
        file.write_at(0, b"new")
        await file.sync()
        file.sync_now()
        assert after_power_cut(sim, "lose") == b"old"

    in_world(body)


def test_a_slow_disk_takes_its_time() -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"x")
        sim.host("a").disk.slow_factor = 1000
        start = sim.now
        await file.sync()
        assert sim.now - start > 0.1

    in_world(body)


def test_a_sync_in_place_blocks_the_program_until_it_is_durable() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        file = await durable_file(world, b"old")
        listener = await sim.world_for("b").net.listen("b", 80)
        connection = await world.net.connect("b", 80)
        far = await listener.accept()
        sim.host("a").disk.slow_factor = 1000
        file.write_at(0, b"new")
        start, before = sim.now, world.clock.monotonic()
        connection.try_send(b"before")
        file.sync_now()
        blocked = world.clock.monotonic() - before
        assert blocked > 0.1
        connection.try_send(b"after")
        assert await far.receive(100) == b"before"
        assert sim.now - start < 0.1
        assert await far.receive(100) == b"after"
        assert sim.now - start > blocked
        await world.clock.sleep(0)
        connection.try_send(b"done")
        file.sync_now()
        connection.try_send(b"never leaves")
        file.write_at(0, b"xxx")
        await sim.sleep(0.05)
        assert after_power_cut(sim, "keep") == b"new"  # it died before it came to that write
        assert await far.receive(100) == b"done"
        with sim.world_for("b").clock.timeout(5) as scope:
            await far.receive(100)
        assert scope.cancelled_caught

    in_world(body)


def test_a_process_that_is_killed_while_it_blocks_has_not_sent_what_was_to_follow() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        file = await durable_file(world, b"old")
        listener = await sim.world_for("b").net.listen("b", 80)
        connection = await world.net.connect("b", 80)
        far = await listener.accept()
        sim.host("a").disk.slow_factor = 1000
        connection.try_send(b"before")
        file.sync_now()
        connection.try_send(b"after")
        await sim.sleep(0.05)
        sim.kill("a")
        assert [await far.receive(100), await far.receive(100)] == [b"before", b""]

    in_world(body)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_crash_can_be_placed_just_before_a_sync_completes(in_place: bool) -> None:
    reached: list[str] = []
    found: list[bytes] = []

    async def program(world: World) -> None:
        file = await durable_file(world, b"old")
        file.write_at(0, b"new")
        world.probe.point("dirty")
        if in_place:
            file.sync_now()
        else:
            await file.sync()
        reached.append("unreachable")

    async def body(sim: SimWorld) -> None:
        sim.kill("a")
        sim.host("a").arm("sync", 2)
        await sim.start("a", program).done.wait()
        assert sim.host("a").points == {"dirty": 1}
        assert not sim.host("a").up
        sim.programs["a"] = idle
        sim.restart("a")
        found.append(sim.world_for("a").disk.read("/d/f"))

    for seed in range(12):
        in_world(body, seed)
    assert not reached
    assert set(found) == {b"old", b"new"}


def test_a_full_disk_says_so_and_a_failing_one_too() -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"x" * 100)
        disk = sim.host("a").disk
        disk.capacity = 150
        file.write_at(100, b"y" * 50)
        with pytest.raises(OSError) as caught:
            file.write_at(150, b"z")
        assert caught.value.errno == errno.ENOSPC
        disk.capacity = None
        disk.error_rate = 1.0
        await sim.sleep(1)
        for action in (lambda: file.write_at(0, b"q"), lambda: file.read_at(0, 1), file.sync_now):
            with pytest.raises(OSError) as caught:
                action()
            assert caught.value.errno == errno.EIO

    in_world(body)


def test_bit_rot_and_a_lost_tail_survive_a_restart() -> None:
    async def body(sim: SimWorld) -> None:
        await durable_file(sim.world_for("a"), b"\x00\x00\x00")
        inode = sim.host("a").disk.files["/d/f"]
        inode.flip(9)
        inode.cut_tail(1)
        assert after_power_cut(sim, "lose") == b"\x00\x02"

    in_world(body)


def test_preallocated_zeros_cost_no_memory() -> None:
    async def body(sim: SimWorld) -> None:
        file = await durable_file(sim.world_for("a"), b"x")
        file.allocate(1 << 40)
        await file.sync()
        assert file.size() == 1 << 40
        assert file.read_at(1 << 39, 3) == b"\0\0\0"
        sim.crash("a", "lose")
        sim.restart("a")
        assert sim.world_for("a").disk.open("/d/f").size() == 1 << 40

    in_world(body)


def test_a_lock_is_let_go_when_its_process_dies() -> None:
    async def body(sim: SimWorld) -> None:
        world = sim.world_for("a")
        world.disk.make_dirs("/d")
        world.disk.lock("/d/lock")
        with pytest.raises(BlockingIOError):
            world.disk.lock("/d/lock")
        sim.kill("a")
        sim.restart("a")
        sim.world_for("a").disk.lock("/d/lock").release()

    in_world(body)


def test_a_wiped_disk_is_empty() -> None:
    async def body(sim: SimWorld) -> None:
        await durable_file(sim.world_for("a"), b"x")
        sim.host("a").disk.wipe()
        assert not sim.world_for("a").disk.exists("/d")

    in_world(body)
