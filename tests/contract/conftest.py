"""One suite, two machines: each test gets a ``Machine`` and runs its async body on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tercet.net.real import real_world
from tercet.net.world import World
from tercet.sim.contract import run_in_world

Body = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Machine:
    """Where a test runs: ``run`` its body there; ``folder`` exists for its files."""

    run: Callable[[Body], None]
    folder: str


def _on_the_real_machine(body: Body) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            await body(real_world("real", seed=1, log_level="fatal", environment={}))

    trio.run(main)


@pytest.fixture(params=["real", "simulated"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if request.param == "real":
        return Machine(_on_the_real_machine, str(tmp_path))
    return Machine(lambda body: run_in_world(body, seed=11), "/")
