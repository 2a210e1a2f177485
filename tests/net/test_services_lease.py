"""Leases as clients see them, and the leader that counts their time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tercet.core import rpc_errors
from tercet.core.machine import Command
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeCall

Test = Callable[[Desk, trio.Nursery], Awaitable[None]]


def with_desk(test: Test, **options: Any) -> None:
    """Run a test while the services run."""

    async def run(world: World) -> None:
        desk = Desk(world, **options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.run)
            await world.clock.sleep(0.01)
            await test(desk, nursery)
            nursery.cancel_scope.cancel()

    run_in_world(run)


def grant(desk: Desk, ttl: int, lease_id: int = 0) -> rpc.LeaseGrantResponse:
    request = rpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
    response: rpc.LeaseGrantResponse = desk.ask("Lease/LeaseGrant", request)
    return response


async def answered(desk: Desk, call: FakeCall, within: float = 20) -> FakeCall:
    for _ in range(int(within / 0.05)):
        if call.status is not None:
            return call
        await desk.world.clock.sleep(0.05)
    raise AssertionError("no answer")


async def time_to_live(desk: Desk, lease_id: int, *, keys: bool = False) -> rpc.LeaseTimeToLiveResponse:
    call = desk.call("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys))
    await answered(desk, call)
    assert call.status == (0, "")
    return rpc.LeaseTimeToLiveResponse.FromString(call.answer)


def exists(desk: Desk, key: bytes) -> bool:
    response: rpc.RangeResponse = desk.ask("KV/Range", rpc.RangeRequest(key=key))
    return response.count == 1


def test_the_member_chooses_an_id_and_raises_short_ttls() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        first, second = grant(desk, 0), grant(desk, -5)
        assert first.ID > 0 and second.ID > 0 and first.ID != second.ID
        assert (first.TTL, second.TTL, first.header.revision) == (2, 2, 1)
        assert grant(desk, 100, 777).ID == 777
        call = desk.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=100, ID=777))
        assert call.status == (9, "etcdserver: lease already exists")

    with_desk(test)


def test_an_expired_lease_takes_its_keys_with_it_and_not_too_early() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        lease = grant(desk, 5)
        desk.put(b"k", lease=lease.ID)
        await desk.world.clock.sleep(4.9)
        assert exists(desk, b"k")
        await desk.world.clock.sleep(0.7)
        assert not exists(desk, b"k")
        assert desk.member.machine.revision == 3
        assert (await time_to_live(desk, lease.ID)).TTL == -1

    with_desk(test)


def test_keeping_a_lease_alive_keeps_its_keys() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        lease = grant(desk, 3)
        desk.put(b"k", lease=lease.ID)
        stream = desk.open(nursery, "Lease/LeaseKeepAlive")
        for _ in range(10):
            stream.request(rpc.LeaseKeepAliveRequest(ID=lease.ID))
            response = await stream.response()
            assert (response.ID, response.TTL, response.header.revision) == (lease.ID, 3, 2)
            await desk.world.clock.sleep(2)
        assert exists(desk, b"k")
        await desk.world.clock.sleep(3)
        assert not exists(desk, b"k")
        stream.request(rpc.LeaseKeepAliveRequest(ID=lease.ID))
        assert (await stream.response()).TTL == 0
        stream.half_close()
        await stream.finished.wait()
        assert stream.status == (0, "")

    with_desk(test)


def test_time_to_live_tells_what_is_left_and_the_keys() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 100, 7)
        for key in (b"b", b"a"):
            desk.put(key, lease=7)
        await desk.world.clock.sleep(10.5)
        response = await time_to_live(desk, 7, keys=True)
        assert (response.ID, response.grantedTTL, list(response.keys)) == (7, 100, [b"a", b"b"])
        assert response.TTL == 89
        response = await time_to_live(desk, 8)
        assert (response.ID, response.TTL, response.grantedTTL) == (8, -1, 0)

    with_desk(test)


def test_leases_are_listed_by_their_ends_on_the_leader_and_by_id_elsewhere() -> None:
    async def test(desk: Desk, _: trio.Nursery) -> None:
        for lease_id, ttl in ((3, 50), (9, 20), (4, 100), (1, 50)):
            grant(desk, ttl, lease_id)
        await desk.world.clock.sleep(1)

        def listed() -> list[int]:
            response: rpc.LeaseLeasesResponse = desk.ask("Lease/LeaseLeases", rpc.LeaseLeasesRequest())
            return [lease.ID for lease in response.leases]

        assert listed() == [9, 1, 3, 4]
        desk.member.leader_id = 0
        assert listed() == [1, 3, 4, 9]

    with_desk(test)


def test_revoked_leases_are_gone_from_the_list() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 100, 7)
        grant(desk, 100, 5)
        listed = desk.ask("Lease/LeaseLeases", rpc.LeaseLeasesRequest())
        assert [lease.ID for lease in listed.leases] == [5, 7]
        desk.ask("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=7))
        call = desk.call("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=7))
        assert call.status == (5, "etcdserver: requested lease not found")

    with_desk(test)


def test_a_member_that_does_not_lead_expires_nothing() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 3, 7)
        desk.member.change_leader(999)
        await desk.world.clock.sleep(30)
        assert Command.LEASE_EXPIRE not in desk.member.proposed

    with_desk(test)


def test_a_new_leader_gives_every_lease_its_time_and_an_election_timeout() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 5, 7)
        desk.member.change_leader(999)
        await desk.world.clock.sleep(4)
        desk.member.change_leader(101)
        assert (await time_to_live(desk, 7)).TTL == 5
        await desk.world.clock.sleep(5.8)
        assert 7 in desk.member.machine.lessor
        await desk.world.clock.sleep(1)
        assert 7 not in desk.member.machine.lessor

    with_desk(test)


def test_a_lease_that_the_new_leader_grants_first_of_all_gets_its_own_time_only() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 5, 7)
        desk.member.change_leader(999)
        desk.member.change_leader(101, applied=False)
        grant(desk, 5, 8)
        await desk.world.clock.sleep(0.1)
        assert (await time_to_live(desk, 7)).TTL == 5
        assert (await time_to_live(desk, 8)).TTL == 4
        await desk.world.clock.sleep(5.5)
        assert 8 not in desk.member.machine.lessor
        assert 7 in desk.member.machine.lessor

    with_desk(test)


def test_checkpoints_bound_a_long_lease_over_changes_of_leader() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1000, 7)
        for _ in range(3):
            await desk.world.clock.sleep(301)
            desk.member.change_leader(999)
            desk.member.change_leader(101)
        assert (await time_to_live(desk, 7)).TTL < 200
        desk.member.proposed.clear()
        stream = desk.open(nursery, "Lease/LeaseKeepAlive")
        stream.request(rpc.LeaseKeepAliveRequest(ID=7))
        assert (await stream.response()).TTL == 1000
        lease = desk.member.machine.lessor.get(7)
        assert lease is not None and lease.remaining == 0
        assert desk.member.proposed == [Command.LEASE_CHECKPOINT]
        stream.request(rpc.LeaseKeepAliveRequest(ID=7))
        assert (await stream.response()).TTL == 1000
        assert len(desk.member.proposed) == 1

    with_desk(test, enable_lease_checkpoint=True)


def test_without_checkpoints_every_leader_starts_the_time_anew_as_etcd_does() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1000, 7)
        await desk.world.clock.sleep(901)
        desk.member.change_leader(999)
        desk.member.change_leader(101)
        assert (await time_to_live(desk, 7)).TTL == 1000
        assert Command.LEASE_CHECKPOINT not in desk.member.proposed

    with_desk(test)


def test_checkpoints_come_as_often_as_configured_for_leases_longer_than_that() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 20, 7)
        grant(desk, 5, 8)
        await desk.world.clock.sleep(5.8)
        long = desk.member.machine.lessor.get(7)
        assert long is not None and 14 <= long.remaining <= 16
        assert desk.member.machine.lessor.get(8) is None
        desk.member.change_leader(999)
        desk.member.change_leader(101)
        assert (await time_to_live(desk, 7)).TTL <= 17

    with_desk(test, enable_lease_checkpoint=True, lease_checkpoint_interval=5.0)


def test_a_new_leader_counts_only_once_it_has_applied_what_earlier_ones_promised() -> None:
    """Otherwise it would count from a checkpoint that a renewal, not yet applied here, has cleared."""

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 1000, 7)
        checkpoint = rpc.LeaseCheckpoint(ID=7, remaining_TTL=1)
        desk.member.propose(
            Command.LEASE_CHECKPOINT,
            rpc.LeaseCheckpointRequest(checkpoints=[checkpoint]).SerializeToString(),
            lambda _: None,
        )
        desk.member.change_leader(999)
        desk.member.change_leader(101, applied=False)
        await desk.world.clock.sleep(10)
        assert 7 in desk.member.machine.lessor
        cleared = rpc.LeaseCheckpointRequest(checkpoints=[rpc.LeaseCheckpoint(ID=7)])
        desk.member.propose(Command.LEASE_CHECKPOINT, cleared.SerializeToString(), lambda _: None)
        assert (await time_to_live(desk, 7)).TTL == 1000

    with_desk(test)


def test_a_renewal_that_cannot_be_confirmed_is_not_promised() -> None:
    """A leader that was cut off must not answer: its successor may have let the lease end."""

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        grant(desk, 60, 7)
        desk.member.read_error = rpc_errors.TIMEOUT
        stream = desk.open(nursery, "Lease/LeaseKeepAlive")
        stream.request(rpc.LeaseKeepAliveRequest(ID=7))
        await stream.finished.wait()
        assert stream.status == (14, "etcdserver: request timed out")

    with_desk(test)


def test_questions_wait_for_a_leader_and_are_asked_where_it_is() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        asked: list[str] = []

        async def elsewhere(method: str, payload: bytes) -> bytes:
            asked.append(method)
            if len(asked) < 3:
                raise rpc_errors.NOT_LEADER.with_traceback(None)
            return rpc.LeaseTimeToLiveResponse(ID=7, TTL=42, grantedTTL=60).SerializeToString()

        desk.member.change_leader(0)
        call = desk.call("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7))
        await desk.world.clock.sleep(1)
        assert call.status is None
        desk.member.elsewhere = elsewhere
        desk.member.change_leader(999)
        await answered(desk, call)
        response = rpc.LeaseTimeToLiveResponse.FromString(call.answer)
        assert (response.TTL, response.header.member_id) == (42, 101)
        assert asked == ["lease/time-to-live"] * 3

    with_desk(test)


def test_a_question_that_finds_no_leader_in_time_is_told_so() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        desk.member.change_leader(0)
        call = desk.call("Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=7))
        await answered(desk, call)
        assert call.status == (14, "etcdserver: request timed out")

    with_desk(test)
