"""Power cuts at every single disk operation of a log's life, and again during its recovery."""

from __future__ import annotations

import pytest

from tercet.core.raft.types import Entry, HardState
from tercet.core.wal import Identity
from tercet.net.storage import Recovered, Storage
from tercet.net.world import World
from tercet.sim.world import SimWorld

ME = Identity(cluster_id=0xC1, member_id=0xA1)
SEGMENT = 4096
#: Value sizes of the batches, one entry each: several sectors, rotation, one larger than a segment.
SIZES = (10, 900, 0, 2500, 300, 1700, 6000, 20, 512, 480)

Log = tuple[Entry, ...]


def batch(number: int) -> tuple[HardState, Log]:
    """The ``number``-th append: every third one replaces the entry before it."""
    index = number - number // 3
    return HardState(number, 0xA1, index - 1), (Entry(number, index, bytes([number]) * SIZES[number - 1]),)


def after(appended: int) -> Log:
    """The log after so many appends."""
    entries: Log = ()
    for number in range(1, appended + 1):
        _, new = batch(number)
        entries = (*entries[: new[0].index - 1], *new)
    return entries


class Life:
    """One host whose storage is opened and appended to until the power fails."""

    def __init__(self, seed: int) -> None:
        self.sim = SimWorld(seed, ("n",))
        self.acknowledged = 0
        self.recovered: Recovered | None = None

    async def append_all(self, world: World) -> None:
        storage, _ = await Storage.open(world, "/data", ME, segment_bytes=SEGMENT)
        for number in range(1, len(SIZES) + 1):
            if number % 4 == 0:
                storage.append_now(*batch(number))
                await world.clock.sleep(1e-6)  # the loop stood still until now: nobody has heard of it
            else:
                await storage.append(*batch(number))
            self.acknowledged = number
        storage.close()

    async def open_only(self, world: World) -> None:
        storage, self.recovered = await Storage.open(world, "/data", ME, segment_bytes=SEGMENT)
        storage.close()

    async def run(self, operation: str, crash_at: int, crash_again_at: int) -> bool:
        """Crash at that operation of the first life and of the recovery; whether the first crash happened.

        ``disk`` crashes before an operation, ``sync`` at the last moment of a sync.
        """
        host = self.sim.host("n")
        host.arm(operation, crash_at)
        await self.sim.start("n", self.append_all).done.wait()
        crashed = self.acknowledged < len(SIZES)
        self.sim.crash("n", "lose")  # a clean end loses nothing either
        if crash_again_at:
            host.arm("disk", crash_again_at)
            await self.sim.start("n", self.open_only).done.wait()
            self.sim.crash("n")
        await self.sim.start("n", self.open_only).done.wait()
        first = self.recovered
        await self.sim.start("n", self.open_only).done.wait()
        assert first is not None and self.recovered is not None
        assert (first.hard_state, first.entries) == (self.recovered.hard_state, self.recovered.entries)
        assert self.recovered.torn_bytes == 0  # cut by the first of the two
        self.recovered = first
        return crashed


@pytest.mark.parametrize("operation", ["disk", "sync"])
@pytest.mark.parametrize("crash_again_at", range(9))
def test_nothing_acknowledged_is_lost_whenever_the_power_fails(operation: str, crash_again_at: int) -> None:
    crashes = 0
    for crash_at in range(1, 400):
        life = Life(seed=1000 * crash_again_at + crash_at)
        crashed = life.sim.run(life.run, operation, crash_at, crash_again_at)
        assert life.sim.failures == []
        assert life.recovered is not None
        appended = life.acknowledged
        allowed = [after(appended), after(min(appended + 1, len(SIZES)))]
        assert life.recovered.entries in allowed
        if life.recovered.entries:
            number = life.recovered.entries[-1].term
            assert life.recovered.hard_state == batch(number)[0]
        crashes += crashed
        if not crashed:
            break
    else:
        raise AssertionError("the first life never ended without a crash")
    assert crashes > {"disk": 40, "sync": 10}[operation]


def test_the_power_cuts_of_these_tests_tear_records() -> None:
    """The tests above would prove little if nothing were ever torn."""
    torn = 0
    for seed in range(120):
        life = Life(seed)
        life.sim.run(life.run, "sync", 1 + seed % 12, 0)
        assert life.recovered is not None
        assert life.recovered.entries in (after(life.acknowledged), after(life.acknowledged + 1))
        torn += life.recovered.torn_bytes > 0
    assert torn >= 10


def test_what_a_killed_program_left_in_the_page_cache_is_durable_once_it_has_been_recovered() -> None:
    """A member that acts on a recovered record must find it again after a power cut (etcd 14143)."""
    life = Life(seed=5)

    async def run() -> tuple[Recovered | None, Recovered | None]:
        sim = life.sim
        sim.host("n").disk.slow_factor = 1000  # the first sync is still under way when the program dies
        sim.start("n", life.append_all)
        await sim.sleep(0.001)
        while not any(name.endswith(".wal") for name in sim.host("n").disk.files):
            await sim.sleep(0.1)
        await sim.sleep(0.01)
        sim.kill("n")
        sim.host("n").disk.slow_factor = 1
        await sim.start("n", life.open_only).done.wait()
        seen = life.recovered
        sim.crash("n", "lose")
        await sim.start("n", life.open_only).done.wait()
        return seen, life.recovered

    seen, found = life.sim.run(run)
    assert life.acknowledged == 0
    assert seen is not None and found is not None
    assert seen.entries == after(1)
    assert found.entries == seen.entries
