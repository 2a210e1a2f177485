"""Steps that a blocked member takes ahead of time are judged at their time."""

from __future__ import annotations

import trio
from msgspec.structs import replace

from tercet.core import raft
from tercet.net.world import World
from tercet.sim.watch import Watch
from tercet.sim.world import SimWorld


async def idle(world: World) -> None:
    await trio.sleep_forever()


def story(*, killed: bool) -> tuple[list[str], list[str]]:
    """What is found half-way and at the end when a member that blocks for 10 ms goes wrong after 5."""
    sim = SimWorld(1, ("a",))
    watch = Watch(sim)
    right = raft.restart(raft.Config(node_id=1, voters=(1,), election_ticks=10, seed=1), raft.HardState())
    wrong = replace(right, commit_index=9)
    found: list[list[str]] = []

    async def main() -> None:
        sim.start("a", idle)
        watch("a", None, raft.NO_EFFECTS, right)
        sim.host("a").stall(10_000_000)
        watch("a", raft.Tick(), raft.NO_EFFECTS, wrong)
        await sim.sleep(0.005)
        found.append(list(watch.finish()))
        if killed:
            sim.kill("a")
        await sim.sleep(0.01)
        found.append(list(watch.finish()))

    sim.run(main)
    return found[0], found[1]


def test_a_step_counts_when_its_time_comes() -> None:
    before, after = story(killed=False)
    assert before == []
    assert len(after) == 1 and after[0].startswith("invariant broken on a: commit")


def test_a_step_that_its_member_did_not_live_to_take_never_counts() -> None:
    assert story(killed=True) == ([], [])
