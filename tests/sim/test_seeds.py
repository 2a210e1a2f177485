"""The scheduler's order is a function of a seed, or we are told."""

from __future__ import annotations

import random

import pytest
import trio
import trio._core._run as trio_run

from tercet.sim import seeds


def _order(seed: int) -> list[int]:
    found: list[int] = []

    async def task(number: int) -> None:
        await trio.lowlevel.checkpoint()
        found.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(task, number)

    with seeds.deterministic_scheduling(seed):
        trio.run(main)
    return found


def test_one_seed_gives_one_order_and_another_seed_another() -> None:
    assert _order(1) == _order(1)
    assert _order(1) != _order(2)


def test_trio_is_as_before_afterwards() -> None:
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r
    _order(1)
    assert (trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r) == before


def test_a_trio_without_the_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "_FLAG", "_GONE")
    with pytest.raises(seeds.SchedulerChanged, match="_GONE"):
        seeds._self_test()


def test_a_trio_that_ignores_the_seed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random.Random, "shuffle", lambda self, batch: None)
    with pytest.raises(seeds.SchedulerChanged, match="does not change the order"):
        seeds._self_test()


def test_streams_are_independent_and_repeatable() -> None:
    first = [seeds.stream(1, "disk", "n1").random() for _ in range(2)]
    assert first[0] == first[1]
    assert seeds.stream(1, "disk", "n2").random() != first[0]
    assert seeds.stream(2, "disk", "n1").random() != first[0]
