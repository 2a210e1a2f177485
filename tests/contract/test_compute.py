"""What the Compute port promises, on the real and on the simulated machine."""

from __future__ import annotations

import pytest
import trio

from tercet.net.world import World

from .conftest import Machine


def test_a_calculation_gives_its_result(machine: Machine) -> None:
    async def body(world: World) -> None:
        assert await world.compute.run(lambda: sum(range(1000))) == 499500

    machine.run(body)


def test_what_a_calculation_raises_comes_out(machine: Machine) -> None:
    async def body(world: World) -> None:
        with pytest.raises(ZeroDivisionError):
            await world.compute.run(lambda: 1 // 0)

    machine.run(body)


def test_calculations_at_once_all_come_to_an_end(machine: Machine) -> None:
    async def body(world: World) -> None:
        results: list[int] = []

        async def one(number: int) -> None:
            results.append(await world.compute.run(lambda: number * number))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(one, number)
        assert sorted(results) == [number * number for number in range(50)]

    machine.run(body)


def test_whoever_is_cancelled_does_not_start_a_calculation(machine: Machine) -> None:
    async def body(world: World) -> None:
        ran: list[int] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            await world.compute.run(lambda: ran.append(1))
        assert scope.cancelled_caught
        assert not ran

    machine.run(body)
