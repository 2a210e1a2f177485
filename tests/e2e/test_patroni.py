"""Patroni, the high-availability manager of PostgreSQL, on our JSON gateway: elect, fail over, recover.

Two Patroni nodes, each with a PostgreSQL of its own, keep their leader key, their lease and their watches in
a three-member cluster. PostgreSQL refuses to run as root: as root, the processes run in a user namespace in
which they are somebody else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import missing_program
from .processes import HOST, PATIENCE, Cluster, environment, free_ports, wait_until

PATRONI = Path(__file__).parent.parent.parent / ".tools" / "patroni" / "bin"
POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
AS_NOBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000") if os.geteuid() == 0 else ()


class PatroniNode:
    """One Patroni process with its PostgreSQL."""

    def __init__(self, name: str, folder: Path, cluster: Cluster) -> None:
        self.name = name
        self.api_port, self.sql_port = free_ports(2)
        self._log = folder / f"{name}.log"
        self._config = folder / f"{name}.json"
        password = {"password": "secret"}
        self._config.write_text(json.dumps({
            "scope": "demo", "name": name,
            "restapi": {"listen": f"{HOST}:{self.api_port}", "connect_address": f"{HOST}:{self.api_port}"},
            "etcd3": {"hosts": cluster.endpoints.split(","), "protocol": "http"},
            "bootstrap": {
                "dcs": {"ttl": 20, "loop_wait": 1, "retry_timeout": 8, "maximum_lag_on_failover": 1048576},
                "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, {"locale": "C"}],
            },
            "postgresql": {
                "listen": f"{HOST}:{self.sql_port}", "connect_address": f"{HOST}:{self.sql_port}",
                "data_dir": str(folder / f"{name}-data"), "bin_dir": str(POSTGRESQL[-1]),
                "pgpass": str(folder / f"{name}.pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", **password},
                    "replication": {"username": "replicator", **password},
                },
                "parameters": {"unix_socket_directories": str(folder), "fsync": "off"},
                "pg_hba": ["local all all trust", f"host all all {HOST}/32 trust",
                           f"host replication all {HOST}/32 trust"],
            },
        }))  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text()

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [*AS_NOBODY, str(PATRONI / "patroni"), str(self._config)], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env=environment(), start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill -9 the Patroni process and the PostgreSQL that it started."""
        if self.process is not None:
            for pid in (self.process.pid, *self._postmasters()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.wait(PATIENCE)
            self.process = None

    def _postmasters(self) -> list[int]:
        pid_file = self._config.parent / f"{self.name}-data" / "postmaster.pid"
        return [int(pid_file.read_text().split("\n")[0])] if pid_file.exists() else []

    def state(self) -> dict[str, Any]:
        """What Patroni's own REST API says; empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.api_port}/patroni", timeout=3) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as refusal:
            return dict(json.loads(refusal.read()))
        except (OSError, ValueError):
            return {}

    def is_primary(self) -> bool:
        state = self.state()
        return state.get("state") == "running" and state.get("role") in ("primary", "master")

    def is_replica(self) -> bool:
        state = self.state()
        return state.get("state") in ("running", "streaming") and state.get("role") in ("replica", "standby")

    def sql(self, text: str) -> str:
        psql = [str(POSTGRESQL[-1] / "psql"), "-h", HOST, "-p", str(self.sql_port), "-U", "postgres"]
        done = subprocess.run(
            [*psql, "-Atc", text, "postgres"],
            capture_output=True, text=True, timeout=PATIENCE, env=environment(),
        )  # fmt: skip
        return done.stdout.strip() if done.returncode == 0 else f"error: {done.stderr}"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Cluster, PatroniNode, PatroniNode]]:
    if not POSTGRESQL or not (PATRONI / "patroni").exists():
        missing_program("PostgreSQL or Patroni is not installed; `make debian tools` does it")
    with Cluster(tmp_path / "etcd", 3) as cluster:
        pair = (PatroniNode("alpha", tmp_path, cluster), PatroniNode("beta", tmp_path, cluster))
        try:
            yield cluster, *pair
        finally:
            for node in pair:
                node.kill()


def test_patroni_elects_fails_over_and_recovers(nodes: tuple[Cluster, PatroniNode, PatroniNode]) -> None:
    cluster, alpha, beta = nodes
    alpha.start()
    wait_until("alpha is primary", alpha.is_primary)
    beta.start()
    wait_until("beta is a replica", beta.is_replica)
    assert not alpha.sql("create table t (n int); insert into t values (1)").startswith("error")
    wait_until("beta has the row", lambda: beta.sql("select n from t") == "1")
    timeline = "select timeline_id from pg_control_checkpoint()"
    before = alpha.sql(timeline)

    leader = cluster.leader()
    leader.stop(signal.SIGKILL)  # of the three members: Patroni goes on with the others
    cluster.wait_healthy([member for member in cluster.members if member is not leader])
    wait_until("alpha says that it is primary", alpha.is_primary)
    assert alpha.sql(timeline) == before, "it was primary all the time"
    leader.start()

    alpha.kill()
    wait_until("beta takes over once alpha's lease has run out", beta.is_primary)
    assert beta.sql("insert into t values (2); select count(*) from t").splitlines()[-1] == "2"

    alpha.start()
    wait_until("alpha comes back as a replica", alpha.is_replica)
    wait_until("alpha has both rows", lambda: alpha.sql("select count(*) from t") == "2")
    leader_key = cluster.etcdctl("get", "/service/demo/leader", "--print-value-only").strip()
    assert leader_key == "beta"
