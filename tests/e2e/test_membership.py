"""Real processes whose cluster changes under load: small editions of ``tercet campaign real``."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tercet.core.rpc_errors import RpcError
from tercet.jepsen_like.real import Report, catch_up, grow, move_leaders, replace
from tercet.net.client import Client, open_client
from tercet.net.config import MemberConfig
from tercet.net.real import real_world

from .processes import HOST, PATIENCE, Cluster, Member, free_ports, wait_until

LOOSE = "--strict-reconfig-check=false"
TOO_MANY = "etcdserver: too many requests"
LARGE = 1_400_000  # bytes of a value


def play(scene: Any, folder: Path, **options: Any) -> Report:
    async def main() -> Report:
        report: Report = await scene(folder, **options)
        return report

    report = trio.run(main)
    assert report.verdict == "valid", report.reason
    assert report.operations > 100
    return report


def etcdctl(cluster: Cluster, *arguments: str) -> str:
    endpoints = ",".join(member.endpoint for member in cluster.members if member.running())
    return cluster.etcdctl("--endpoints", endpoints, *arguments)


def newcomer(cluster: Cluster, name: str) -> Member:
    """One more member of the cluster, which does not run yet."""
    client, peer = free_ports(2)
    urls = f"http://{HOST}:{client}", f"http://{HOST}:{peer}"
    arguments = [
        "--name", name, "--data-dir", str(cluster.folder / name), "--initial-cluster-state", "existing",
        LOOSE,
        "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0],
        "--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1],
    ]  # fmt: skip
    return Member(name, client, peer, cluster.folder, arguments)


def join(cluster: Cluster, member: Member, *flags: str) -> str:
    """Add a member with etcdctl and start it as etcdctl says; its id."""
    said = etcdctl(
        cluster, "member", "add", member.name, f"--peer-urls=http://{HOST}:{member.peer_port}", *flags
    )
    told = dict(line.split("=", 1) for line in said.splitlines() if line.startswith("ETCD_"))
    member.arguments += ["--initial-cluster", told["ETCD_INITIAL_CLUSTER"].strip('"')]
    cluster.members.append(member)
    member.start()
    return said.split()[1]


def listed(cluster: Cluster) -> dict[str, dict[str, Any]]:
    rows = json.loads(etcdctl(cluster, "member", "list", "-w", "json"))["members"]
    return {row.get("name", ""): row for row in rows}


@pytest.mark.needs("etcdctl")
def test_a_cluster_grows_to_three_under_load_with_etcds_strict_checks(tmp_path: Path) -> None:
    assert play(grow, tmp_path, largest=3).numbers["members"] == 3


def test_no_write_is_lost_while_the_leader_moves_every_half_second(tmp_path: Path) -> None:
    report = play(move_leaders, tmp_path, wanted=7, every=0.5)
    assert report.numbers["moves"] == 7


@pytest.mark.needs("etcdctl")
def test_a_follower_and_a_leader_that_died_with_their_disks_are_replaced_by_learners(tmp_path: Path) -> None:
    report = play(replace, tmp_path)
    numbers = report.numbers
    assert 0 < numbers["follower_unavailable_ms"] <= report.longest_unavailable_ms
    assert 0 < numbers["leader_unavailable_ms"] <= report.longest_unavailable_ms < 10_000


def test_a_follower_catches_up_by_a_snapshot_that_was_cut_in_the_middle(tmp_path: Path) -> None:
    numbers = play(catch_up, tmp_path, megabytes=10).numbers
    assert numbers["cuts"] == 1
    assert numbers["interruptions"] >= 1  # the next snapshot may come while this one is being installed
    # Under load it may need another one afterwards; none is begun twice.
    assert numbers["snapshots_begun"] == numbers["snapshots_received"] >= 1, "it must go on where it was cut"


@pytest.mark.needs("etcdctl")
def test_a_learner_is_promoted_and_a_dead_member_replaced(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3, flags=[LOOSE]) as cluster:
        etcdctl(cluster, "put", "k", "v")
        learner = newcomer(cluster, "n4")
        learner_id = join(cluster, learner, "--learner")
        wait_until("the learner has the key", lambda: key_of(learner))
        wait_until("it has told its name", lambda: "n4" in listed(cluster))
        assert listed(cluster)["n4"]["isLearner"]
        assert "promoted" in wait_until("it is promoted", lambda: promoted(cluster, learner_id))
        cluster.wait_healthy([learner])

        dead = cluster.members[0]
        dead_id = f"{listed(cluster)['n1']['ID']:x}"
        dead.stop(signal.SIGKILL)
        etcdctl(cluster, "member", "remove", dead_id)
        replacement = newcomer(cluster, "n5")
        join(cluster, replacement)
        cluster.wait_healthy([replacement])
        assert key_of(replacement)
        wait_until("four are listed", lambda: sorted(listed(cluster)) == ["n2", "n3", "n4", "n5"])

        dead.start()  # it does not know yet
        assert dead.process is not None and dead.process.wait(PATIENCE) == 0
        assert "the member has been permanently removed from the cluster" in dead.log


@pytest.mark.needs("etcdctl")
def test_etcdctl_is_told_that_a_leader_without_a_majority_takes_no_more(tmp_path: Path) -> None:
    """It leads for another forty-five seconds after the other member has stopped."""
    with Cluster(tmp_path, 1, flags=[LOOSE, "--election-timeout=45000"]) as cluster:
        leader, other = cluster.members[0], newcomer(cluster, "n2")
        join(cluster, other)
        cluster.wait_healthy()
        assert other.process is not None
        other.process.send_signal(signal.SIGSTOP)
        limit = MemberConfig().max_uncommitted_bytes
        answers: list[str] = []
        told = ""

        async def put(client: Client, number: int) -> None:
            try:
                await client.put(b"%d" % number, bytes(LARGE))
                answers.append("")
            except RpcError as error:
                answers.append(error.message)

        async def main() -> None:
            nonlocal told
            world, urls = real_world("filler", write_log=lambda line: None), (f"http://{leader.endpoint}",)
            async with open_client(world, urls, request_timeout=60) as client, trio.open_nursery() as nursery:
                for number in range(limit // LARGE + 5):
                    nursery.start_soon(put, client, number)
                while len(answers) < 5:  # noqa: ASYNC110 - the refusals; all others wait for a majority
                    await trio.sleep(0.05)
                where = ("--endpoints", leader.endpoint)
                told = cluster.etcdctl(*where, "put", "big", check=False, stdin="x" * LARGE)
                assert other.process is not None
                other.process.send_signal(signal.SIGCONT)

        trio.run(main)
        assert told.strip().endswith(f"Error: {TOO_MANY}"), told
        assert set(answers) == {"", TOO_MANY}
        assert limit - LARGE < answers.count("") * LARGE <= limit
        cluster.wait_healthy()
        etcdctl(cluster, "put", "small", "v")


def key_of(member: Member) -> Any:
    found = member.http("/v3/kv/range", {"key": "aw==", "serializable": True})
    return found and found.get("kvs")


def promoted(cluster: Cluster, member_id: str) -> str:
    try:
        return etcdctl(cluster, "member", "promote", member_id)
    except AssertionError as problem:
        # etcdctl asks anybody, the learner itself as well, which serves nothing but reads
        assert "in sync with leader" in str(problem) or "not supported for learner" in str(problem)
        return ""


def test_a_leader_that_is_stopped_hands_over_first(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3, flags=["--election-timeout=5000"]) as cluster:  # nobody else stands
        leader = cluster.leader()
        others = [member for member in cluster.members if member is not leader]
        term = int(leader.status()["raftTerm"])
        assert leader.stop() == 0
        wait_until("another member leads", lambda: any(heir_of(term, member) for member in others))


def heir_of(term: int, member: Member) -> bool:
    """Whether a member was told to lead the next term: who has waited for the leader in vain asks first."""
    lines = [json.loads(line) for line in member.log.splitlines()]
    said = [(line["role"], line["term"]) for line in lines if line["msg"] == "raft state changed"]
    if ("leader", term + 1) not in said:
        return False
    candidate = said.index(("candidate", term + 1))
    assert said[candidate - 1][0] == "follower", said
    return True
