"""Whole members, unmodified, in simulated worlds; and their refusals to start on the real machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tercet.core.errors import Corruption, OutcomeUnknown
from tercet.core.trace import read_trace, verify
from tercet.net.bootstrap import BootstrapRefused
from tercet.net.client import Client, RequestTimedOut
from tercet.net.config import MemberConfig
from tercet.net.member import Running, run_member
from tercet.net.real import real_world
from tercet.sim.cluster import Cluster
from tercet.sim.world import SimWorld

Test = Callable[[SimWorld, Cluster], Awaitable[None]]


def in_cluster(test: Test, size: int = 3, seed: int = 1) -> SimWorld:
    """Run a test as the omniscient observer of a started cluster."""
    sim = SimWorld(seed, ())
    cluster = Cluster(sim, size)

    async def main() -> None:
        cluster.start()
        await test(sim, cluster)

    sim.run(main)
    assert [failure for failure in sim.failures if failure[1] in cluster.names] == []
    return sim


async def leader_of(sim: SimWorld, cluster: Cluster, among: tuple[str, ...] = ()) -> str:
    """Wait, at most ten virtual seconds, for a leader that has heard from a majority."""
    for _ in range(200):
        name = cluster.leader()
        if name is not None and (not among or name in among):
            return name
        await sim.sleep(0.05)
    raise AssertionError("no leader within ten seconds")


def test_three_members_elect_a_leader_and_serve_on_every_member() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        for number, endpoint in enumerate(cluster.endpoints):
            async with cluster.client(f"c{number}", (endpoint,)) as client:
                written = await client.put(b"key", b"%d" % number)
                read = await client.get(b"key")
                assert read.header.revision == written.header.revision == number + 2
                assert [kv.value for kv in read.kvs] == [b"%d" % number]
                members = await client.members()
                assert sorted(member.name for member in members) == ["n1", "n2", "n3"]
                assert [m.client_urls for m in members if m.name == "n2"] == [("http://n2:2379",)]

    in_cluster(test)


async def write(client: Client, count: int, acknowledged: list[bytes]) -> None:
    """Put distinct keys, noting those that were acknowledged."""
    for number in range(count):
        key = b"key-%04d" % number
        try:
            await client.put(key, b"v", timeout=2.0)
        except OutcomeUnknown:
            continue
        acknowledged.append(key)


def test_no_acknowledged_write_is_lost_when_the_leader_loses_power_and_it_catches_up_afterwards() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        acknowledged: list[bytes] = []
        victim = await leader_of(sim, cluster)
        async with cluster.client("c1") as client, trio.open_nursery() as nursery:
            nursery.start_soon(write, client, 300, acknowledged)
            await sim.sleep(0.3)
            sim.crash(victim)
            others = tuple(name for name in cluster.names if name != victim)
            await leader_of(sim, cluster, others)
            crashed_at = len(acknowledged)
            await sim.sleep(3.0)
            assert len(acknowledged) > crashed_at, "the others must go on without the victim"
            sim.restart(victim)
        async with cluster.client("c2", (f"http://{victim}:2379",)) as client:
            found = await client.get(b"key-", range_end=b"key.")
            assert set(acknowledged) <= {kv.key for kv in found.kvs}
            local = await client.get(b"key-", range_end=b"key.", serializable=True)
            assert local.kvs == found.kvs

    in_cluster(test)


def test_what_a_follower_is_asked_between_two_leaders_waits_for_the_new_one() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        old = await leader_of(sim, cluster)
        follower = next(name for name in cluster.names if name != old)
        async with cluster.client("c1", (f"http://{follower}:2379",)) as client:
            await client.put(b"key", b"before")
            sim.kill(old)
            await sim.sleep(0.2)
            started = sim.now
            await client.put(b"key", b"after", timeout=30.0)
            found = await client.get(b"key", timeout=30.0)
            assert [kv.value for kv in found.kvs] == [b"after"]
            assert sim.now - started < 4.0

    in_cluster(test)


def test_a_leader_cut_off_from_the_others_neither_acknowledges_writes_nor_serves_linearizable_reads() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        alone = await leader_of(sim, cluster)
        others = tuple(name for name in cluster.names if name != alone)
        async with (
            cluster.client("c1", (f"http://{alone}:2379",)) as inside,
            cluster.client("c2", tuple(f"http://{name}:2379" for name in others)) as outside,
        ):
            await inside.put(b"key", b"old")
            for link in [*sim.network.links([alone], others), *sim.network.links(others, [alone])]:
                link.cut += 1
            with pytest.raises(OutcomeUnknown):
                await inside.put(b"key", b"lost", timeout=1.0)
            await leader_of(sim, cluster, others)
            await outside.put(b"key", b"new")
            with pytest.raises(OutcomeUnknown):
                await inside.get(b"key", timeout=2.0)
            stale = await inside.get(b"key", serializable=True)
            assert [kv.value for kv in stale.kvs] == [b"old"]
            for link in [*sim.network.links([alone], others), *sim.network.links(others, [alone])]:
                link.cut -= 1
            fresh = await inside.get(b"key", timeout=10.0)
            assert [kv.value for kv in fresh.kvs] == [b"new"]

    in_cluster(test)


def test_a_member_keeps_its_data_over_restarts_and_never_numbers_proposals_twice() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        for number in range(3):
            async with cluster.client(f"c{number}") as client:
                await client.put(b"key", b"%d" % number)
                read = await client.get(b"key")
                assert read.kvs[0].version == number + 1
            sim.crash("n1")
            sim.restart("n1")
        await sim.sleep(0.5)
        assert sim.world_for("n1").disk.read("/data/member/incarnation") == b"4\n"

    in_cluster(test, size=1)


def test_a_run_is_a_function_of_its_seed() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        async with cluster.client("c1") as client:
            for number in range(20):
                await client.put(b"key", b"%d" % number)
            sim.crash(await leader_of(sim, cluster))
            await sim.sleep(2.0)
            with suppress(RequestTimedOut):  # its own member may be the one that lost its power
                await client.get(b"key")
            await client.get(b"key")

    digests = [in_cluster(test, seed=seed).engine.digest for seed in (5, 5, 6)]
    assert digests[0] == digests[1] != digests[2]


def test_a_member_that_lost_its_data_may_not_come_back_under_its_old_id() -> None:
    """It has forgotten what it acknowledged: a majority with it could lose an acknowledged write."""

    async def test(sim: SimWorld, cluster: Cluster) -> None:
        async with cluster.client("c1") as client:
            await client.put(b"key", b"acknowledged")
            await sim.sleep(1.0)
            leader = await leader_of(sim, cluster)
            victim = next(name for name in cluster.names if name != leader)
            sim.crash(victim)
            sim.host(victim).disk.wipe()
            sim.restart(victim)
            await sim.sleep(5.0)
            assert not sim.running(victim)
            told = [str(error) for _, name, error in sim.failures if name == victim]
            assert len(told) == 1 and told[0].endswith("has already been bootstrapped")
            sim.failures.clear()
            with suppress(RequestTimedOut):
                await client.get(b"key")
            assert [kv.value for kv in (await client.get(b"key")).kvs] == [b"acknowledged"]

    in_cluster(test, seed=7)


def test_all_members_of_a_new_cluster_may_start_without_data() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        for name in cluster.names:
            sim.kill(name)
        for name in cluster.names:
            sim.host(name).disk.wipe()
            sim.restart(name)
        async with cluster.client("c1") as client:
            await client.put(b"key", b"value")

    in_cluster(test, seed=8)


def config(folder: Path, **changes: Any) -> MemberConfig:
    """One member alone on free ports of this machine."""
    return replace(
        MemberConfig(
            name="one",
            data_dir=str(folder),
            listen_client_urls=("http://127.0.0.1:0",),
            listen_peer_urls=("http://127.0.0.1:0",),
            wal_segment_bytes=1 << 16,
        ),
        **changes,
    )


async def start_and_stop(settings: MemberConfig) -> list[str]:
    """Run a real member until it has started; its log lines."""
    lines: list[str] = []
    world = real_world("one", seed=1, log_level="debug", write_log=lines.append)
    async with trio.open_nursery() as nursery:
        running: Running = await nursery.start(partial(run_member, world, settings))
        assert len(running.client_addresses) == len(settings.listen_client_urls)
        with trio.fail_after(90):
            while not running.node.machine.cluster_version:  # noqa: ASYNC110 - applied some time after the start
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    return lines


def error_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    [error] = group.exceptions
    return error_of(error) if isinstance(error, BaseExceptionGroup) else error


async def refusal(settings: MemberConfig) -> BaseException:
    """Why a member does not start."""
    with pytest.raises(BaseExceptionGroup) as caught:
        await start_and_stop(settings)
    return error_of(caught.value)


async def test_a_member_says_what_test_frameworks_wait_for_and_stops_without_errors(tmp_path: Path) -> None:
    lines = "\n".join(await start_and_stop(config(tmp_path)))
    for text in ("ready to serve client requests", "published", "closed etcd server"):
        assert text in lines
    assert '"level":"error"' not in lines


async def test_a_member_writes_a_trace_that_the_core_repeats(tmp_path: Path) -> None:
    path = tmp_path / "one.trace"
    await start_and_stop(config(tmp_path / "data", trace_file=str(path)))
    trace = read_trace(path.read_bytes())
    result = verify(trace.records)
    assert (result.verdict, trace.truncated) == ("valid", False)
    assert result.steps > 3


async def test_an_occupied_port_is_told_before_anything_is_written(tmp_path: Path) -> None:
    world = real_world("other", seed=1)
    listener = await world.net.listen("127.0.0.1", 0)
    url = f"http://{listener.address}"
    error = await refusal(config(tmp_path / "data", listen_client_urls=(url,)))
    listener.close()
    assert isinstance(error, OSError)
    assert not (tmp_path / "data").exists()


async def test_a_restart_goes_by_its_own_log_and_not_by_the_flags_about_the_beginning(
    tmp_path: Path,
) -> None:
    await start_and_stop(config(tmp_path))
    others = {"two": ("http://127.0.0.1:1",)}
    again = await start_and_stop(config(tmp_path, initial_cluster=others))
    assert any("recovered the log" in line and '"fresh":false' in line for line in again)
    joins = config(tmp_path, initial_cluster_state="existing", initial_cluster_token="another")
    assert any('"fresh":false' in line for line in await start_and_stop(joins))


async def test_data_of_a_cluster_with_another_token_begins_no_new_cluster(tmp_path: Path) -> None:
    await start_and_stop(config(tmp_path))
    error = await refusal(config(tmp_path, initial_cluster_token="another"))
    assert isinstance(error, BootstrapRefused) and 'its token is "etcd-cluster"' in str(error)


async def test_a_member_that_is_not_in_the_initial_cluster_is_refused(tmp_path: Path) -> None:
    others = {"two": ("http://127.0.0.1:1",)}
    error = await refusal(config(tmp_path, initial_cluster=others))
    assert isinstance(error, ValueError) and 'local name "one"' in str(error)


async def test_a_damaged_count_of_starts_is_corruption(tmp_path: Path) -> None:
    await start_and_stop(config(tmp_path))
    (tmp_path / "member" / "incarnation").write_bytes(b"\0\0\0")
    assert isinstance(await refusal(config(tmp_path)), Corruption)
