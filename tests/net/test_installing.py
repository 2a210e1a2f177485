"""A snapshot takes the place of a log that is at rest: nothing is written while it does."""

from __future__ import annotations

import trio

from tercet.core.raft.types import Entry, HardState, SnapshotMeta
from tercet.net.installing import Installing
from tercet.net.persist import Persister
from tercet.net.world import Clock, World
from tercet.sim.contract import run_in_world


class Log:
    """A log whose writes take a second; notes when they begin and end."""

    def __init__(self, clock: Clock, seen: list[str]) -> None:
        self._clock = clock
        self._seen = seen

    async def append(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        self._seen.append(f"write {entries[0].index}")
        await self._clock.sleep(1.0)
        self._seen.append(f"written {entries[-1].index}")

    def append_now(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        raise AssertionError("nothing is written in place here")


async def _install_while_writing(world: World) -> list[str]:
    seen: list[str] = []
    persister = Persister(Log(world.clock, seen), world.clock, lambda batch: None)
    installing = Installing(world.clock, persister)

    def owe(index: int) -> None:
        persister.owe(None, (Entry(1, index),), 1)
        persister.start()

    async def install(meta: SnapshotMeta) -> None:
        assert installing.wanted
        seen.append(f"install {meta.index}")
        owe(meta.index + 1)
        assert not persister.may_sync_in_place()
        await world.clock.sleep(3.0)
        seen.append("installed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(persister.run)
        nursery.start_soon(installing.run, install)
        owe(1)
        await world.clock.sleep(0.5)
        owe(2)
        installing.want(SnapshotMeta(index=9, term=1, voters=(1,)))
        await world.clock.sleep(6.0)
        assert not installing.wanted
        persister.start()
        await world.clock.sleep(2.0)
        nursery.cancel_scope.cancel()
    return seen


def test_the_log_rests_before_and_while_a_snapshot_takes_its_place() -> None:
    assert run_in_world(_install_while_writing, seed=1) == [
        "write 1", "written 1", "write 2", "written 2", "install 9", "installed", "write 10", "written 10",
    ]  # fmt: skip
