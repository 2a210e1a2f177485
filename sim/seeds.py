"""Make Trio's scheduler a function of a seed: the only module that touches Trio's private names.

Trio shuffles each batch of runnable tasks. Two private names of ``trio._core._run`` decide how: the flag
``_ALLOW_DETERMINISTIC_SCHEDULING`` (sort the batch by birth before shuffling) and the generator ``_r``.
Both are needed: without the flag, the order within a batch follows sets of objects, that is, memory
addresses. ``deterministic_scheduling`` sets both and puts them back; the first use in a process runs a
self-test, so that a Trio that has changed stops us loudly instead of making runs differ silently.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import trio
import trio._core._run as _trio_run

__all__ = ["SchedulerChanged", "deterministic_scheduling", "stream"]

_FLAG = "_ALLOW_DETERMINISTIC_SCHEDULING"
_RANDOM = "_r"
_checked = False


class SchedulerChanged(RuntimeError):
    """This Trio does not take its order from our seed; no simulation on it can be trusted."""


def stream(seed: int, purpose: str, node: str = "") -> random.Random:
    """The named random stream of one purpose and node; independent of every other stream.

    Text seeds draw alike across hash seeds and Python versions.
    """
    return random.Random(f"{seed}/{purpose}/{node}")


@contextmanager
def deterministic_scheduling(seed: int) -> Iterator[None]:
    """Let ``trio.run`` inside the body order its tasks by ``seed`` alone.

    Raises:
        SchedulerChanged: Trio lacks the names or does not obey them. Nothing is left changed.
    """
    global _checked
    if not _checked:
        _self_test()
        _checked = True
    with _seeded(_Order(f"{seed}/scheduler/")):
        yield


class _Order(random.Random):
    """Most batches hold one task: they need no shuffling (nor any draw)."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        if len(x) > 1:
            super().shuffle(x)


@contextmanager
def _seeded(generator: random.Random) -> Iterator[None]:
    module: Any = _trio_run
    saved = getattr(module, _FLAG), getattr(module, _RANDOM)
    setattr(module, _FLAG, True)
    setattr(module, _RANDOM, generator)
    try:
        yield
    finally:
        setattr(module, _FLAG, saved[0])
        setattr(module, _RANDOM, saved[1])


def _self_test() -> None:
    module: Any = _trio_run
    generator = getattr(module, _RANDOM, None)
    if not isinstance(getattr(module, _FLAG, None), bool) or not hasattr(generator, "shuffle"):
        raise SchedulerChanged(f"{_trio()} has no {_FLAG} and {_RANDOM} in trio._core._run")
    first, again, other = (_sample_order(text) for text in ("self-test", "self-test", "another"))
    if first != again:
        raise SchedulerChanged(f"{_trio()}: one seed gave two orders, {first} and {again}")
    if first == other:
        raise SchedulerChanged(f"{_trio()}: the seed does not change the order {first}")


def _trio() -> str:
    return f"trio {version('trio')}"


def _sample_order(text: str) -> list[int]:
    """The order in which forty tasks run that one event wakes (a set of tasks inside Trio)."""
    order: list[int] = []

    async def wait(number: int, event: trio.Event) -> None:
        await event.wait()
        order.append(number)

    async def main() -> None:
        event = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(wait, number, event)
            await trio.lowlevel.checkpoint()
            event.set()

    with _seeded(random.Random(text)):
        trio.run(main)
    return order
