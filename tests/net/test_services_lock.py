"""The lock service: one owner at a time, in order of arrival, and nobody whose session has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tercet.core import rpc_errors
from tercet.core.wire.proto import lock_pb2 as lockpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeStream

Test = Callable[[Desk, trio.Nursery], Awaitable[None]]


def with_desk(test: Test) -> None:
    """Run a test while the services run."""

    async def run(world: World) -> None:
        desk = Desk(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.run)
            await world.clock.sleep(0.01)
            await test(desk, nursery)
            nursery.cancel_scope.cancel()

    run_in_world(run)


def grant(desk: Desk, lease: int, ttl: int = 100) -> None:
    desk.ask("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl, ID=lease))


def keys(desk: Desk) -> list[bytes]:
    found = desk.ask("KV/Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"))
    return [kv.key for kv in found.kvs]


def lock(desk: Desk, nursery: trio.Nursery, lease: int, name: bytes = b"l") -> FakeStream:
    stream = desk.open(nursery, "/v3lockpb.Lock/Lock")
    stream.request(lockpb.LockRequest(name=name, lease=lease))
    return stream


def unlock(desk: Desk, nursery: trio.Nursery, key: bytes) -> FakeStream:
    stream = desk.open(nursery, "/v3lockpb.Lock/Unlock")
    stream.request(lockpb.UnlockRequest(key=key))
    return stream


async def status(stream: FakeStream) -> tuple[int, str] | None:
    await stream.finished.wait()
    return stream.status


async def settle(desk: Desk) -> None:
    """Let every task do what it can."""
    await desk.world.clock.sleep(0.01)


def test_a_free_lock_is_had_at_once_and_again_with_the_same_lease() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 777)
        for _ in range(2):
            stream = lock(desk, nursery, 777)
            answer = await stream.response()
            assert (answer.key, answer.header.revision, answer.header.member_id) == (b"l/309", 2, 101)
            assert await status(stream) == (0, "")
        answer = await unlock(desk, nursery, b"l/309").response()
        assert answer.header.revision == 3
        answer = await unlock(desk, nursery, b"l/309").response()
        assert answer.header.revision == 3
        assert keys(desk) == []

    with_desk(test)


def test_contenders_get_the_lock_in_order_of_arrival() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        streams = {}
        for lease in (9, 3, 5):  # neither by key nor by lease
            grant(desk, lease)
            streams[lease] = lock(desk, nursery, lease)
            await settle(desk)
        for lease, revision in ((9, 2), (3, 5), (5, 6)):  # three keys are put, then one is deleted a time
            answer = await streams[lease].response()
            await settle(desk)
            assert (answer.key, answer.header.revision) == (b"l/%x" % lease, revision)
            assert [other.unread() for other in streams.values()] == [0, 0, 0]
            await unlock(desk, nursery, answer.key).response()

    with_desk(test)


def test_locks_of_other_names_are_other_locks() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1)
        for name in (b"l", b"l/1", b"l0", b""):
            assert (await lock(desk, nursery, 1, name).response()).key == name + b"/1"

    with_desk(test)


def test_a_lock_without_a_lease_gets_one_of_a_minute() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        answer = await lock(desk, nursery, 0).response()
        (lease,) = desk.ask("Lease/LeaseLeases", rpc.LeaseLeasesRequest()).leases
        assert answer.key == b"l/%x" % lease.ID
        await desk.world.clock.sleep(59)
        assert keys(desk) == [answer.key]
        await desk.world.clock.sleep(2)
        assert keys(desk) == []

    with_desk(test)


def test_errors_have_etcds_words_and_no_status_of_their_own() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        expected = (2, "etcdserver: requested lease not found")
        assert await status(lock(desk, nursery, 999)) == expected
        assert await status(unlock(desk, nursery, b"")) == (2, "etcdserver: key is not provided")
        garbage = desk.open(nursery, "/v3lockpb.Lock/Lock")
        garbage.half_close()
        assert (await status(garbage) or (0,))[0] == 13

    with_desk(test)


def test_a_session_that_ends_while_waiting_never_gets_the_lock() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1)
        grant(desk, 2, ttl=3)
        await lock(desk, nursery, 1).response()
        waiting = lock(desk, nursery, 2)
        await desk.world.clock.sleep(4)  # the owner still has it
        assert await status(waiting) == (2, "mutex: session is expired")
        assert (waiting.unread(), keys(desk)) == (0, [b"l/1"])

    with_desk(test)


def test_the_lease_is_looked_at_after_the_wait() -> None:
    """The owner goes and the contender's lease with it, before the contender comes to look."""

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for same_key_again in (False, True):
            grant(desk, 1)
            grant(desk, 2)
            await lock(desk, nursery, 1).response()
            waiting = lock(desk, nursery, 2)
            await settle(desk)
            desk.ask("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"l/1"))
            desk.ask("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=2))
            if same_key_again:  # another session's, though it has the name
                desk.put(b"l/2")
            assert await status(waiting) == (2, "mutex: session is expired")
            desk.ask("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=1))

    with_desk(test)


def test_a_contender_whose_client_goes_makes_room() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for lease in (1, 2, 3):
            grant(desk, lease)
        await lock(desk, nursery, 1).response()
        async with trio.open_nursery() as clients:
            lock(desk, clients, 2)
            await settle(desk)
            last = lock(desk, nursery, 3)
            await settle(desk)
            assert keys(desk) == [b"l/1", b"l/2", b"l/3"]
            clients.cancel_scope.cancel()
        assert keys(desk) == [b"l/1", b"l/3"]
        await unlock(desk, nursery, b"l/1").response()
        assert (await last.response()).key == b"l/3"

    with_desk(test)


def test_a_last_look_that_fails_gives_no_lock_and_makes_room() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1)
        grant(desk, 2)
        await lock(desk, nursery, 1).response()
        waiting = lock(desk, nursery, 2)
        await settle(desk)
        desk.member.read_error = rpc_errors.TIMEOUT
        await unlock(desk, nursery, b"l/1").response()
        assert await status(waiting) == (2, "etcdserver: request timed out")
        desk.member.read_error = None
        assert keys(desk) == []

    with_desk(test)


def test_a_member_that_stops_lets_nobody_wait() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1)
        grant(desk, 2)
        await lock(desk, nursery, 1).response()
        waiting = lock(desk, nursery, 2)
        await settle(desk)
        desk.services.shut()
        assert await status(waiting) == (2, "etcdserver: server stopped")
        late = lock(desk, nursery, 2)
        assert await status(late) == (2, "etcdserver: server stopped")

    with_desk(test)


def test_applying_costs_nothing_while_nobody_waits() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        before = len(desk.member.subscribers)
        grant(desk, 1)
        grant(desk, 2)
        await lock(desk, nursery, 1).response()
        assert len(desk.member.subscribers) == before
        waiting = lock(desk, nursery, 2)
        await settle(desk)
        assert len(desk.member.subscribers) == before + 1
        await unlock(desk, nursery, b"l/1").response()
        await waiting.response()
        assert len(desk.member.subscribers) == before

    with_desk(test)
