"""Members that come and go, leaders that move, followers that need a snapshot: whole simulated clusters."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio

from tercet.core.errors import OutcomeUnknown, TercetError
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client
from tercet.net.node import Node
from tercet.sim.cluster import Cluster
from tercet.sim.seeds import stream
from tercet.sim.world import SimWorld

Test = Callable[[SimWorld, Cluster], Awaitable[None]]
LOOSE = {"strict_reconfig_check": False}
SMALL = {"snapshot_count": 50, "snapshot_catchup_entries": 5}


def in_cluster(test: Test, size: int = 3, seed: int = 1, **options: Any) -> None:
    sim = SimWorld(seed, ())
    cluster = Cluster(sim, size, options=options)

    async def main() -> None:
        cluster.start()
        await leader_of(sim, cluster)
        await test(sim, cluster)

    sim.run(main)
    assert [failure for failure in sim.failures if failure[1] in cluster.names] == []


async def leader_of(sim: SimWorld, cluster: Cluster, other_than: str = "") -> str:
    for _ in range(400):
        name = cluster.leader()
        if name not in (None, other_than):
            assert name is not None
            return name
        await sim.sleep(0.05)
    raise AssertionError("no leader within twenty seconds")


def url(name: str) -> str:
    return f"http://{name}:2379"


def urls(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(url(name) for name in names)


async def ids(client: Client) -> dict[str, int]:
    """Member ids by the host in their peer URLs, so that those that have not started are found, too."""
    return {member.peer_urls[0].split("/")[2].split(":")[0]: member.id for member in await client.members()}


async def add(client: Client, name: str, *, learner: bool = False) -> None:
    request = rpc.MemberAddRequest(peerURLs=[f"http://{name}:2380"], isLearner=learner)
    await client.call("/etcdserverpb.Cluster/MemberAdd", request, rpc.MemberAddResponse.FromString)


async def remove(client: Client, name: str) -> None:
    request = rpc.MemberRemoveRequest(ID=(await ids(client))[name])
    await client.call("/etcdserverpb.Cluster/MemberRemove", request, rpc.MemberRemoveResponse.FromString)


async def promote(client: Client, name: str) -> None:
    request = rpc.MemberPromoteRequest(ID=(await ids(client))[name])
    await client.call("/etcdserverpb.Cluster/MemberPromote", request, rpc.MemberPromoteResponse.FromString)


async def move_leader(sim: SimWorld, cluster: Cluster, name: str) -> None:
    leader = await leader_of(sim, cluster)
    async with cluster.client(f"mover-{leader}-{name}", (url(leader),)) as client:
        request = rpc.MoveLeaderRequest(targetID=(await ids(client))[name])
        await client.call(
            "/etcdserverpb.Maintenance/MoveLeader", request, rpc.MoveLeaderResponse.FromString
        )


async def agree(sim: SimWorld, cluster: Cluster, names: Sequence[str]) -> None:
    """Wait until these members answer alike for themselves: revision, and hash of the keys' history."""
    answers: list[tuple[int, int]] = []
    for _ in range(200):
        answers = []
        for name in names:
            async with cluster.client(f"judge-{name}", (url(name),)) as client:
                try:
                    answer = rpc.HashKVResponse.FromString
                    path = "/etcdserverpb.Maintenance/HashKV"
                    found = await client.call(path, rpc.HashKVRequest(), answer, timeout=1)
                except TercetError:
                    break
                answers.append((found.header.revision, found.hash))
        if len(answers) == len(names) and len(dict.fromkeys(answers)) == 1:
            return
        await sim.sleep(0.1)
    raise AssertionError(f"{names} do not agree: {answers}")


async def write(client: Client, done: list[int], count: int = 10_000, pause: float = 0.0) -> None:
    """Put a counter under distinct keys until cancelled; ``done`` gets those that were acknowledged."""
    for number in range(count):
        await client.world.clock.sleep(pause)
        try:
            await client.put(b"n%06d" % number, b"v" * 100, timeout=2)
        except (OutcomeUnknown, RpcError):
            continue
        done.append(number)


async def all_there(client: Client, done: list[int]) -> None:
    found = await client.get(b"n", range_end=b"o", timeout=10)
    there = {kv.key for kv in found.kvs}
    assert done and [number for number in done if b"n%06d" % number not in there] == []


def cut(sim: SimWorld, one: str, others: Sequence[str], amount: int = 1) -> None:
    for link in [*sim.network.links([one], others), *sim.network.links(others, [one])]:
        link.cut += amount


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cluster_grows_from_one_to_three_and_shrinks_again_under_load(seed: int) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        done: list[int] = []
        async with cluster.client("c1", (url("n1"),)) as client, trio.open_nursery() as nursery:
            nursery.start_soon(write, client, done)
            for name in ("n2", "n3"):
                await add(client, name)
                cluster.join(name, tuple(await ids(client)))
                await agree_soon(sim, cluster, name)
            assert sorted(member.name for member in await client.members()) == ["n1", "n2", "n3"]
            await remove(client, "n2")
            await sim.sleep(3)
            assert not sim.running("n2"), "who was removed stops by itself"
            nursery.cancel_scope.cancel()
        async with cluster.client("c2", (url("n3"),)) as client:
            await all_there(client, done)
            assert sorted(await ids(client)) == ["n1", "n3"]
        await agree(sim, cluster, ["n1", "n3"])

    async def agree_soon(sim: SimWorld, cluster: Cluster, name: str) -> None:
        """The new member serves linearizable reads."""
        async with cluster.client(f"first-{name}", (url(name),)) as client:
            await client.get(b"x", timeout=20)

    in_cluster(test, size=1, seed=seed, **LOOSE)


def test_a_removed_leader_stops_and_the_others_go_on() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        others = [name for name in cluster.names if name != leader]
        async with cluster.client("c1", urls(others)) as client:
            await client.put(b"k", b"before")
            await remove(client, leader)
            await sim.sleep(4)
            assert not sim.running(leader)
            await client.put(b"k", b"after", timeout=10)
            assert sorted(await ids(client)) == sorted(others)
        await agree(sim, cluster, others)

    in_cluster(test, **LOOSE)


def test_a_leader_removed_without_a_hand_over_stays_for_two_election_timeouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who stand for election may have to hear from it that its removal is committed."""
    monkeypatch.setattr(Node, "transfer_leadership", lambda *_: None)

    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        async with cluster.client("c1", urls([leader])) as client:
            with contextlib.suppress(TercetError):  # the answer may be lost with its leadership
                await remove(client, leader)
        await sim.sleep(1.5)
        assert sim.running(leader)
        await sim.sleep(3)
        assert not sim.running(leader)

    in_cluster(test, **LOOSE)


def test_a_member_that_was_down_when_it_was_removed_is_told_by_the_others_and_stops() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        victim = next(name for name in cluster.names if name != leader)
        sim.kill(victim)
        async with cluster.client("c1", (url(leader),)) as client:
            await remove(client, victim)
        sim.restart(victim)
        await sim.sleep(4)
        assert not sim.running(victim)

    in_cluster(test, **LOOSE)


def test_a_dead_member_is_replaced_by_a_new_one_that_starts_empty() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        victim = next(name for name in cluster.names if name != leader)
        rest = [name for name in cluster.names if name != victim]
        async with cluster.client("c1", (url(leader),)) as client:
            for number in range(50):
                await client.put(b"%d" % number, b"v")
            sim.crash(victim)
            await remove(client, victim)
            await add(client, "n4")
            cluster.join("n4", rest)
            await agree(sim, cluster, [*rest, "n4"])
            sim.kill(leader)
        async with cluster.client("c2", (url("n4"),)) as client:
            await client.put(b"k", b"v", timeout=10)

    in_cluster(test, **LOOSE)


def test_a_linearizable_list_of_members_is_never_old() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        away = next(name for name in cluster.names if name != leader)
        others = [name for name in cluster.names if name != away]
        cut(sim, away, others)
        async with cluster.client("c1", (url(leader),)) as client, cluster.client("c2", (url(away),)) as far:
            await add(client, "n4", learner=True)
            assert len(await client.members(linearizable=True)) == 4
            assert len(await far.members()) == 3
            with pytest.raises(TercetError):
                await far.members(linearizable=True, timeout=3)
            cut(sim, away, others, -1)
            assert len(await far.members(linearizable=True, timeout=30)) == 4

    in_cluster(test, **LOOSE)


def test_a_learner_serves_only_serializable_reads_and_everything_once_it_is_promoted() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        async with cluster.client("c1", (url("n1"),)) as client:
            await client.put(b"k", b"v")
            await add(client, "n4", learner=True)
            with pytest.raises(RpcError, match="in sync with leader"):
                await promote(client, "n4")
            cluster.join("n4", ("n1", "n2", "n3"))
            await agree_on(sim, cluster, "n4", b"k")
            async with cluster.client("c2", (url("n4"),)) as learner:
                for refused in (learner.get(b"k"), learner.put(b"k", b"w"), learner.members()):
                    with pytest.raises(RpcError, match="not supported for learner"):
                        await refused
                await promote(client, "n4")
                await sim.sleep(1)
                assert (await learner.get(b"k")).kvs[0].value == b"v"
                await learner.put(b"k", b"w")
            assert [member.is_learner for member in await client.members()] == [False] * 4

    async def agree_on(sim: SimWorld, cluster: Cluster, name: str, key: bytes) -> None:
        async with cluster.client(f"eye-{name}", (url(name),)) as client:
            for _ in range(100):
                try:
                    if (await client.get(key, serializable=True, timeout=1)).kvs:
                        return
                except TercetError:
                    pass
                await sim.sleep(0.1)
        raise AssertionError(f"{name} does not catch up")

    in_cluster(test, **LOOSE)


@pytest.mark.parametrize("seed", [1, 2])
def test_moving_the_leader_every_second_loses_no_write_and_stops_nobody_for_long(seed: int) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        done: list[int] = []
        longest = 0.0

        async def gaps() -> None:
            nonlocal longest
            seen, since = len(done), sim.now
            while True:
                await sim.sleep(0.01)
                if len(done) > seen:
                    longest, seen, since = max(longest, sim.now - since), len(done), sim.now

        async with cluster.client("c1") as client, trio.open_nursery() as nursery:
            nursery.start_soon(write, client, done, 10_000, 0.005)
            nursery.start_soon(gaps)
            for _ in range(10):
                await sim.sleep(1)
                leader = await leader_of(sim, cluster)
                target = cluster.names[(cluster.names.index(leader) + 1) % 3]
                await move_leader(sim, cluster, target)
                assert await leader_of(sim, cluster) == target
            nursery.cancel_scope.cancel()
        async with cluster.client("c2") as client:
            await all_there(client, done)
        assert longest < 0.5, f"nothing was acknowledged for {longest} s"

    in_cluster(test, seed=seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_follower_that_was_away_for_too_long_gets_a_snapshot_and_its_watchers_miss_nothing(
    seed: int,
) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        away = next(name for name in cluster.names if name != leader)
        others = [name for name in cluster.names if name != away]
        seen: list[int] = []

        async def watch() -> None:
            watcher = cluster.client("watcher", (url(away),))
            async with watcher as client, client.watch(b"n", range_end=b"o") as watch:
                while True:
                    seen.extend(event.kv.mod_revision for event in (await watch.receive()).events)

        async with cluster.client("c1", (url(leader),)) as client, trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await write(client, [], 20)
            cut(sim, away, others)
            await write(client, [], 300)
            held = cluster.states[away].log.last_index
            assert cluster.states[leader].log.base_index > held, "the log it needs must be gone"
            cut(sim, away, others, -1)
            await agree(sim, cluster, cluster.names)
            await sim.sleep(1)
            nursery.cancel_scope.cancel()
        assert cluster.states[away].log.base_index > held
        assert seen == list(range(2, 322))

    in_cluster(test, seed=seed, **SMALL)


def test_a_snapshot_goes_on_after_its_connection_was_cut_in_the_middle() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        away = next(name for name in cluster.names if name != leader)
        sim.kill(away)
        async with cluster.client("c1", (url(leader),)) as client:
            for number in range(120):
                await client.put(b"big%d" % number, b"x" * 50_000)
            for link in sim.network.links([leader], [away]):
                link.bytes_per_second = 4_000_000
            sim.restart(away)
            for _ in range(4):
                await sim.sleep(0.4)
                sim.network.reset_between(sim.host(leader), sim.host(away))
            for link in sim.network.links([leader], [away]):
                link.bytes_per_second = 0
            await agree(sim, cluster, cluster.names)
        assert said(sim, leader, "sending a snapshot was interrupted") >= 2
        assert said(sim, leader, "sent database snapshot") == 1
        assert said(sim, away, "receiving database snapshot") == 1, "it must not begin anew"

    in_cluster(test, **SMALL)


def said(sim: SimWorld, name: str, message: str) -> int:
    """How often a member has logged that in its present life."""
    process = sim.host(name).process
    assert process is not None
    return sum(line[2] == message for line in process.probe.lines)


@pytest.mark.parametrize("point", ["keeper.install.renamed", "keeper.commit.before", "disk", "sync"])
def test_a_crash_while_a_snapshot_is_being_put_in_place_leaves_a_member_that_catches_up(
    point: str,
) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        away = next(name for name in cluster.names if name != leader)
        others = [name for name in cluster.names if name != away]
        async with cluster.client("c1", (url(leader),)) as client:
            cut(sim, away, others)
            await write(client, [], 320)
            sim.host(away).arm(point, 6 if point in ("disk", "sync") else 1)
            cut(sim, away, others, -1)
            for _ in range(100):
                await sim.sleep(0.1)
                if not sim.running(away):
                    break
            assert not sim.running(away), "the crash must have happened"
            sim.host(away).disarm()
            sim.restart(away)
            await agree(sim, cluster, cluster.names)
            await write(client, [], 20)
            await agree(sim, cluster, cluster.names)

    in_cluster(test, **SMALL)


def test_a_new_member_gets_a_snapshot_when_the_beginning_of_the_log_is_gone() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        async with cluster.client("c1", (url("n1"),)) as client:
            await write(client, [], 300)
            await sim.sleep(1)
            await add(client, "n4")
            cluster.join("n4", ("n1", "n2", "n3"))
            await agree(sim, cluster, cluster.names)
            assert cluster.states["n4"].log.base_index > 4
            sim.kill("n4")
            await write(client, [], 20)
            sim.restart("n4")
            await agree(sim, cluster, cluster.names)

    in_cluster(test, **SMALL, **LOOSE)


@pytest.mark.parametrize("seed", range(1, 5))
def test_no_write_is_lost_while_members_come_go_crash_and_hand_over_at_random(seed: int) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        draw = stream(seed, "come-and-go")
        present = list(cluster.names)
        done: list[int] = []

        async def come() -> None:
            name = f"n{len(cluster.names) + 1}"
            async with cluster.client(f"adder-{name}", urls(present)) as client:
                await add(client, name)
            cluster.join(name, tuple(present))
            present.append(name)

        async def go() -> None:
            name = draw.choice(present)
            async with cluster.client(f"remover-{name}", urls(present)) as client:
                await remove(client, name)
            present.remove(name)

        async def crash() -> None:
            name = draw.choice(present)
            sim.crash(name)
            await sim.sleep(draw.randrange(3000) / 1000)
            sim.restart(name)

        async def move() -> None:
            await move_leader(sim, cluster, draw.choice(present))

        async with cluster.client("c1") as client, trio.open_nursery() as nursery:
            nursery.start_soon(write, client, done, 10_000, 0.03)
            for turn in range(10):
                choices = [crash, move, come if len(present) < 5 else go, go if len(present) > 3 else come]
                try:
                    await draw.choice(choices)()
                except TercetError:
                    await sim.sleep(1)
                await sim.sleep(draw.randrange(2000) / 1000)
                async with cluster.client(f"lister-{turn}", urls(present)) as lister:
                    listed = await ids_in_time(sim, lister)
                for name in [one for one in listed if one not in cluster.names]:
                    cluster.join(name, tuple(present))  # added after all
                present[:] = sorted(listed)
            nursery.cancel_scope.cancel()
        for name in present:
            sim.restart(name)
        await agree(sim, cluster, present)
        async with cluster.client("c2", urls(present)) as client:
            await all_there(client, done)

    in_cluster(test, seed=seed, **SMALL, **LOOSE)


async def ids_in_time(sim: SimWorld, client: Client) -> dict[str, int]:
    """The members as a quorum knows them, once there is one."""
    for _ in range(60):
        try:
            found = await client.call(
                "/etcdserverpb.Cluster/MemberList", rpc.MemberListRequest(linearizable=True),
                rpc.MemberListResponse.FromString, timeout=2,
            )  # fmt: skip
        except TercetError:
            await sim.sleep(0.5)
            continue
        return {member.peerURLs[0].split("/")[2].split(":")[0]: member.ID for member in found.members}
    raise AssertionError("no quorum any more")


def test_the_log_may_have_a_folder_of_its_own() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        done: list[int] = []
        async with cluster.client("c1", urls(cluster.names)) as client:
            await write(client, done, count=30)
            for name in cluster.names:
                disk = sim.host(name).disk
                logs = [path for path in sorted(disk.files) if path.endswith(".wal")]
                assert logs and all(path.startswith("/log/") for path in logs)
            for name in cluster.names:
                sim.crash(name)
            for name in cluster.names:
                sim.restart(name)
            await all_there(client, done)
        await agree(sim, cluster, cluster.names)

    in_cluster(test, wal_dir="/log")


def test_reads_by_lease_are_linearizable_when_their_leader_is_cut_off() -> None:
    """It answers for a moment; by the time that the others have another leader it has stopped."""

    async def test(sim: SimWorld, cluster: Cluster) -> None:
        leader = await leader_of(sim, cluster)
        others = [name for name in cluster.names if name != leader]
        async with cluster.client("c1", (url(leader),)) as old, cluster.client("c2", urls(others)) as new:
            await old.put(b"k", b"before")
            await sim.sleep(0.5)  # some heartbeats: each begins the lease anew
            cut(sim, leader, others)
            assert (await old.get(b"k", timeout=0.3)).kvs[0].value == b"before"
            await leader_of(sim, cluster, other_than=leader)
            await new.put(b"k", b"after", timeout=20)
            with pytest.raises(TercetError):
                await old.get(b"k", timeout=0.5)

    in_cluster(test, read_only_lease=True)


def test_a_start_gives_holes_back_when_there_are_enough_of_them() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        (name,) = cluster.names
        async with cluster.client("c1", (url(name),)) as client:
            for number in range(40):
                await client.put(b"%d" % number, b"v" * 100_000)
            found = await client.delete(b"0", range_end=b"\0")
            await client.compact(found.header.revision, physical=True)
            await sim.sleep(2)
            before = await size(client)
        sim.kill(name)
        sim.restart(name)
        async with cluster.client("c2", (url(name),)) as client:
            await client.put(b"k", b"v", timeout=10)
            assert await size(client) < before - (2 << 20)

    async def size(client: Client) -> int:
        answer = rpc.StatusResponse.FromString
        found = await client.call("/etcdserverpb.Maintenance/Status", rpc.StatusRequest(), answer)
        return found.dbSize

    in_cluster(test, size=1, bootstrap_defrag_threshold_megabytes=2)
