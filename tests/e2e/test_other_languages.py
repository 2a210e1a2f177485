"""The clients of other languages, through their own APIs, against a three-member cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import missing_program
from .processes import HOST, Cluster

HERE = Path(__file__).parent
TOOLS = HERE.parent.parent / ".tools"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("clients"), 3) as running:
        yield running


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pythons_etcd3_works(cluster: Cluster) -> None:
    python = TOOLS / "python-etcd3" / "bin" / "python"
    if not python.exists():
        missing_program("PyPI's etcd3 is not installed; `make tools` does it")
    out = run(str(python), str(HERE / "python_etcd3_client.py"), HOST, str(cluster.members[1].client_port))
    assert out.splitlines()[-1] == "ok a released lock is free"


def test_pythons_aetcd_works(cluster: Cluster) -> None:
    python = TOOLS / "patroni" / "bin" / "python"
    if not python.exists():
        missing_program("PyPI's aetcd is not installed; `make tools` does it")
    out = run(str(python), str(HERE / "python_aetcd_client.py"), HOST, str(cluster.members[2].client_port))
    assert out.splitlines()[-1] == "ok a released lock is free"


@pytest.mark.needs("node")
def test_nodes_etcd3_works(cluster: Cluster) -> None:
    module = TOOLS / "node" / "node_modules" / "etcd3"
    if not module.exists():
        missing_program("npm's etcd3 is not installed; `make tools` does it")
    out = run("node", str(HERE / "node_etcd3_client.js"), str(module), cluster.endpoints)
    assert out.splitlines()[-1] == "ok lock"
