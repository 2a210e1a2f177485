"""Run one async function inside a simulated world: how the contract tests use the simulated ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tercet.net.world import World

from .host import CURRENT_PROCESS
from .world import SimWorld

__all__ = ["run_in_world"]

T = TypeVar("T")


def run_in_world(
    async_fn: Callable[[World], Awaitable[T]], seed: int = 0, *, name: str = "node", full_log: bool = False
) -> T:
    """Run ``await async_fn(world)`` as the program of one simulated host and return its result.

    Not to be called inside ``trio.run``. Raises what the function raises, and see ``Engine.run``.
    """
    sim = SimWorld(seed, (name,), full_log=full_log)

    async def main() -> T:
        world = sim.world_for(name)
        process = sim.host(name).process
        assert process is not None
        CURRENT_PROCESS.set(process)
        return await async_fn(world)

    return sim.run(main)
