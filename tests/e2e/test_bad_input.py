"""Wrong starts and damaged data: one clear line and an exit status each time, nothing lost."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import missing_program
from .processes import HOST, PATIENCE, Cluster, Member, die_at, environment, free_ports, wait_until


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tercet", *words],
        capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, env=environment(),
    )  # fmt: skip


def put(member: Member, key: str, value: bytes = b"v") -> bool:
    body = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()}
    return member.http("/v3/kv/put", body, timeout=PATIENCE) is not None


def count(member: Member) -> int:
    every = {"key": "AA==", "range_end": "AA==", "count_only": True}
    found = member.http("/v3/kv/range", every, timeout=PATIENCE)
    assert found is not None
    return int(found.get("count", 0))


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_an_unknown_flag_shows_the_usage_and_exits_with_2(tmp_path: Path) -> None:
    done = run("-nope", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("flag provided but not defined: -nope\nUsage:")


def test_a_configuration_that_cannot_work_is_one_line_and_exits_with_1(tmp_path: Path) -> None:
    done = run("--election-timeout", "100", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error verifying flags, --election-timeout[100ms] should be at least as 5 times as"
        " --heartbeat-interval[100ms]. See 'tercet --help'.\n"
    )


def test_the_version_is_on_the_first_line(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "etcd Version: 3.4.35")


def test_an_unknown_command_is_named(tmp_path: Path) -> None:
    done = run("nonsense", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "tercet: unknown command 'nonsense'; see 'tercet --help'\n")


def test_an_occupied_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        url = f"http://{HOST}:{port}"
        done = run("--listen-client-urls", url, "--advertise-client-urls", url,
                   "--listen-peer-urls", f"http://{HOST}:0", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert "address already in use" in last_line(done.stderr)
    assert str(port) in last_line(done.stderr)
    assert not (tmp_path / "default.etcd").exists()


def test_a_data_directory_of_another_cluster_is_refused_and_left_alone(tmp_path: Path) -> None:
    with Cluster(tmp_path / "one", 1, token="one") as first:
        assert put(first.members[0], "mine")
        first.members[0].stop()
        other = Cluster(tmp_path / "two", 1, token="two")
        stranger = other.members[0]
        shutil.copytree(first.members[0].data_dir, stranger.data_dir)
        stranger.start()
        assert stranger.process is not None
        assert stranger.process.wait(PATIENCE) == 1
        assert 'of another cluster: its token is "one", not "two"' in last_line(stranger.log)
        first.members[0].start()
        first.wait_healthy()
        assert count(first.members[0]) == 1


def test_a_member_that_lost_its_data_directory_is_refused_and_the_others_serve(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster:
        first, second, lost = cluster.members
        assert put(first, "kept")
        lost.stop(signal.SIGKILL)
        shutil.rmtree(lost.data_dir)
        lost.start()
        assert lost.process is not None
        assert lost.process.wait(PATIENCE) == 1
        assert "has already been bootstrapped" in last_line(lost.log)
        assert put(second, "more")
        assert count(first) == 2


def test_joining_a_cluster_of_which_nobody_answers_is_refused(tmp_path: Path) -> None:
    done = run("--initial-cluster-state", "existing", cwd=tmp_path)
    assert done.returncode == 1
    assert "could not retrieve cluster information from the given URLs" in last_line(done.stderr)


def test_a_corrupt_record_in_the_middle_of_the_log_stops_the_member(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        member = cluster.members[0]
        for number in range(50):
            assert put(member, f"key{number}", b"value-%d" % number)
        member.stop(signal.SIGKILL)
        (segment,) = sorted((member.data_dir / "member" / "wal").glob("*.wal"))
        data = bytearray(segment.read_bytes())
        at = data.index(b"value-25")
        data[at] ^= 0x01
        segment.write_bytes(data)
        member.start()
        assert member.process is not None
        assert member.process.wait(PATIENCE) == 1
        line = last_line(member.log)
        assert segment.name in line
        assert line.startswith("tercet: ")
        assert "Traceback" not in member.log
        assert segment.read_bytes() == bytes(data)  # evidence is not touched


def test_a_torn_tail_of_the_log_is_cut_and_the_rest_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before the last entry is applied: what was applied is never torn, or the member says so."""
    (port,) = free_ports(1)
    monkeypatch.setitem(os.environ, "GOFAIL_HTTP", f"{HOST}:{port}")
    with Cluster(tmp_path, 1) as cluster:
        member = cluster.members[0]
        for number in range(19):
            assert put(member, f"key{number}")
        die_at(port, "raftAfterSave")
        assert not put(member, "torn", b"z" * 8192)
        assert member.process is not None
        assert member.process.wait(PATIENCE) == 2
        (segment,) = sorted((member.data_dir / "member" / "wal").glob("*.wal"))
        data = segment.read_bytes()
        sector = (data.index(b"z" * 8192) // 512 + 4) * 512
        segment.write_bytes(data[:sector] + bytes(len(data) - sector))
        member.start()
        cluster.wait_healthy()
        assert count(member) == 19


def test_a_full_disk_stops_the_member_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    probe = subprocess.run(mount, capture_output=True)
    if probe.returncode != 0:
        missing_program("no small disk can be mounted here (unshare -rm)")
    cluster = Cluster(folder, 1)
    member = cluster.members[0]
    member.log_path = tmp_path / "log"
    command = " ".join([sys.executable, "-m", "tercet", *member.arguments])
    script = (
        f"mount -t tmpfs -o size=100m tmpfs {folder} || exit 9\n{command}\necho ended with $?\n"
        f"mount -o remount,size=300m {folder}\nexec {command}\n"
    )
    with open(member.log_path, "wb") as log:
        member.process = subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", script], stdout=log, stderr=log, env=environment(),
            start_new_session=True,
        )  # fmt: skip
    try:
        cluster.wait_healthy()
        value = b"x" * 1_000_000
        acknowledged = 0
        while acknowledged < 200 and put(member, f"key{acknowledged}", value):
            acknowledged += 1
        assert 30 < acknowledged < 200
        wait_until("the member ends", lambda: "ended with 1" in member.log)
        assert "no space left" in member.log
        assert "Traceback" not in member.log
        cluster.wait_healthy()
        assert count(member) >= acknowledged
    finally:
        cluster.end()


def test_garbage_on_both_ports_disturbs_nobody(tmp_path: Path) -> None:
    with Cluster(tmp_path, 1) as cluster:
        member = cluster.members[0]
        peer_port = int(member.arguments[member.arguments.index("--listen-peer-urls") + 1].rsplit(":", 1)[1])
        garbage = (
            b"\x00" * 64,
            b"GARBAGE\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"\xff" * 100_000,
        )
        for port in (member.client_port, peer_port):
            for data in garbage:
                with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
                    deadline = time.monotonic() + PATIENCE
                    try:
                        connection.sendall(data)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            assert time.monotonic() < deadline
                    except OSError as problem:  # it has had enough, at whichever of the three that is noticed
                        assert problem.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
        assert put(member, "after")
        log = [json.loads(line) for line in member.log.splitlines()]
        assert not [line for line in log if line["level"] in ("error", "fatal")]
