"""``tercet grpc-proxy`` in front of real members, with Debian's etcdctl as the client."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..net.tls_files import Authority
from .processes import HOST, PATIENCE, PATIENT_FLAGS, Cluster, environment, free_ports, wait_until

pytestmark = pytest.mark.needs("etcdctl")


def start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tercet", "grpc-proxy", "start", *words],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment(),
        )  # fmt: skip


@contextmanager
def proxy(cluster: Cluster, *words: str) -> Iterator[str]:
    """A proxy before the cluster; its address."""
    address = f"{HOST}:{free_ports(1)[0]}"
    log = cluster.folder / f"proxy-{address.rpartition(':')[2]}.log"
    own = ["--listen-addr", address, "--advertise-client-url", address]
    process = start(["--endpoints", cluster.endpoints, *own, *words], log)
    try:
        wait_until("the proxy has started", lambda: "started gRPC proxy" in log.read_text())
        yield address
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def etcdctl(address: str, *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["etcdctl", *PATIENT_FLAGS, "--endpoints", address, *words],
        input=stdin, capture_output=True, text=True, timeout=PATIENCE,
        env=environment() | {"ETCDCTL_API": "3"},
    )  # fmt: skip
    return done.stdout + done.stderr


def test_calls_of_every_kind_go_through_and_survive_the_loss_of_a_member(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3) as cluster, proxy(cluster) as address:
        watch = subprocess.Popen(
            ["etcdctl", "--endpoints", address, "watch", "--prefix", "k"],
            stdout=subprocess.PIPE, text=True, env=environment() | {"ETCDCTL_API": "3"},
        )  # fmt: skip
        try:
            assert watch.stdout is not None
            assert etcdctl(address, "put", "warm", "up") == "OK\n"
            metrics = f"http://{address}/metrics"

            def watching() -> bool:
                with urllib.request.urlopen(metrics, timeout=PATIENCE) as page:
                    text = page.read().decode()
                return 'grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch"' \
                    ',grpc_type="bidi_stream"} 1.0' in text  # fmt: skip

            wait_until("the watch is created", watching)
            assert etcdctl(address, "put", "k1", "v1") == "OK\n"
            assert [watch.stdout.readline() for _ in range(3)] == ["PUT\n", "k1\n", "v1\n"]
        finally:
            watch.kill()
            watch.communicate()
        assert etcdctl(address, "txn", stdin='val("k1") = "v1"\n\nput k2 v2\n\n\n\n').startswith("SUCCESS")
        lease = etcdctl(address, "lease", "grant", "60").split()[1]
        assert "keepalived with TTL(60)" in etcdctl(address, "lease", "keep-alive", "--once", lease)
        assert etcdctl(address, "lock", "m", "echo", "held") == "held\n"
        assert "Snapshot saved" in etcdctl(address, "snapshot", "save", str(tmp_path / "s.db"))
        assert "required revision is a future revision" in etcdctl(address, "get", "k", "--rev=10000")
        cluster.members[0].stop(signal.SIGKILL)
        cluster.leader()
        wait_until("reads go on", lambda: etcdctl(address, "get", "k2", "--print-value-only") == "v2\n")
        wait_until("writes go on", lambda: etcdctl(address, "put", "k3", "v3") == "OK\n")


def test_a_namespace_is_a_cluster_of_its_own_and_the_proxy_its_only_member(tmp_path: Path) -> None:
    metrics = f"http://{HOST}:{free_ports(1)[0]}"
    words = ("--namespace", "team/", "--metrics-addr", metrics, "--max-send-bytes", "5000")
    with Cluster(tmp_path) as cluster, proxy(cluster, *words) as address:
        cluster.etcdctl("put", "outside", "x")
        assert etcdctl(address, "put", "inside", "y") == "OK\n"
        assert etcdctl(address, "get", "", "--from-key", "--keys-only").split() == ["inside"]
        assert cluster.etcdctl("get", "", "--prefix", "--keys-only").split() == ["outside", "team/inside"]
        assert etcdctl(address, "del", "", "--prefix") == "1\n"
        assert cluster.etcdctl("get", "", "--prefix", "--keys-only").split() == ["outside"]
        listed = json.loads(etcdctl(address, "member", "list", "-w", "json"))["members"]
        assert [member["clientURLs"] for member in listed] == [[address]]
        assert "larger than max" in etcdctl(address, "put", "k", "x" * 6000)
        with urllib.request.urlopen(f"{metrics}/health", timeout=PATIENCE) as page:
            assert page.read() == b'{"health":"true"}'


def test_users_are_who_their_tokens_say(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster, proxy(cluster) as address:
        for words in (("user", "add", "root:r"), ("auth", "enable")):
            etcdctl(address, *words)
        assert "user name is empty" in etcdctl(address, "get", "k")
        assert etcdctl(address, "put", "k", "v", "--user=root:r") == "OK\n"
        assert "authentication failed" in etcdctl(address, "put", "k", "v", "--user=root:wrong")


@pytest.mark.parametrize(("words", "said"), [
    (("--resolver-prefix", "x"), "--resolver-prefix is not supported"),
    (("--listen-cipher-suites", "NOPE"), 'unexpected TLS cipher suite "NOPE"'),
    (("--cert-file", "only"), "KeyFile and CertFile must both be present"),
    (("--cert", "/nope", "--key", "/nope"), "open /nope: no such file or directory"),
])  # fmt: skip
def test_what_cannot_work_ends_with_its_reason(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    log = tmp_path / "log"
    assert start([*words, "--listen-addr", f"{HOST}:0"], log).wait(PATIENCE) == 1
    assert said in log.read_text()


def test_the_certificate_shown_to_members_must_name_nobody(tmp_path: Path) -> None:
    """The cluster would take every client of the proxy for that user."""
    pair = Authority(tmp_path).sign("somebody")
    log = tmp_path / "log"
    words = ["--cert", pair.cert_file, "--key", pair.key_file, "--listen-addr", f"{HOST}:0"]
    assert start(words, log).wait(PATIENCE) == 1
    assert "cert has non empty Common Name (somebody)" in log.read_text()


def test_both_sides_may_speak_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, nameless = authority.sign("server", hosts=[HOST]), authority.sign("")
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(nameless.cert_file, nameless.key_file)
    flags = ("--cert-file", server.cert_file, "--key-file", server.key_file,
             "--client-cert-auth", "--trusted-ca-file", authority.file)  # fmt: skip
    words = ("--cert", nameless.cert_file, "--key", nameless.key_file, "--cacert", authority.file,
             "--cert-file", server.cert_file, "--key-file", server.key_file)  # fmt: skip
    with Cluster(tmp_path / "c", flags=flags, tls=context) as cluster, proxy(cluster, *words) as address:
        tls = ("--cacert", authority.file)
        assert etcdctl(f"https://{address}", *tls, "put", "k", "v") == "OK\n"
        assert etcdctl(f"https://{address}", *tls, "get", "k", "--print-value-only") == "v\n"
