"""Automatic compaction by etcd's rules, in virtual time."""

from __future__ import annotations

import trio

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.compactor import Compactor
from tercet.net.world import World
from tercet.sim.contract import run_in_world

HOUR = 3600.0


class Member:
    """A member whose revision grows by one a second, and that notes what it compacts and when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = Machine()
        self.is_leader = True
        self.fails = False
        self.compacted: list[tuple[float, int]] = []

    async def grow(self) -> None:
        while True:
            await self.world.clock.sleep(1.0)
            self.machine.store.revision += 1

    async def propose_and_wait(self, kind: int, payload: bytes) -> object:
        assert kind == Command.COMPACTION
        if self.fails:
            raise rpc_errors.TIMEOUT.with_traceback(None)
        revision = rpc.CompactionRequest.FromString(payload).revision
        self.compacted.append((round(self.world.clock.monotonic()), revision))
        return None


def run(
    mode: str, retention: float, seconds: float, *, leads_from: float = 0.0, fails: bool = False
) -> Member:
    """Run a compactor for so long; (second, revision) of what it did, seconds counted from its start."""

    async def body(world: World) -> Member:
        member = Member(world)
        member.is_leader, member.fails = leads_from == 0.0, fails
        began = world.clock.monotonic()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(member.grow)
            nursery.start_soon(Compactor(world, member, mode, retention).run)
            await world.clock.sleep(leads_from)
            member.is_leader, member.fails = True, False
            await world.clock.sleep(seconds - leads_from)
            nursery.cancel_scope.cancel()
        member.compacted = [(round(at - began), revision) for at, revision in member.compacted]
        return member

    return run_in_world(body)


def test_a_period_keeps_that_much_history_and_compacts_once_per_period() -> None:
    done = run("periodic", 600.0, 2500.0).compacted
    assert [at for at, _ in done] == [600, 1200, 1800, 2400]
    assert all(abs(at - revision - 600) <= 62 for at, revision in done)


def test_a_long_period_waits_once_and_then_compacts_every_hour() -> None:
    done = run("periodic", 3 * HOUR, 6.5 * HOUR).compacted
    assert [at / HOUR for at, _ in done] == [3, 4, 5, 6]
    assert all(abs(at - revision - 3 * HOUR) <= 362 for at, revision in done)


def test_a_number_of_revisions_is_looked_at_every_five_minutes() -> None:
    done = run("revision", 1000, 2000.0).compacted
    assert [at for at, _ in done] == [1200, 1500, 1800]
    assert all(abs(at - revision - 1000) <= 2 for at, revision in done)


def test_only_the_leader_compacts_and_failures_are_tried_again() -> None:
    assert run("revision", 100, 1000.0, leads_from=650.0).compacted[0][0] == 900
    assert run("periodic", 600.0, 1000.0, leads_from=700.0).compacted[0][0] in (720, 721)
    assert run("periodic", 600.0, 1000.0, leads_from=650.0, fails=True).compacted[0][0] == 660


def test_no_retention_means_no_compaction() -> None:
    assert run("periodic", 0.0, 10 * HOUR).compacted == []
