"""Long reads take turns with everything else, and nothing is left behind when they end early."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from tercet.core.machine import Machine
from tercet.core.mvcc.hashing import hash_history
from tercet.core.mvcc.steps import PAGE_KEYS, Steps
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.turns import Turns, restarting
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeCall

KEYS = 3 * PAGE_KEYS
EVERYTHING = rpc.RangeRequest(key=b"\0", range_end=b"\0", serializable=True)


def with_many_keys(test: Callable[[Desk], Awaitable[None]]) -> None:
    """Run a test with the services of a member that has more keys than one page."""

    async def run(world: World) -> None:
        desk = Desk(world)
        for first in range(0, KEYS, 100):
            puts = [
                rpc.RequestOp(request_put=rpc.PutRequest(key=b"%06d" % number, value=b"old"))
                for number in range(first, first + 100)
            ]
            desk.ask("KV/Txn", rpc.TxnRequest(success=puts))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.turns.run)
            await test(desk)
            nursery.cancel_scope.cancel()

    run_in_world(run)


async def answered(call: FakeCall) -> None:
    while not call.answered:
        await trio.lowlevel.checkpoint()


def test_a_long_range_is_of_one_revision_though_puts_are_answered_meanwhile() -> None:
    async def test(desk: Desk) -> None:
        flushed: list[bool] = []
        call = desk.call("KV/Range", EVERYTHING)
        desk.services.turns.flush = lambda: flushed.append(call.answered)
        assert not call.answered
        revision = desk.put(b"%06d" % (KEYS - 1), b"new").header.revision
        desk.ask("KV/Compact", rpc.CompactionRequest(revision=revision))
        desk.member.machine.scrub(10 * KEYS)
        await answered(call)
        response = rpc.RangeResponse.FromString(call.answer)
        assert response.header.revision == revision - 1
        assert response.count == len(response.kvs) == KEYS
        assert {kv.value for kv in response.kvs} == {b"old"}
        assert flushed == [True], "the answer leaves at once"

    with_many_keys(test)


def test_a_short_range_of_a_large_store_is_answered_at_once() -> None:
    async def test(desk: Desk) -> None:
        limited = rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=10)
        assert len(desk.ask("KV/Range", limited).kvs) == 10
        counted = rpc.RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
        assert desk.ask("KV/Range", counted).count == KEYS

    with_many_keys(test)


def test_the_hash_of_a_long_history_takes_turns() -> None:
    async def test(desk: Desk) -> None:
        expected = hash_history(desk.member.machine.store, desk.member.machine.revision)
        call = desk.call("Maintenance/HashKV", rpc.HashKVRequest())
        assert not call.answered
        desk.put(b"meanwhile")
        await answered(call)
        assert rpc.HashKVResponse.FromString(call.answer).hash == expected

    with_many_keys(test)


def test_nothing_is_pinned_once_the_client_has_gone() -> None:
    async def test(desk: Desk) -> None:
        call = desk.call("KV/Range", EVERYTHING)
        desk.ask("KV/Compact", rpc.CompactionRequest(revision=desk.put(b"000000").header.revision))
        store = desk.member.machine.store
        assert not store.scrub(10 * KEYS)
        call.fail(1, "gone")
        await trio.testing.wait_all_tasks_blocked()
        assert store.scrub(10 * KEYS)

    with_many_keys(test)


def test_nothing_is_pinned_once_the_member_stops() -> None:
    async def run(world: World) -> None:
        closed: list[bool] = []

        def endless() -> Steps[None]:
            try:
                while True:
                    yield
            finally:
                closed.append(True)

        turns = Turns()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.run)
            turns.start(FakeCall(b"", {}), endless(), lambda _: None)
            await world.clock.sleep(0)
            nursery.cancel_scope.cancel()
        assert closed == [True]

    run_in_world(run)


def test_a_calculation_begins_anew_when_a_snapshot_has_replaced_the_state() -> None:
    machines = [Machine(), Machine()]
    present = machines[0]
    closed: list[Machine] = []

    def begin(machine: Machine) -> Steps[Machine]:
        try:
            yield
            yield
        finally:
            closed.append(machine)
        return machine

    steps = restarting(lambda: present, begin)
    next(steps)
    present = machines[1]
    next(steps)
    assert closed == [machines[0]]
    next(steps)
    try:
        next(steps)
    except StopIteration as end:
        assert end.value is machines[1]
    assert closed == machines
