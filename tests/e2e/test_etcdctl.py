"""Debian's etcdctl against a three-member cluster, command by command."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import PATIENCE, Cluster, environment, wait_until

pytestmark = pytest.mark.needs("etcdctl")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("etcdctl"), 3) as running:
        yield running


def test_what_is_put_is_got_on_every_member(cluster: Cluster) -> None:
    assert cluster.etcdctl("put", "kv/a", "1") == "OK\n"
    for member in cluster.members:
        assert cluster.etcdctl("--endpoints", member.endpoint, "get", "kv/a") == "kv/a\n1\n"


def test_get_with_its_flags(cluster: Cluster) -> None:
    for key in ("range/a", "range/b", "range/c"):
        cluster.etcdctl("put", key, key.upper())
    get = cluster.etcdctl
    assert get("get", "range/", "--prefix", "--keys-only") == "range/a\n\nrange/b\n\nrange/c\n\n"
    assert get("get", "range/a", "range/c", "--print-value-only") == "RANGE/A\nRANGE/B\n"
    assert get("get", "range/b", "--from-key", "--limit=1") == "range/b\nRANGE/B\n"
    last = get("get", "range/", "--prefix", "--order=DESCEND", "--sort-by=KEY", "--limit=1")
    assert last == "range/c\nRANGE/C\n"
    assert '"Count" : 3' in get("get", "range/", "--prefix", "--limit=1", "-w", "fields")
    assert get("get", "range/a", "--consistency=s") == "range/a\nRANGE/A\n"


def test_get_at_an_old_revision(cluster: Cluster) -> None:
    first = json.loads(cluster.etcdctl("put", "old", "1", "-w", "json"))["header"]["revision"]
    cluster.etcdctl("put", "old", "2")
    assert cluster.etcdctl("get", "old", f"--rev={first}") == "old\n1\n"
    assert cluster.etcdctl("get", "old") == "old\n2\n"


def test_del_counts_and_shows_what_it_deleted(cluster: Cluster) -> None:
    cluster.etcdctl("put", "del/a", "1")
    cluster.etcdctl("put", "del/b", "2")
    assert cluster.etcdctl("del", "del/", "--prefix", "--prev-kv") == "2\ndel/a\n1\ndel/b\n2\n"
    assert cluster.etcdctl("del", "del/a") == "0\n"


@pytest.mark.parametrize(("value", "answer"), [("1", "SUCCESS"), ("2", "FAILURE")])
def test_txn_takes_the_branch_of_its_comparison(cluster: Cluster, value: str, answer: str) -> None:
    cluster.etcdctl("put", "txn", "1")
    script = f'value("txn") = "{value}"\n\nget txn\n\nput txn/no 1\n\n'
    assert cluster.etcdctl("txn", stdin=script).startswith(answer)


class Watcher:
    """An etcdctl watch that runs beside the test."""

    def __init__(self, cluster: Cluster, folder: Path, *words: str) -> None:
        self.path = folder / "watch.out"
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                ["etcdctl", "--endpoints", cluster.endpoints, "watch", *words],
                stdout=out, stderr=subprocess.STDOUT, env=environment() | {"ETCDCTL_API": "3"},
            )  # fmt: skip

    def seen(self) -> list[str]:
        return self.path.read_text().split()

    def end(self) -> None:
        self.process.terminate()  # who starts the tests may have SIGINT ignored
        self.process.wait(PATIENCE)


def test_watch_from_an_old_revision_sees_everything_since(cluster: Cluster, tmp_path: Path) -> None:
    first = json.loads(cluster.etcdctl("put", "w/old", "1", "-w", "json"))["header"]["revision"]
    cluster.etcdctl("put", "w/old", "2")
    cluster.etcdctl("del", "w/old")
    watcher = Watcher(cluster, tmp_path, "w/old", f"--rev={first}")
    try:
        wait_until("three old events", lambda: watcher.seen() == ["PUT", "w/old", "1", "PUT", "w/old", "2",
                                                                  "DELETE", "w/old"])  # fmt: skip
        cluster.etcdctl("put", "w/old", "3")
        wait_until("the new event", lambda: watcher.seen()[-3:] == ["PUT", "w/old", "3"])
    finally:
        watcher.end()


def test_a_lease_takes_its_keys_along_when_it_expires(cluster: Cluster) -> None:

    def leased() -> str:
        lease = cluster.etcdctl("lease", "grant", "2").split()[1]
        said = cluster.etcdctl("put", f"--lease={lease}", "leased", "x", check=False)
        return lease if said == "OK\n" else ""  # else etcdctl took more than the lease's two seconds

    lease = wait_until("a key is put before its lease ends", leased)
    wait_until("the key is gone", lambda: cluster.etcdctl("get", "leased") == "")
    assert "already expired" in cluster.etcdctl("lease", "timetolive", lease)


def test_a_lease_kept_alive_lives_and_a_revoked_one_is_gone(cluster: Cluster) -> None:
    lease = cluster.etcdctl("lease", "grant", "1000").split()[1]
    assert "keepalived with TTL(1000)" in cluster.etcdctl("lease", "keep-alive", "--once", lease)
    assert lease in cluster.etcdctl("lease", "list")
    cluster.etcdctl("put", f"--lease={lease}", "revoked", "x")
    assert "attached keys([revoked])" in cluster.etcdctl("lease", "timetolive", lease, "--keys")
    cluster.etcdctl("lease", "revoke", lease)
    assert cluster.etcdctl("get", "revoked") == ""


def test_compaction_forgets_old_revisions_and_says_so(cluster: Cluster) -> None:
    first = json.loads(cluster.etcdctl("put", "c", "1", "-w", "json"))["header"]["revision"]
    now = json.loads(cluster.etcdctl("put", "c", "2", "-w", "json"))["header"]["revision"]
    assert cluster.etcdctl("compact", str(now)) == f"compacted revision {now}\n"
    refused = cluster.etcdctl("get", "c", f"--rev={first}", check=False)
    assert "etcdserver: mvcc: required revision has been compacted" in refused


@pytest.mark.parametrize("form", ["simple", "json", "fields", "table"])
def test_member_list_and_endpoint_status_in_every_form(cluster: Cluster, form: str) -> None:
    listed = cluster.etcdctl("member", "list", "-w", form)
    status = cluster.etcdctl("endpoint", "status", "-w", form)
    for member in cluster.members:
        assert member.name in listed
        assert f"127.0.0.1:{member.client_port}" in listed
        assert member.endpoint in status
    if form == "json":
        rows = json.loads(status)
        assert {row["Status"]["version"] for row in rows} == {"3.4.35"}
        assert len({row["Status"]["leader"] for row in rows}) == 1


def test_endpoint_health_in_every_form(cluster: Cluster) -> None:
    assert cluster.etcdctl("endpoint", "health", check=False).count("is healthy") == 3
    assert all(row["health"] for row in json.loads(cluster.etcdctl("endpoint", "health", "-w", "json")))
    assert cluster.etcdctl("endpoint", "health", "-w", "table").count("true") == 3


def test_values_of_any_bytes_and_up_to_the_limit_come_back(cluster: Cluster) -> None:
    blob = os.urandom(1000)
    body = {"key": base64.b64encode(b"blob").decode(), "value": base64.b64encode(blob).decode()}
    assert cluster.members[0].http("/v3/kv/put", body) is not None
    found = cluster.members[1].http("/v3/kv/range", {"key": body["key"]})
    assert found["kvs"][0]["value"] == body["value"]
    large = "x" * 1_500_000
    cluster.etcdctl("put", "large", stdin=large)
    assert len(cluster.etcdctl("get", "large", "--print-value-only")) == len(large) + 1
    refused = cluster.etcdctl("put", "huge", stdin="x" * 1_600_000, check=False)
    assert "etcdserver: request is too large" in refused


def test_a_lock_is_held_by_one_at_a_time(cluster: Cluster) -> None:
    script = cluster.folder / "count"
    script.write_text(
        "#!/bin/sh\nset -e\n"
        "found=$(etcdctl get counted --print-value-only)\netcdctl put counted $((found+1))\n"
    )
    script.chmod(0o700)
    cluster.etcdctl("put", "counted", "0")
    patient = {"ETCDCTL_DIAL_TIMEOUT": "60s", "ETCDCTL_COMMAND_TIMEOUT": "60s"}
    shared = environment() | {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": cluster.endpoints, **patient}
    holders = [
        subprocess.Popen(["etcdctl", "lock", "counter", str(script)], stdout=subprocess.DEVNULL, env=shared)
        for _ in range(4)
    ]
    assert [holder.wait(PATIENCE) for holder in holders] == [0, 0, 0, 0]
    assert cluster.etcdctl("get", "counted", "--print-value-only") == "4\n"


def test_a_watch_survives_the_crash_of_its_member(tmp_path: Path) -> None:
    with Cluster(tmp_path / "cluster", 3) as cluster:
        watcher = Watcher(cluster, tmp_path, "crash/", "--prefix", "--rev=1")
        try:
            expected = []
            for number in range(6):
                if number in (1, 3):  # one follower or leader after the other, each back before the next
                    victim = cluster.members[number // 2]
                    victim.stop(signal.SIGKILL)
                if number in (2, 4):
                    victim.start()
                    cluster.wait_healthy()
                wait_until("a write is taken", lambda n=number: "OK" in cluster.etcdctl(
                    "put", f"crash/{n}", str(n), check=False))  # fmt: skip
                expected.append(f"crash/{number}")
            wait_until("every event arrived", lambda: watcher.seen()[1::3][-1:] == expected[-1:])
            keys = watcher.seen()[1::3]
            assert list(dict.fromkeys(keys)) == expected
        finally:
            watcher.end()
