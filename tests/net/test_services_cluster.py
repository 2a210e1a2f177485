"""Leases, watches and locks in whole simulated clusters: crashes of leaders, members that only follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tercet.core.errors import Rejected, TercetError
from tercet.core.wire.proto import lock_pb2 as lockpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client
from tercet.sim.cluster import Cluster
from tercet.sim.world import SimWorld

Test = Callable[[SimWorld, Cluster], Awaitable[None]]


def in_cluster(test: Test, seed: int) -> None:
    """Run a test beside three members in a simulated world."""
    sim = SimWorld(seed, ())
    cluster = Cluster(sim, 3)

    async def main() -> None:
        cluster.start()
        while cluster.leader() is None:
            await sim.sleep(0.1)
        await test(sim, cluster)

    sim.run(main)
    assert [failure for failure in sim.failures if failure[1] in cluster.names] == []


def follower(cluster: Cluster) -> str:
    return next(name for name in cluster.names if name != cluster.leader())


async def gone_within(sim: SimWorld, client: Client, key: bytes, seconds: float) -> float:
    """How long the key takes to disappear, in seconds."""
    start = sim.now
    while (await client.get(key)).kvs:
        await sim.sleep(0.1)
        assert sim.now - start < seconds, f"{key!r} is still there after {seconds} s"
    return sim.now - start


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lease_renewed_through_a_follower_outlives_its_leader_and_then_ends(seed: int) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        other = follower(cluster)
        async with cluster.client("c1", (f"http://{other}:2379",)) as client:
            lease = await client.lease_grant(5)
            await client.put(b"k", b"v", lease=lease.id)
            for second in range(15):
                if second == 4:
                    leader = cluster.leader()
                    assert leader is not None
                    sim.crash(leader)
                assert await client.lease_keep_alive_once(lease.id) == 5
                await sim.sleep(1)
            assert (await client.get(b"k")).kvs[0].lease == lease.id
            assert 4 <= (await client.lease_time_to_live(lease.id)).ttl + 1 <= 5
            assert 3 <= await gone_within(sim, client, b"k", 8) <= 8

    in_cluster(test, seed)


def test_a_lease_ends_even_if_its_leader_dies_before() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = cluster.leader()
        assert leader is not None
        other = follower(cluster)
        async with cluster.client("c1", (f"http://{other}:2379",)) as client:
            lease = await client.lease_grant(4)
            await client.put(b"k", b"v", lease=lease.id)
            await sim.sleep(2)
            sim.crash(leader)
            waited = await gone_within(sim, client, b"k", 12)
            assert waited > 3  # a new leader starts the time anew
            assert (await client.leases()) == ()

    in_cluster(test, 4)


def test_a_watch_on_a_follower_sees_everything_through_a_crash_of_the_leader() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        other = follower(cluster)
        async with cluster.client("c1", (f"http://{other}:2379",)) as client, client.watch(b"k") as watch:
            written = []
            for number in range(40):
                if number == 20:
                    leader = cluster.leader()
                    assert leader is not None
                    sim.crash(leader)
                    await sim.sleep(3)
                written.append((await client.put(b"k", b"%d" % number)).header.revision)
            seen: list[int] = []
            while len(seen) < len(written):
                seen += [event.kv.mod_revision for event in (await watch.receive()).events]
            assert seen == written

    in_cluster(test, 5)


async def add_as_owner(sim: SimWorld, client: Client, token: bytes) -> None:
    """Lock, read a list, add ``token`` in a second step that holds only while the owner's key lives, unlock.

    Raises ``TercetError`` when any of it fails; the token may have been added.
    """
    lease = await client.lease_grant(4)
    request = lockpb.LockRequest(name=b"lock", lease=lease.id)
    owner = await client.call("/v3lockpb.Lock/Lock", request, lockpb.LockResponse.FromString, timeout=20)
    found = (await client.get(b"list")).kvs
    await sim.sleep(0.1)
    longer = (found[0].value if found else b"") + token + b" "
    exists = rpc.Compare(key=owner.key, target=rpc.Compare.VERSION, result=rpc.Compare.GREATER)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=b"list", value=longer))
    txn = rpc.TxnRequest(compare=[exists], success=[put])
    answer = await client.call("/etcdserverpb.KV/Txn", txn, rpc.TxnResponse.FromString)
    if not answer.succeeded:
        raise Rejected("the lock was lost")
    release = lockpb.UnlockRequest(key=owner.key)
    await client.call("/v3lockpb.Lock/Unlock", release, lockpb.UnlockResponse.FromString)


@pytest.mark.parametrize("seed", [6, 7, 8])
def test_no_update_under_a_lock_is_lost_when_the_leader_crashes(seed: int) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        done: list[bytes] = []

        async def work(number: int) -> None:
            endpoint = cluster.endpoints[number % 3]
            async with cluster.client(f"c{number}", (endpoint,)) as client:
                for turn in range(6):
                    token = b"%d.%d" % (number, turn)
                    try:
                        await add_as_owner(sim, client, token)
                        done.append(token)
                    except TercetError:
                        await sim.sleep(0.5)

        async def crash() -> None:
            await sim.sleep(2)
            leader = cluster.leader()
            assert leader is not None
            sim.crash(leader)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash)
            for number in range(5):
                nursery.start_soon(work, number)
        names = [name for name in cluster.names if sim.running(name)]
        async with cluster.client("c9", tuple(f"http://{name}:2379" for name in names)) as client:
            tokens = (await client.get(b"list")).kvs[0].value.split()
        assert len(done) >= 12
        assert [token for token in done if token not in tokens] == []
        assert len(tokens) == len(dict.fromkeys(tokens))

    in_cluster(test, seed)
