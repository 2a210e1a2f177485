"""What a start may run into: another process on the data directory, a first start or a restore that died."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .processes import PATIENCE, Cluster, Member, environment, free_ports, wait_until

#: What appears in the data directory of a member that starts for the first time, in this order.
_APPEARING = ("member", "member/wal/lock", "member/wal/*.wal", "member/backend*")
#: And in that of a restore.
_RESTORED = ("member", "member/restoring", "member/snap/db", "member/wal/*.wal")


def kill_when(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> None:
    """Kill as soon as something appears; it may have ended before."""
    wait_until(
        f"{pattern} appears or the program ends",
        lambda: any(folder.glob(pattern)) or process.poll() is not None,
    )
    process.kill()
    process.wait()


def test_a_second_process_on_a_data_directory_is_told_and_ends_and_the_first_goes_on(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        first = cluster.members[0]
        client, peer = free_ports(2)
        arguments = [
            word.replace(str(first.client_port), str(client)).replace(str(first.peer_port), str(peer))
            for word in first.arguments
        ]
        second = Member("second", client, peer, tmp_path, arguments)
        second.start()
        assert second.process is not None
        assert second.process.wait(PATIENCE) == 1
        assert f"{first.data_dir} is in use by another process" in second.log
        assert "Traceback" not in second.log
        assert first.http("/v3/kv/put", {"key": "YQ==", "value": "MQ=="}) is not None
        first.stop()
        first.start()
        cluster.wait_healthy()
        assert first.http("/v3/kv/range", {"key": "YQ=="})["count"] == "1"


@pytest.mark.parametrize("appearing", _APPEARING)
def test_a_member_killed_while_it_starts_for_the_first_time_starts_the_second_time(
    tmp_path: Path, appearing: str
) -> None:
    cluster = Cluster(tmp_path)
    (member,) = cluster.members
    try:
        member.start()
        assert member.process is not None
        kill_when(member.process, member.data_dir, appearing)
        with cluster:
            assert member.http("/v3/kv/put", {"key": "YQ==", "value": "MQ=="}) is not None
            assert member.http("/v3/kv/range", {"key": "YQ=="})["count"] == "1"
            assert '"level":"error"' not in member.log
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot with 50 keys."""
    folder = tmp_path_factory.mktemp("snapshot")
    with Cluster(folder / "source", token="old") as source:
        for number in range(50):
            body = {"key": f"a{number:03d}", "value": "eHh4"}
            assert source.members[0].http("/v3/kv/put", body) is not None
        done = tercetctl("--endpoints", source.endpoints, "snapshot", "save", str(folder / "snapshot.db"))
        assert done.wait(PATIENCE) == 0
    return folder / "snapshot.db"


@pytest.mark.parametrize("appearing", _RESTORED)
def test_a_restore_that_was_killed_never_passes_for_the_whole_state(
    tmp_path: Path, snapshot: Path, appearing: str
) -> None:
    """A member on what it left has all keys or refuses, and so does a second restore into it."""
    target = Cluster(tmp_path / "target", token="new")
    (member,) = target.members
    peer = member.arguments[member.arguments.index("--initial-advertise-peer-urls") + 1]
    words = (
        "snapshot", "restore", str(snapshot), "--data-dir", str(member.data_dir), "--name", member.name,
        "--initial-cluster", f"{member.name}={peer}", "--initial-cluster-token", "new",
        "--initial-advertise-peer-urls", peer,
    )  # fmt: skip
    restoring = tercetctl(*words)
    kill_when(restoring, member.data_dir, appearing)
    began = any(path.name != "restoring.tmp" for path in (member.data_dir / "member").glob("*"))
    if member.data_dir.exists():
        assert tercetctl(*words).wait(PATIENCE) == 1
    try:
        member.start()
        assert member.process is not None
        wait_until("it serves or ends", lambda: member.healthy() or not member.running())
        if member.running():
            found = member.http("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "count_only": True})
            assert found.get("count") == "50" or not began
        else:
            assert member.process.returncode == 1
            assert "did not come to its end: remove the directory and restore again" in member.log
            assert "Traceback" not in member.log
    finally:
        target.end()


def tercetctl(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tercet.net.ctl", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip
