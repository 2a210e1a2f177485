"""A member as a process: its log's places and shapes, its supervisor, its separate ports."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from .processes import HOST, PATIENCE, Cluster, environment, free_ports, wait_until


def test_the_log_goes_where_it_was_told_to(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    with Cluster(tmp_path / "data", flags=[f"--log-outputs={one},stdout,{two}"]) as cluster:
        assert cluster.members[0].stop() == 0
        assert one.read_bytes() == two.read_bytes() == cluster.members[0].log_path.read_bytes()
        lines = [json.loads(line) for line in one.read_text().splitlines()]
        assert {"level", "ts", "msg"} <= lines[0].keys()
        assert "ready to serve client requests" in [line["msg"] for line in lines]


def test_console_lines_are_for_people(tmp_path: Path) -> None:
    with Cluster(tmp_path, flags=["--log-format=console"]) as cluster:
        cluster.members[0].stop()
        time, level, message, *_ = cluster.members[0].log.splitlines()[0].split("\t")
        assert time.endswith("Z")
        assert (level, bool(message)) == ("info", True)


@pytest.mark.parametrize(("flags", "words"), [
    (["--log-outputs=/nope/x"],
     'error verifying flags, open sink "/nope/x": open /nope/x: no such file or directory. See'),
    (["--log-level=foo"], 'unknown level "foo"'),
])  # fmt: skip
def test_a_log_that_cannot_be_is_an_error_at_once(flags: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tercet", *flags],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert words in done.stderr


def test_the_supervisor_is_told_when_requests_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with Cluster(tmp_path / "data"):
            assert supervisor.recv(100) == b"READY=1"


def test_http_clients_can_have_ports_of_their_own(tmp_path: Path) -> None:
    """gRPC and HTTP apart, and metrics on a third address: each serves its own kind alone."""
    http, metrics = free_ports(2)
    flags = [
        f"--listen-{kind}-urls=http://{HOST}:{port}"
        for kind, port in (("client-http", http), ("metrics", metrics))
    ]
    cluster = Cluster(tmp_path, flags=flags)
    member = cluster.members[0]
    grpc_port, member.client_port = member.client_port, http
    with cluster:
        assert member.http("/version")["etcdserver"] == "3.4.35"
        answer = member.http("/v3/kv/put", {"key": "YQ==", "value": "YQ=="})
        assert answer["header"]["revision"] == "2"
        with urllib.request.urlopen(f"http://{HOST}:{metrics}/metrics", timeout=PATIENCE) as response:
            assert b"etcd_server_has_leader 1" in response.read()
        with socket.create_connection((HOST, grpc_port), timeout=PATIENCE) as plain:
            plain.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            assert plain.recv(1000) == b""


def test_a_member_that_never_syncs_says_so_and_serves(tmp_path: Path) -> None:
    with Cluster(tmp_path, flags=["--unsafe-no-fsync"]) as cluster:
        member = cluster.members[0]
        assert "--unsafe-no-fsync" in member.log
        member.http("/v3/kv/put", {"key": "YQ==", "value": "Yg=="})
        member.stop()
        member.start()
        cluster.wait_healthy()
        assert member.http("/v3/kv/range", {"key": "YQ=="})["kvs"][0]["value"] == "Yg=="


def test_the_log_can_be_silenced_while_running(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        member = cluster.members[0]
        request = urllib.request.Request(
            f"http://{member.endpoint}/config/local/log", data=b'{"Level":"ERROR"}', method="PUT"
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert response.status == 204
        quiet = len(member.log)
        member.stop()
        wait_until("it has ended", lambda: not member.running())
        assert len(member.log) == quiet


def test_a_survivor_can_be_forced_to_go_on_alone(tmp_path: Path) -> None:
    """Two of three members are lost for good; the third keeps the data, and takes new members."""
    with Cluster(tmp_path, 3) as cluster:
        cluster.members[0].http("/v3/kv/put", {"key": "YQ==", "value": "Yg=="})
        survivor, *lost = cluster.members
        wait_until("it has the key", lambda: survivor.http(
            "/v3/kv/range", {"key": "YQ==", "serializable": True})["kvs"])  # fmt: skip
        for member in cluster.members:
            member.stop()
        survivor.arguments.append("--force-new-cluster")
        survivor.start()
        cluster.wait_healthy([survivor])
        assert survivor.http("/v3/kv/range", {"key": "YQ=="})["kvs"][0]["value"] == "Yg=="
        members = survivor.http("/v3/cluster/member/list", {})["members"]
        assert [member["name"] for member in members] == ["n1"]
        assert survivor.http("/v3/kv/put", {"key": "YQ==", "value": "Yw=="})["header"]["revision"] == "3"
        survivor.stop()
        survivor.arguments.remove("--force-new-cluster")
        survivor.start()
        cluster.wait_healthy([survivor])
        assert survivor.http("/v3/kv/range", {"key": "YQ=="})["kvs"][0]["value"] == "Yw=="
        lost[0].start()  # the cluster has gone on without it
        wait_until("the lost one is told", lambda: not lost[0].running())
