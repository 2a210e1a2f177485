"""Swap the binary: members of Tercet go on in the data directories that members of etcd have left."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from .processes import Cluster, wait_until

pytestmark = pytest.mark.needs("etcd", "etcdctl")


def run_as(cluster: Cluster, program: str) -> None:
    for member in cluster.members:
        member.program = ["etcd"] if program == "etcd" else [sys.executable, "-m", "tercet"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("size", [1, 3])
def test_everything_acknowledged_by_etcd_is_there_afterwards(
    tmp_path: Path, size: int, number: signal.Signals
) -> None:
    """A killed etcd leaves entries in its log that its database has not seen."""
    cluster = Cluster(tmp_path, size, token="swap")
    run_as(cluster, "etcd")
    with cluster:
        for key in range(20):
            cluster.etcdctl("put", f"key/{key}", f"value {key}")
        cluster.etcdctl("compaction", "9")
        lease = cluster.etcdctl("lease", "grant", "600").split()[1]
        cluster.etcdctl("put", "leased", "x", f"--lease={lease}")
        cluster.etcdctl("txn", stdin="\n\nput txn/a 1\ndel key/3\n\n\n\n")
        cluster.etcdctl("put", "last", "word")
        ids = {line.split(",")[0] for line in cluster.etcdctl("member", "list").splitlines()}
        before = json.loads(cluster.etcdctl("get", "", "--prefix", "-w", "json"))
        for member in cluster.members:
            member.stop(number)
    run_as(cluster, "tercet")
    with cluster:
        after = json.loads(cluster.etcdctl("get", "", "--prefix", "-w", "json"))
        assert (after["kvs"], after["header"]["revision"]) == (before["kvs"], before["header"]["revision"])
        assert after["header"]["cluster_id"] == before["header"]["cluster_id"]
        assert {line.split(",")[0] for line in cluster.etcdctl("member", "list").splitlines()} == ids
        assert "attached keys([leased])" in cluster.etcdctl("lease", "timetolive", lease, "--keys")
        assert "compacted" in cluster.etcdctl("get", "key/1", "--rev=8", check=False)
        cluster.etcdctl("put", "key/new", "1")

        def hashes() -> set[str]:
            return set(cluster.etcdctl("endpoint", "hashkv").split()[1::2])

        wait_until("all members agree", lambda: len(hashes()) == 1)
        for member in cluster.members:
            member.stop(signal.SIGKILL)
            member.start()
        cluster.wait_healthy()
        assert cluster.etcdctl("get", "key/new", "--print-value-only") == "1\n"


def test_a_log_that_ends_with_what_we_cannot_carry_out_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1, token="swap")
    member = cluster.members[0]
    member.program = ["etcd", "--backend-batch-interval=1h"]  # the database sees nothing before the kill
    with cluster:
        cluster.etcdctl("user", "add", "joe:pw")
        member.stop(signal.SIGKILL)
    run_as(cluster, "tercet")
    folder = member.data_dir / "member"
    before = sorted(path.name for path in folder.iterdir())
    member.start()
    assert member.process is not None
    assert member.process.wait(20) == 1
    assert "let etcd start and stop once more" in member.log
    assert sorted(path.name for path in folder.iterdir()) == before
    run_as(cluster, "etcd")
    with cluster:
        assert cluster.etcdctl("user", "list") == "joe\n"
        member.stop()
    run_as(cluster, "tercet")
    with cluster:
        assert cluster.etcdctl("user", "list") == "joe\n"
