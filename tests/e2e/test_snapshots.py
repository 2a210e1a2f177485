"""Snapshots travel: from real etcd to us and back, with keys, history, leases, users and hashes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tercet.core.bbolt import DamagedDatabase
from tercet.core.etcd_snapshot import Import
from tercet.core.mvcc.record import value_of
from tercet.net.real import real_world
from tercet.net.restore import RestoreOptions, RestoreRefused, restore

from .processes import PATIENCE, Cluster, Member, environment, wait_until

pytestmark = pytest.mark.needs("etcd", "etcdctl")

PASSWORD = ["--user", "root:secret"]


def one(folder: Path, program: str) -> Cluster:
    """One member, ``etcd`` or ``tercet``, on ports of its own."""
    cluster = Cluster(folder, token="travel", flags=("--bcrypt-cost", "4"))  # every command logs in
    use(cluster.members[0], program)
    return cluster


def use(member: Member, program: str) -> None:
    member.program = ["etcd"] if program == "etcd" else [sys.executable, "-m", "tercet"]


def write_history(cluster: Cluster) -> None:
    """Puts, deletions, transactions, a compaction, long values, a lease, users."""
    ctl = cluster.etcdctl
    for number in range(8):
        ctl("put", f"key/{number}", f"value {number}")
    for number in range(4):
        ctl("put", f"key/{number}", "again " * (number * 700))
    ctl("del", "key/7")
    ctl("txn", stdin='\n\nput txn/a 1\nput txn/b 2\ndel key/6\n\n\n\n')
    ctl("compaction", "12")
    lease = ctl("lease", "grant", "5000").split()[1]
    ctl("put", "leased", "x", f"--lease={lease}")
    ctl("del", "key/5")
    ctl("role", "add", "reader")
    ctl("role", "grant-permission", "reader", "read", "key/", "--prefix")
    ctl("user", "add", "root:secret")
    ctl("user", "add", "joe:pw")
    ctl("user", "grant-role", "joe", "reader")
    ctl("auth", "enable")


def picture(cluster: Cluster) -> dict[str, Any]:
    """What a client sees, without what differs from cluster to cluster."""
    ctl = cluster.etcdctl
    found = json.loads(ctl(*PASSWORD, "get", "", "--prefix", "-w", "json"))
    past = json.loads(ctl(*PASSWORD, "get", "", "--prefix", "--rev=13", "-w", "json"))
    leases = {
        lease: ctl(*PASSWORD, "lease", "timetolive", lease, "--keys").split("attached")[1]
        for lease in ctl(*PASSWORD, "lease", "list").split()[3:]
    }
    hashed = ctl(*PASSWORD, "endpoint", "hashkv").split(", ")[1]
    return {
        "revision": found["header"]["revision"],
        "now": found["kvs"],
        "past": past["kvs"],
        "compacted": "compacted" in ctl(*PASSWORD, "get", "key/1", "--rev=11", check=False),
        "leases": leases,
        "hashkv": hashed.strip(),
        "users": ctl(*PASSWORD, "user", "list").split(),
        "role": ctl(*PASSWORD, "role", "get", "reader"),
        "joe": ctl("--user", "joe:pw", "get", "key/1", "--print-value-only"),
        "refused": "permission denied" in ctl("--user", "joe:pw", "put", "key/1", "x", check=False),
    }


def restore_here(snapshot: Path, cluster: Cluster, **options: Any) -> str:
    """Our own restore, for the first member of ``cluster``."""
    members = {member.name: (peer_url(member),) for member in cluster.members}
    first = cluster.members[0]
    wanted = RestoreOptions(**{
        "name": first.name, "data_dir": str(first.data_dir), "initial_cluster": members,
        "initial_cluster_token": "travel", "initial_advertise_peer_urls": members[first.name], **options,
    })  # fmt: skip
    return trio.run(restore, real_world("restore", write_log=lambda line: None), str(snapshot), wanted)


def peer_url(member: Member) -> str:
    return member.arguments[member.arguments.index("--initial-advertise-peer-urls") + 1]


def restore_with_etcdctl(snapshot: Path, cluster: Cluster) -> None:
    first = cluster.members[0]
    done = subprocess.run(
        ["etcdctl", "snapshot", "restore", str(snapshot), "--data-dir", str(first.data_dir),
         "--name", first.name, "--initial-cluster", f"{first.name}={peer_url(first)}",
         "--initial-cluster-token", "travel", "--initial-advertise-peer-urls", peer_url(first)],
        capture_output=True, text=True, timeout=PATIENCE, env=environment() | {"ETCDCTL_API": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("source", "restoring", "target"),
    [
        ("etcd", restore_here, "tercet"),
        ("tercet", restore_here, "tercet"),
        ("tercet", restore_here, "etcd"),
        ("tercet", restore_with_etcdctl, "etcd"),
    ],
)
def test_a_cluster_goes_on_from_the_snapshot_of_another(
    tmp_path: Path, source: str, restoring: Callable[[Path, Cluster], object], target: str
) -> None:
    snapshot = tmp_path / "snapshot.db"
    with one(tmp_path / "source", source) as cluster:
        write_history(cluster)
        before = picture(cluster)
        cluster.etcdctl(*PASSWORD, "snapshot", "save", str(snapshot))
    cluster = one(tmp_path / "target", target)
    restoring(snapshot, cluster)
    with cluster:
        assert picture(cluster) == before
        cluster.etcdctl(*PASSWORD, "put", "key/new", "1")
        members = cluster.etcdctl(*PASSWORD, "member", "list")
        assert "started, n1" in members and len(members.splitlines()) == 1
        if target == "tercet":  # the log goes on where the snapshot ended
            cluster.members[0].stop(signal.SIGKILL)
            cluster.members[0].start()
            cluster.wait_healthy()
            assert cluster.etcdctl(*PASSWORD, "get", "key/new", "--print-value-only") == "1\n"


def test_the_database_hash_is_the_one_of_etcd_for_the_same_history(tmp_path: Path) -> None:
    cluster = one(tmp_path / "both", "etcd")
    found = []
    for program in ("etcd", "tercet"):
        use(cluster.members[0], program)
        with cluster:
            for number in range(30):
                cluster.etcdctl("put", f"key/{number}", "v" * number)
            cluster.etcdctl("del", "key/1", "key/2")
            found.append(cluster.members[0].http("/v3/maintenance/hash", {})["hash"])
        shutil.rmtree(cluster.members[0].data_dir)
    assert found[0] == found[1]


def test_three_members_are_restored_from_one_file_and_a_fourth_gets_the_state(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.db"
    with one(tmp_path / "source", "tercet") as source:
        for number in range(50):
            source.etcdctl("put", f"key/{number}", "v" * 1000)
        source.etcdctl("snapshot", "save", str(snapshot))
    cluster = Cluster(tmp_path / "three", 3, token="travel")
    for member in cluster.members:
        restore_here(
            snapshot, cluster, name=member.name, data_dir=str(member.data_dir),
            initial_advertise_peer_urls=(peer_url(member),),
        )  # fmt: skip
    with cluster:
        cluster.etcdctl("put", "key/new", "1")

        def hashes() -> set[str]:
            rows = cluster.etcdctl("endpoint", "hashkv").split()
            return set(rows[1::2])

        wait_until("all members agree", lambda: len(hashes()) == 1)
        assert len(cluster.etcdctl("get", "key/", "--prefix", "--keys-only").split()) == 51


def test_what_cannot_be_restored_is_refused_with_etcds_words(tmp_path: Path) -> None:
    cluster = one(tmp_path / "source", "tercet")
    with cluster:
        for number in range(20):
            cluster.etcdctl("put", f"key/{number}", "v" * 400)
        cluster.etcdctl("snapshot", "save", str(tmp_path / "good.db"))
    data = (tmp_path / "good.db").read_bytes()
    flipped = bytearray(data)
    flipped[5000] ^= 255
    for name, content in {
        "flipped": bytes(flipped), "short": data[:-7], "bare": data[:-32], "garbage": b"not a database",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    target = one(tmp_path / "target", "tercet")
    refusals = {
        "flipped": "expected sha256 [", "short": "snapshot missing hash but --skip-hash-check=false",
        "bare": "snapshot missing hash but --skip-hash-check=false",
        "missing": f"open {tmp_path}/missing: no such file or directory",
    }  # fmt: skip
    for name, words in refusals.items():
        with pytest.raises(RestoreRefused) as caught:
            restore_here(tmp_path / name, target)
        assert str(caught.value).startswith(words)
        assert not target.members[0].data_dir.exists()
    with pytest.raises(RestoreRefused, match="couldn't find local name \"nX\" in the initial cluster"):
        restore_here(tmp_path / "good.db", target, name="nX")
    with pytest.raises(RestoreRefused, match="missing from --initial-cluster=n1="):
        restore_here(tmp_path / "good.db", target, initial_advertise_peer_urls=("http://127.0.0.1:1",))
    with pytest.raises(DamagedDatabase, match="invalid database"):
        restore_here(tmp_path / "garbage", target, skip_hash_check=True)
    assert restore_here(tmp_path / "bare", target, skip_hash_check=True) == str(target.members[0].data_dir)
    with pytest.raises(RestoreRefused, match=r"exists$"):
        restore_here(tmp_path / "good.db", target)


def test_a_snapshot_is_of_one_moment_while_writes_go_on(tmp_path: Path) -> None:
    """Two keys are always written together: no snapshot may show one without the other."""
    with one(tmp_path / "source", "tercet") as cluster:
        member = cluster.members[0]
        for number in range(30):
            cluster_put(member, f"fill/{number}", "v" * 30_000)
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, f"http://{member.endpoint}/v3/kv/txn"], stdout=subprocess.PIPE
        )
        try:
            assert writer.stdout is not None
            writer.stdout.readline()
            snapshots = [tmp_path / f"{number}.db" for number in range(8)]
            for snapshot in snapshots:
                cluster.etcdctl("snapshot", "save", str(snapshot))
        finally:
            writer.kill()
            writer.communicate()
    pairs = [pair_in(snapshot.read_bytes()) for snapshot in snapshots]
    for left, right in pairs:
        assert left == right
    assert len(set(pairs)) > 1, "nobody has written meanwhile"
    target = one(tmp_path / "target", "tercet")
    restore_here(snapshots[-1], target)
    with target:
        got = target.etcdctl("get", "pair/", "--prefix", "--print-value-only").split()
    assert tuple(got) == tuple(value.decode() for _, value in pairs[-1])


def pair_in(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """Revision and value of the two keys in a snapshot."""
    source = Import(lambda offset, length: data[offset : offset + length], len(data))
    newest = {record.key: record for record in source.records() if record.key.startswith(b"pair/")}
    found = [newest[key] for key in (b"pair/a", b"pair/b")]
    return tuple((record.mod_revision, value_of(record.data or b"")) for record in found)


def cluster_put(member: Member, key: str, value: str) -> None:
    answer = member.http("/v3/kv/put", {"key": to_base64(key), "value": to_base64(value)})
    assert answer is not None and answer["header"]["revision"]


def to_base64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()


WRITER = """
import base64, json, sys, urllib.request
code = lambda text: base64.b64encode(text.encode()).decode()
number = 0
while True:
    puts = [{"request_put": {"key": code(key), "value": code(str(number))}} for key in ("pair/a", "pair/b")]
    request = urllib.request.Request(sys.argv[1], data=json.dumps({"success": puts}).encode())
    urllib.request.urlopen(request).read()
    number += 1
    print(number, flush=True) if number == 1 else None
"""
