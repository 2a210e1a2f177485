"""The election service: who leads, what it proclaims, and who watches it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from google.protobuf.message import Message

from tercet.core.wire.proto import election_pb2 as electionpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeStream

NOT_LEADER = (2, "election: not leader")


class Elections:
    """The service of a desk with leases 1, 2 and 3."""

    def __init__(self, desk: Desk, nursery: trio.Nursery) -> None:
        self.desk = desk
        self._nursery = nursery
        for lease in (1, 2, 3):
            desk.ask("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=100, ID=lease))

    def open(self, method: str, request: Message) -> FakeStream:
        stream = self.desk.open(self._nursery, f"/v3electionpb.Election/{method}")
        stream.request(request)
        return stream

    def campaign(self, lease: int, value: bytes = b"v", name: bytes = b"e") -> FakeStream:
        return self.open("Campaign", electionpb.CampaignRequest(name=name, lease=lease, value=value))

    async def elect(self, lease: int, value: bytes = b"v") -> Any:
        return (await self.campaign(lease, value).response()).leader

    async def proclaim(self, leader: Any, value: bytes) -> Any:
        stream = self.open("Proclaim", electionpb.ProclaimRequest(leader=leader, value=value))
        await stream.finished.wait()
        return (await stream.response()).header.revision if stream.unread() else stream.status

    async def resign(self, leader: Any) -> int:
        revision: int = (
            await self.open("Resign", electionpb.ResignRequest(leader=leader)).response()
        ).header.revision
        return revision

    async def leader(self) -> Any:
        stream = self.open("Leader", electionpb.LeaderRequest(name=b"e"))
        await stream.finished.wait()
        return (await stream.response()).kv if stream.unread() else stream.status

    def observe(self) -> FakeStream:
        return self.open("Observe", electionpb.LeaderRequest(name=b"e"))


Test = Callable[[Elections], Awaitable[None]]


def with_elections(test: Test) -> None:
    """Run a test while the services run."""

    async def run(world: World) -> None:
        desk = Desk(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.run)
            await world.clock.sleep(0.01)
            await test(Elections(desk, nursery))
            nursery.cancel_scope.cancel()

    run_in_world(run)


async def told(stream: FakeStream) -> tuple[int, bytes, bytes]:
    """What an observer hears next: revision, key, value."""
    response = await stream.response()
    assert response.header.member_id == 101
    return response.header.revision, response.kv.key, response.kv.value


def test_a_leader_is_elected_proclaims_and_resigns() -> None:
    async def test(elections: Elections) -> None:
        assert await elections.leader() == (2, "election: no leader")
        answer = await elections.campaign(1, b"a").response()
        assert answer.header.revision == 2
        leader = answer.leader
        assert (leader.name, leader.key, leader.rev, leader.lease) == (b"e", b"e/1", 2, 1)
        assert await elections.proclaim(leader, b"b") == 3
        kv = await elections.leader()
        assert (kv.value, kv.lease, kv.version) == (b"b", 1, 2)
        assert await elections.resign(leader) == 4
        assert await elections.leader() == (2, "election: no leader")

    with_elections(test)


def test_a_leader_that_was_replaced_changes_nothing() -> None:
    async def test(elections: Elections) -> None:
        old = await elections.elect(1)
        await elections.resign(old)
        assert await elections.proclaim(old, b"x") == NOT_LEADER
        new = await elections.elect(1)  # the same key, created later
        assert await elections.proclaim(old, b"x") == NOT_LEADER
        assert await elections.resign(old) == 4
        assert (await elections.leader()).create_revision == new.rev == 4

    with_elections(test)


def test_a_request_without_a_leader_key_is_refused() -> None:
    async def test(elections: Elections) -> None:
        expected = (2, '"leader" field must be provided')
        assert await elections.proclaim(None, b"x") == expected
        stream = elections.open("Resign", electionpb.ResignRequest())
        await stream.finished.wait()
        assert stream.status == expected

    with_elections(test)


def test_candidates_lead_in_order_and_one_without_a_session_never() -> None:
    async def test(elections: Elections) -> None:
        first = await elections.elect(2)
        waiting = elections.campaign(3)
        await elections.desk.world.clock.sleep(0.01)
        last = elections.campaign(1)
        await elections.desk.world.clock.sleep(0.01)
        assert (waiting.unread(), last.unread()) == (0, 0)
        elections.desk.ask("Lease/LeaseRevoke", rpc.LeaseRevokeRequest(ID=3))
        await waiting.finished.wait()
        assert (waiting.status, waiting.unread(), last.unread()) == (NOT_LEADER, 0, 0)
        await elections.resign(first)
        assert (await last.response()).leader.key == b"e/1"

    with_elections(test)


def test_a_candidate_that_comes_back_keeps_its_place_and_brings_a_new_value() -> None:
    async def test(elections: Elections) -> None:
        first = await elections.elect(1, b"a")
        again = await elections.elect(1, b"b")
        assert again == first
        assert (await elections.leader()).value == b"b"

    with_elections(test)


def test_a_proclamation_without_a_lease_hangs_on_a_new_one() -> None:
    async def test(elections: Elections) -> None:
        leader = await elections.elect(1)
        leader.lease = 0
        await elections.proclaim(leader, b"b")
        lease = (await elections.leader()).lease
        assert lease not in (0, 1) and lease in elections.desk.member.machine.lessor

    with_elections(test)


def test_an_observer_hears_of_every_leader_and_proclamation() -> None:
    async def test(elections: Elections) -> None:
        observer = elections.observe()
        await elections.desk.world.clock.sleep(0.01)
        assert observer.unread() == 0
        first = await elections.elect(1, b"a")
        assert await told(observer) == (2, b"e/1", b"a")
        next_one = elections.campaign(2, b"b")
        await elections.proclaim(first, b"a2")
        assert await told(observer) == (4, b"e/1", b"a2")
        late = elections.observe()
        assert await told(late) == (4, b"e/1", b"a2")
        await elections.resign(first)
        await next_one.response()
        for stream in (observer, late):
            assert await told(stream) == (5, b"e/2", b"b")
            assert stream.status is None

    with_elections(test)


def test_an_observer_misses_no_proclamation_of_a_burst() -> None:
    async def test(elections: Elections) -> None:
        leader = await elections.elect(1, b"0")
        observer = elections.observe()
        await told(observer)
        for number in range(1, 50):  # no turn for the observer in between
            elections.desk.put(leader.key, b"%d" % number, lease=1)
        assert [(await told(observer))[2] for _ in range(49)] == [b"%d" % n for n in range(1, 50)]

    with_elections(test)


def test_an_observer_ends_when_the_past_it_needs_is_compacted_or_the_member_stops() -> None:
    async def test(elections: Elections) -> None:
        leader = await elections.elect(1)
        behind = elections.observe()
        await told(behind)
        early = (2, "election: observe closed early")
        for _ in range(5):
            elections.desk.put(leader.key, lease=1)
        elections.desk.ask("KV/Compact", rpc.CompactionRequest(revision=6))
        await behind.finished.wait()
        assert behind.status == early
        observer = elections.observe()
        await told(observer)
        elections.desk.services.shut()
        await observer.finished.wait()
        assert observer.status == early

    with_elections(test)
