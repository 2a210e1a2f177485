"""TLS end to end: members as processes, Debian's etcdctl and curl's kind of client in front of them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest

from ..net.tls_files import Authority, Pair
from .processes import HOST, PATIENCE, PATIENT_FLAGS, Cluster, environment, free_ports, wait_until

pytestmark = pytest.mark.needs("etcdctl")


def context(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=authority.file)
    if client is not None:
        found.load_cert_chain(client.cert_file, client.key_file)
    return found


def etcdctl(*words: str, patient: bool = True) -> subprocess.CompletedProcess[str]:
    """Run etcdctl; not patient: what it does is refused, and it would try again."""
    times = PATIENT_FLAGS if patient else ("--command-timeout=2s",)
    return subprocess.run(
        ["etcdctl", *times, *words],
        capture_output=True, text=True, timeout=PATIENCE, env=environment() | {"ETCDCTL_API": "3"},
    )  # fmt: skip


def test_mutual_tls_between_members_and_with_clients(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    member = authority.sign("member", hosts=[HOST])
    client = authority.sign("client")
    flags = [
        f"{prefix}{name}={value}"
        for prefix in ("--", "--peer-")
        for name, value in (("cert-file", member.cert_file), ("key-file", member.key_file),
                            ("trusted-ca-file", authority.file), ("client-cert-auth", "true"))
    ]  # fmt: skip
    with Cluster(tmp_path / "data", 3, flags=flags, peer_scheme="https",
                 tls=context(authority, client)) as cluster:  # fmt: skip
        urls = ",".join(f"https://{member.endpoint}" for member in cluster.members)
        trust = ["--cacert", authority.file]
        show = ["--cert", client.cert_file, "--key", client.key_file]
        assert etcdctl("--endpoints", urls, *trust, *show, "put", "a", "1").stdout == "OK\n"
        for one in cluster.members:
            assert etcdctl("--endpoints", one.endpoint, *trust, *show, "get", "a").stdout == "a\n1\n"
        blind = ["--insecure-skip-tls-verify", "--insecure-transport=false"]
        assert etcdctl("--endpoints", urls, *blind, *show, "get", "a").stdout == "a\n1\n"
        for refused in (trust, [*trust, "--cert", member.key_file, "--key", member.key_file], []):
            assert etcdctl("--endpoints", urls, *refused, "get", "a", patient=False).returncode != 0
        plain = urls.replace("https", "http")
        assert etcdctl("--endpoints", plain, "get", "a", patient=False).returncode != 0
        assert "tls: client didn't provide a certificate" in "".join(one.log for one in cluster.members)
        assert cluster.members[0].http("/version")["etcdserver"] == "3.4.35"


def test_three_members_with_self_made_peer_certificates(tmp_path: Path) -> None:
    with Cluster(tmp_path, 3, flags=["--peer-auto-tls"], peer_scheme="https") as cluster:
        assert cluster.etcdctl("put", "a", "1") == "OK\n"
        first = cluster.members[0]
        fixtures = first.data_dir / "fixtures" / "peer"
        made = (fixtures / "cert.pem").read_bytes()
        assert (fixtures / "key.pem").stat().st_mode & 0o777 == 0o600
        first.stop()
        first.start()
        cluster.wait_healthy([first])
        assert (fixtures / "cert.pem").read_bytes() == made
        assert cluster.etcdctl("--endpoints", first.endpoint, "get", "a") == "a\n1\n"
        with socket.create_connection((HOST, first.peer_port)) as plain:
            plain.settimeout(PATIENCE)
            plain.sendall(b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"HTTP" not in plain.recv(1000)


def test_a_stranger_is_no_peer_when_certificates_are_demanded(tmp_path: Path) -> None:
    """One member's certificate has another common name than the flag demands: it never joins in."""
    authority = Authority(tmp_path)
    good = authority.sign("member", hosts=[HOST], file="good")
    bad = authority.sign("mallory", hosts=[HOST], file="bad")
    flags = [
        f"--peer-cert-file={good.cert_file}", f"--peer-key-file={good.key_file}",
        f"--peer-trusted-ca-file={authority.file}", "--peer-client-cert-auth",
        "--peer-cert-allowed-cn=member",
    ]  # fmt: skip
    cluster = Cluster(tmp_path / "data", 3, flags=flags, peer_scheme="https")
    mallory = cluster.members[2]
    replaced = {good.cert_file: bad.cert_file, good.key_file: bad.key_file}
    mallory.arguments = [
        f"{name}={replaced.get(value, value)}" if equals else name
        for name, equals, value in (word.partition("=") for word in mallory.arguments)
    ]
    roster = mallory.arguments.index("--initial-cluster") + 1
    mallory.arguments[roster] = cluster.members[0].arguments[roster]
    try:
        for one in cluster.members:
            one.start()
        cluster.wait_healthy(cluster.members[:2])
        refusal = '"error":"client certificate authentication failed"'
        wait_until("the stranger is refused", lambda: refusal in cluster.members[0].log)
        assert mallory.http("/health") in (None, {"health": "false"})
        assert not mallory.healthy()
    finally:
        cluster.end()


def test_http_and_https_and_unix_sockets_at_once(tmp_path: Path) -> None:
    """One port for plain and TLS, a socket file of each kind, and a certificate that nobody gave."""
    port, peer = free_ports(2)
    plain, secure = tmp_path / "plain.sock", tmp_path / "secure.sock"
    listen = f"http://{HOST}:{port},https://{HOST}:{port},unix://{plain},unixs://{secure}"
    cluster = Cluster(tmp_path / "data")
    member = cluster.members[0]
    member.client_port = port
    member.arguments = [
        "--data-dir", str(tmp_path / "n1"), "--name", "n1", "--auto-tls",
        "--listen-client-urls", listen, "--advertise-client-urls", f"http://{HOST}:{port}",
        "--listen-peer-urls", f"http://{HOST}:{peer}",
        "--initial-advertise-peer-urls", f"http://{HOST}:{peer}",
        "--initial-cluster", f"n1=http://{HOST}:{peer}",
    ]  # fmt: skip
    with cluster:
        blind = ["--insecure-skip-tls-verify", "--insecure-transport=false"]
        assert etcdctl("--endpoints", f"http://{HOST}:{port}", "put", "a", "1").stdout == "OK\n"
        for endpoint, more in (
            (f"https://{HOST}:{port}", blind), (f"unix://{plain}", []), (f"unixs://{secure}", blind),
        ):  # fmt: skip
            assert etcdctl("--endpoints", endpoint, *more, "get", "a").stdout == "a\n1\n", endpoint
        made = (tmp_path / "n1" / "fixtures" / "client" / "cert.pem").read_text()
        assert made.startswith("-----BEGIN CERTIFICATE-----")
        assert member.stop() == 0
        assert not plain.exists()
        assert not secure.exists()


def test_browsers_get_http_1_and_grpc_gets_http_2(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("member", hosts=[HOST])
    (metrics,) = free_ports(1)
    flags = [f"--cert-file={pair.cert_file}", f"--key-file={pair.key_file}",
             f"--listen-metrics-urls=https://{HOST}:{metrics}"]  # fmt: skip
    with Cluster(tmp_path / "data", flags=flags, tls=context(authority)) as cluster:
        for offered, chosen in ((["h2"], "h2"), (["h2", "http/1.1"], "http/1.1"), (["x"], None)):
            ours = context(authority)
            ours.set_alpn_protocols(offered)
            with socket.create_connection((HOST, cluster.members[0].client_port)) as sock, ours.wrap_socket(
                sock, server_hostname=HOST
            ) as tls:
                assert tls.selected_alpn_protocol() == chosen
        url = f"https://{HOST}:{metrics}/metrics"
        with urllib.request.urlopen(url, context=context(authority), timeout=PATIENCE) as page:
            assert b"etcd_server_has_leader 1.0" in page.read()


@pytest.mark.parametrize(("flags", "words"), [
    (["--cert-file=/nope", "--key-file=/nope"], "open /nope: no such file or directory"),
    (["--cert-file=/nope"], "KeyFile and CertFile must both be present[key: , cert: /nope]"),
    ([], "TLS key/cert (--cert-file, --key-file) must be provided for client url"),
])  # fmt: skip
def test_a_member_without_usable_certificates_says_so_and_ends(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    cluster = Cluster(tmp_path / "data", flags=flags, tls=ssl.create_default_context())
    member = cluster.members[0]
    try:
        member.start()
        assert member.process is not None
        assert member.process.wait(PATIENCE) == 1
        assert words in member.log
    finally:
        cluster.end()
