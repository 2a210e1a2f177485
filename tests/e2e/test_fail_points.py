"""A real member that dies where a test wants it to, and goes on with everything it acknowledged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .processes import HOST, PATIENCE, Cluster, die_at, free_ports, wait_until

pytestmark = pytest.mark.needs("etcdctl")


@pytest.mark.parametrize("name", ["raftBeforeSave", "raftAfterSave", "beforeCommit", "afterCommit"])
def test_a_member_that_dies_at_a_fail_point_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    port = free_ports(1)[0]
    monkeypatch.setitem(os.environ, "GOFAIL_HTTP", f"{HOST}:{port}")
    with Cluster(tmp_path) as cluster:
        member = cluster.members[0]
        done = [key for key in range(5) if cluster.etcdctl("put", f"k{key}", "v") == "OK\n"]
        die_at(port, name)
        member.http("/v3/kv/put", {"key": "bGFzdA==", "value": "dg=="})  # it may be answered, or not
        assert member.process is not None
        assert member.process.wait(PATIENCE) == 2
        assert f"panic: failpoint panic: {name}" in member.log
        member.start()
        wait_until("it is well again", member.healthy)
        assert len(cluster.etcdctl("get", "k", "--prefix", "--keys-only").split()) == len(done) == 5
