"""What a member takes no more of while too much waits, as clients see it: whole simulated clusters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from tercet.core.errors import OutcomeUnknown
from tercet.core.rpc_errors import RpcError, Status
from tercet.net import persist
from tercet.net.client import Client
from tercet.sim.cluster import Cluster
from tercet.sim.world import SimWorld

Test = Callable[[SimWorld, Cluster, str, list[str]], Awaitable[None]]

VALUE = bytes(1000)
SLOW_NS = 2_000_000_000  # of a sync: 1 to 3 s
USUAL_NS = 1_000_000
REFUSED = (Status.RESOURCE_EXHAUSTED, "etcdserver: too many requests")


@pytest.fixture(autouse=True)
def _no_sync_blocks_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member whose disk is slow goes on answering."""
    monkeypatch.setattr(persist, "SLOW_SYNC_SECONDS", 0.0)


def in_cluster(test: Test, **options: Any) -> None:
    """Run a test beside three members; it is told who leads and who follows."""
    sim = SimWorld(1, ())
    cluster = Cluster(sim, 3, options=options)

    async def main() -> None:
        cluster.start()
        while cluster.leader() is None:
            await sim.sleep(0.1)
        await sim.sleep(1)  # every member has told its name
        leader = cluster.leader()
        assert leader is not None
        await test(sim, cluster, leader, [name for name in cluster.names if name != leader])

    sim.run(main)
    assert [failure for failure in sim.failures if failure[1] in cluster.names] == []


@contextmanager
def slow_disks(sim: SimWorld, names: Sequence[str]) -> Iterator[None]:
    """For as long as the block lasts, these members' syncs take a second or more."""
    for name in names:
        sim.host(name).disk.sync_latency_ns = SLOW_NS
    yield
    for name in names:
        sim.host(name).disk.sync_latency_ns = USUAL_NS


def url(name: str) -> tuple[str]:
    return (f"http://{name}:2379",)


class Puts:
    """Puts one after another, none of which waits for the one before; what came of each, and when."""

    def __init__(self, sim: SimWorld, client: Client) -> None:
        self.sim = sim
        self.client = client
        self.done: list[int] = []
        self.refused: dict[int, tuple[int, str]] = {}
        self.slowest_refusal = 0.0

    async def run(self, nursery: trio.Nursery, numbers: range) -> None:
        for number in numbers:
            nursery.start_soon(self._put, number)
            await self.sim.sleep(0.02)

    async def _put(self, number: int) -> None:
        asked = self.sim.now
        try:
            await self.client.put(b"%d" % number, VALUE)
            self.done.append(number)
        except RpcError as error:
            self.refused[number] = (error.code, error.message)
            self.slowest_refusal = max(self.slowest_refusal, self.sim.now - asked)

    async def check(self, took: range, total: int) -> None:
        """So many were taken, and happened in the end; the others were refused at once, and did not."""
        assert len(self.done) in took
        assert sorted([*self.done, *self.refused]) == list(range(total))
        assert set(self.refused.values()) <= {REFUSED}
        assert self.slowest_refusal < 0.1
        for number in range(total):
            there = (await self.client.get(b"%d" % number)).kvs
            assert bool(there) == (number in self.done), number


def test_the_client_of_a_leader_that_cannot_commit_is_told_that_it_asks_too_much() -> None:
    """The followers answer heartbeats, so it leads on, but their disks do not."""

    async def test(sim: SimWorld, cluster: Cluster, leader: str, others: list[str]) -> None:
        def uncommitted() -> int:
            leadership = cluster.states[leader].leadership
            assert leadership is not None
            return leadership.uncommitted_bytes

        cluster.nodes[leader].limits.waiting_bytes = 10_000  # what was refused does not wait
        async with cluster.client("c1", url(leader)) as client:
            puts = Puts(sim, client)
            async with trio.open_nursery() as nursery:
                with slow_disks(sim, others):
                    await puts.run(nursery, range(20))
                    assert len(puts.refused) == 16 and puts.done == []
                    assert 4000 < uncommitted() <= 5000
            await puts.check(range(4, 5), 20)
            assert uncommitted() == 0
            assert cluster.nodes[leader].failed_proposals == 16
            assert cluster.leader() == leader
            await client.put(b"k", VALUE)

    in_cluster(test, max_uncommitted_bytes=5000)


def test_what_a_follower_forwards_beyond_that_runs_out_of_time_and_never_happens() -> None:
    """As in etcd: nobody tells the follower."""

    async def test(sim: SimWorld, cluster: Cluster, leader: str, others: list[str]) -> None:
        async with cluster.client("c1", url(leader)) as client, cluster.client("c2", url(others[0])) as there:
            puts = Puts(sim, client)
            async with trio.open_nursery() as nursery:
                with slow_disks(sim, others):
                    await puts.run(nursery, range(6))
                    with pytest.raises(OutcomeUnknown):
                        await there.put(b"forwarded", VALUE, timeout=0.5)
            await sim.sleep(5)
            assert (await client.get(b"forwarded")).kvs == ()
            await there.put(b"forwarded", VALUE)

    in_cluster(test, max_uncommitted_bytes=5000)


def test_a_follower_that_does_not_answer_is_sent_no_more_than_its_window() -> None:
    async def test(sim: SimWorld, cluster: Cluster, leader: str, others: list[str]) -> None:
        most: list[int] = []
        async with cluster.client("c1", url(leader)) as client:
            puts = Puts(sim, client)
            async with trio.open_nursery() as nursery:
                with slow_disks(sim, others):
                    for number in range(20):
                        await puts.run(nursery, range(number, number + 1))
                        leadership = cluster.states[leader].leadership
                        assert leadership is not None
                        most += [sum(peer.inflight_bytes) for peer in leadership.progress]
            await puts.check(range(20, 21), 20)
        assert 5000 <= max(most) < 5000 + len(VALUE) + 100

    in_cluster(test, max_inflight_bytes=5000)


def test_without_a_limit_everything_waits_for_a_majority() -> None:
    async def test(sim: SimWorld, cluster: Cluster, leader: str, others: list[str]) -> None:
        async with cluster.client("c1", url(leader)) as client:
            puts = Puts(sim, client)
            async with trio.open_nursery() as nursery:
                with slow_disks(sim, others):
                    await puts.run(nursery, range(20))
            assert (sorted(puts.done), puts.refused) == (list(range(20)), {})

    in_cluster(test, max_uncommitted_bytes=0)


def test_the_client_of_a_member_that_applies_too_far_behind_is_told_that_it_asks_too_much() -> None:
    """The others commit without the leader's disk, and it applies only what its own log holds."""

    async def test(sim: SimWorld, cluster: Cluster, leader: str, others: list[str]) -> None:
        cluster.nodes[leader].limits.apply_gap = 5
        async with cluster.client("c1", url(leader)) as client:
            puts = Puts(sim, client)
            async with trio.open_nursery() as nursery:
                with slow_disks(sim, [leader]):
                    await puts.run(nursery, range(20))
                    assert puts.done == []
            await puts.check(range(6, 8), 20)
            assert cluster.leader() == leader

    in_cluster(test)


def test_the_client_of_a_member_where_too_many_bytes_wait_is_told_that_it_asks_too_much() -> None:
    async def test(sim: SimWorld, cluster: Cluster, leader: str, others: list[str]) -> None:
        follower = others[0]
        cluster.nodes[follower].limits.waiting_bytes = 3 * (len(VALUE) + 20)
        links = [*sim.network.links([follower], [leader]), *sim.network.links([leader], [follower])]
        async with cluster.client("c1", url(follower)) as client:
            puts = Puts(sim, client)
            for link in links:
                link.cut += 1
            async with trio.open_nursery() as nursery:
                await puts.run(nursery, range(10))
                for link in links:
                    link.cut -= 1
            await puts.check(range(3, 4), 10)

    in_cluster(test)
