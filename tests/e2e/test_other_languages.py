"""The clients of other languages, through their own APIs, against a three-member cluster.

Each works twice: against an open cluster, and as a user with few rights against one that demands certificates
and passwords (PyPI's aetcd knows no TLS, so that cluster's ports take plain connections, too).
"""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import missing_program
from ..net.tls_files import Authority
from .processes import HOST, Cluster

HERE = Path(__file__).parent
TOOLS = HERE.parent.parent / ".tools"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("clients"), 3) as running:
        yield running


class Guarded:
    """A cluster with TLS and authentication on; ``alice`` may use the keys of the clients here."""

    user = ("alice", "apw")
    prefixes = ("py/", "pw/", "pl/", "/locks/pk", "ay/", "aw/", "al/", "alock", "js/", "jw/", "jl/", "jk")

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        server, client = authority.sign("server", hosts=[HOST]), authority.sign("mallory")
        self.certificates = (authority.file, client.cert_file, client.key_file)
        flags = ["--bcrypt-cost=4", f"--cert-file={server.cert_file}", f"--key-file={server.key_file}",
                 f"--trusted-ca-file={authority.file}", "--client-cert-auth"]  # fmt: skip
        context = ssl.create_default_context(cafile=authority.file)
        context.load_cert_chain(client.cert_file, client.key_file)
        self.cluster = Cluster(folder / "data", 3, flags=flags, tls=context)
        for member in self.cluster.members:
            both = f"https://{member.endpoint},http://{member.endpoint}"
            member.arguments += ["--listen-client-urls", both]

    def furnish(self) -> None:
        """Make the users and turn authentication on."""
        self.ask("user/add", name="root", password="rpw")
        self.ask("user/add", name="alice", password="apw")
        self.ask("role/add", name="root")
        self.ask("role/add", name="clients")
        self.ask("user/grant", user="root", role="root")
        self.ask("user/grant", user="alice", role="clients")
        for prefix in self.prefixes:
            start = prefix.encode()
            end = start[:-1] + bytes([start[-1] + 1])
            shown = [base64.b64encode(key).decode() for key in (start, end)]
            self.ask("role/grant", name="clients",
                     perm={"permType": "READWRITE", "key": shown[0], "range_end": shown[1]})  # fmt: skip
        self.ask("enable")

    def ask(self, path: str, **body: object) -> None:
        assert self.cluster.members[0].http(f"/v3/auth/{path}", body) is not None, path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("guarded"))
    with made.cluster:
        made.furnish()
        yield made


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pythons_etcd3_works(cluster: Cluster) -> None:
    python = TOOLS / "python-etcd3" / "bin" / "python"
    if not python.exists():
        missing_program("PyPI's etcd3 is not installed; `make tools` does it")
    out = run(str(python), str(HERE / "python_etcd3_client.py"), HOST, str(cluster.members[1].client_port))
    assert out.splitlines()[-1] == "ok a released lock is free"


def test_pythons_etcd3_works_with_certificates_and_a_password(guarded: Guarded) -> None:
    python = TOOLS / "python-etcd3" / "bin" / "python"
    if not python.exists():
        missing_program("PyPI's etcd3 is not installed; `make tools` does it")
    port = str(guarded.cluster.members[1].client_port)
    out = run(
        str(python), str(HERE / "python_etcd3_client.py"), HOST, port, *guarded.user, *guarded.certificates
    )
    lines = out.splitlines()
    assert "ok wrong password" in lines
    assert lines.count("ok permission denied") == 2
    assert lines[-1] == "ok a released lock is free"


def test_pythons_aetcd_works(cluster: Cluster) -> None:
    python = TOOLS / "patroni" / "bin" / "python"
    if not python.exists():
        missing_program("PyPI's aetcd is not installed; `make tools` does it")
    out = run(str(python), str(HERE / "python_aetcd_client.py"), HOST, str(cluster.members[2].client_port))
    assert out.splitlines()[-1] == "ok a released lock is free"


def test_pythons_aetcd_works_with_a_password(guarded: Guarded) -> None:
    python = TOOLS / "patroni" / "bin" / "python"
    if not python.exists():
        missing_program("PyPI's aetcd is not installed; `make tools` does it")
    port = str(guarded.cluster.members[2].client_port)
    lines = run(str(python), str(HERE / "python_aetcd_client.py"), HOST, port, *guarded.user).splitlines()
    assert "ok wrong password" in lines
    assert lines.count("ok permission denied") == 2
    assert lines[-1] == "ok a released lock is free"


@pytest.mark.needs("node")
def test_nodes_etcd3_works(cluster: Cluster) -> None:
    module = TOOLS / "node" / "node_modules" / "etcd3"
    if not module.exists():
        missing_program("npm's etcd3 is not installed; `make tools` does it")
    out = run("node", str(HERE / "node_etcd3_client.js"), str(module), cluster.endpoints)
    assert out.splitlines()[-1] == "ok lock"


@pytest.mark.needs("node")
def test_nodes_etcd3_works_with_certificates_and_a_password(guarded: Guarded) -> None:
    module = TOOLS / "node" / "node_modules" / "etcd3"
    if not module.exists():
        missing_program("npm's etcd3 is not installed; `make tools` does it")
    script, hosts = str(HERE / "node_etcd3_client.js"), guarded.cluster.endpoints
    lines = run("node", script, str(module), hosts, *guarded.user, *guarded.certificates).splitlines()
    assert sum(line.startswith("ok permission: ") for line in lines) == 1
    assert sum(line.startswith("ok password: ") for line in lines) == 1
    assert lines[-1] == "ok lock"
