"""The servers under measurement: real processes with etcd's flags, on loopback, data on the same disk."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..ports import held_ports

__all__ = ["COMMANDS", "Target", "TargetFailed"]

#: What starts one member of each known target; anything else is taken as a command line with etcd's flags.
COMMANDS: dict[str, tuple[str, ...]] = {
    "tercet": (sys.executable, "-m", "tercet"),
    "etcd": ("etcd",),
}

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class TargetFailed(RuntimeError):
    """A server did not start, or died; the message ends with the last lines of its log."""


class Target:
    """One cluster of one or three members of one kind; a context manager that stops what it started."""

    def __init__(self, name: str, members: int, folder: Path, flags: Sequence[str] = ()) -> None:
        self.name = name
        self.flags = flags  # more than every member needs
        self.members = members
        self.folder = folder / f"{name.replace('/', '_').replace(' ', '_')}-{members}"
        self.folder.mkdir(parents=True)
        self._held = ExitStack()
        ports = held_ports(2 * members, self._held)
        self.client_ports, self.peer_ports = ports[:members], ports[members:]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.leader_port = self.client_ports[0]

    def __enter__(self) -> Target:
        try:
            for number in range(self.members):
                self._spawn(number)
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._held.close()

    def _spawn(self, number: int) -> None:
        client = f"http://127.0.0.1:{self.client_ports[number]}"
        peer = f"http://127.0.0.1:{self.peer_ports[number]}"
        cluster = ",".join(f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(self.peer_ports))
        argv = [
            *COMMANDS.get(self.name, shlex.split(self.name)),
            "--name", f"m{number}", "--data-dir", str(self.folder / f"m{number}"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", cluster, "--initial-cluster-token", "bench", *self.flags,
        ]  # fmt: skip
        with open(self.folder / f"m{number}.log", "ab") as log:
            self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def _wait_ready(self, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        for number, port in enumerate(self.client_ports):
            while not _healthy(port):
                if self.processes[number].poll() is not None or time.monotonic() > end:
                    raise TargetFailed(f"{self.name} member {number} is not ready\n{self._log_tail(number)}")
                time.sleep(0.1)
        self._find_leader()

    def _log_tail(self, number: int) -> str:
        return "\n".join((self.folder / f"m{number}.log").read_text(errors="replace").splitlines()[-8:])

    def _find_leader(self) -> None:
        for port in self.client_ports:
            status = _gateway(port, "/v3/maintenance/status")
            if status.get("leader") == status["header"]["member_id"]:
                self.leader_port = port
                return
        raise TargetFailed(f"{self.name}: no member says that it leads")

    def url(self, path: str) -> str:
        """The leader's address for a gRPC path."""
        return f"http://127.0.0.1:{self.leader_port}{path}"

    def revision(self) -> int:
        """The store's revision at the leader: tells whether the writes really happened."""
        return int(_gateway(self.leader_port, "/v3/maintenance/status")["header"].get("revision", 0))

    def cpu_seconds(self) -> float:
        """CPU time used so far by all members together, user and system."""
        total = 0
        for process in self.processes:
            if process.poll() is not None:
                raise TargetFailed(f"a member of {self.name} ended with exit status {process.returncode}")
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / _TICKS_A_SECOND

    def memory_bytes(self) -> int:
        """Resident memory of all members together, shared pages of mapped files left out."""
        total = 0
        for process in self.processes:
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += int(status.split("RssAnon:")[1].split()[0]) * 1024
        return total

    def restart(self, seconds: float) -> None:
        """Stop every member and start it again on its data; ready within ``seconds``."""
        self.stop()
        self.processes.clear()
        for number in range(self.members):
            self._spawn(number)
        self._wait_ready(seconds)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _gateway(port: int, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, "{}", {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _healthy(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
