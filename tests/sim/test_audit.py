"""No program in a world reaches the real machine without being named."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable

import pytest
import trio

from tercet.net.world import World
from tercet.sim.audit import Escape, harness
from tercet.sim.contract import run_in_world
from tercet.sim.world import SimWorld

ESCAPES: dict[str, Callable[[], object]] = {
    "open": lambda: open("/etc/hostname"),  # noqa: SIM115
    "os.listdir": lambda: os.listdir("/"),
    "os.mkdir": lambda: os.mkdir("/nonexistent/x"),
    "socket": lambda: socket.socket(),
    "socket.getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "subprocess.Popen": lambda: subprocess.Popen(["true"]),
    "threading.Thread.start": lambda: threading.Thread(target=print).start(),
    "time.time": lambda: time.time(),
    "time.monotonic": lambda: time.monotonic(),
    "time.sleep": lambda: time.sleep(0),
    "os.urandom": lambda: os.urandom(8),
    "os.urandom (uuid)": lambda: uuid.uuid4(),
    "os.urandom (SystemRandom)": lambda: random.SystemRandom().getrandbits(16),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_an_escape_is_refused_and_named(name: str) -> None:
    async def program(world: World) -> None:
        ESCAPES[name]()

    with pytest.raises(Escape, match=rf"{name.split(' ')[0]}.* called from .*:\d+"):
        run_in_world(program)


def test_threads_of_trio_are_an_escape() -> None:
    async def program(world: World) -> None:
        await trio.to_thread.run_sync(print)

    with pytest.raises(Escape, match=r"trio.to_thread.run_sync called from"):
        run_in_world(program)


def test_an_escape_that_is_swallowed_fails_the_run_all_the_same() -> None:
    async def program(world: World) -> str:
        try:
            time.time()
        except RuntimeError:
            return "went on"
        return "unreachable"

    with pytest.raises(Escape, match=r"time.time called from"):
        run_in_world(program)


def test_importing_a_module_is_allowed() -> None:
    async def program(world: World) -> str:
        sys.modules.pop("colorsys", None)
        import colorsys

        return colorsys.__name__

    assert run_in_world(program) == "colorsys"


def test_the_harness_may_touch_the_machine() -> None:
    async def program(world: World) -> bool:
        with harness():
            return time.time() > 0 and bool(os.listdir("/"))

    assert run_in_world(program)


def test_outside_a_run_nothing_is_refused() -> None:
    async def program(world: World) -> None:
        await world.clock.sleep(1)

    run_in_world(program)
    assert time.time() > 0
    assert os.urandom(1)


def test_entropy_can_be_seeded_for_third_party_code() -> None:
    def draw(seed: int) -> str:
        sim = SimWorld(seed, seeded_entropy=True)

        async def main() -> str:
            return str(uuid.uuid4())

        return sim.run(main)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
