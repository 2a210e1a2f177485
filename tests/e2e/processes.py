"""Members as real processes, for tests that need what no simulation has: kill -9, ports, foreign clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tercet.jepsen_like.ports import HOST, hold_port

#: In seconds: how long anything may take before a test gives it up. How quick the machine is decides no test.
PATIENCE = 90.0
#: For etcdctl and tercetctl: so much longer than their own 2 s and 5 s.
PATIENT_FLAGS = ("--dial-timeout=60s", "--command-timeout=60s")

_MOST_HELD = 200
#: The sockets that keep the ports of ``free_ports`` from everybody who asks the system for any port.
_held: deque[socket.socket] = deque()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that nobody gets by chance for some time.

    A socket of ours holds each: a server that sets SO_REUSEADDR, as all here do, may still have the port.
    """
    return [keep_port(0) for _ in range(count)]


def keep_port(port: int) -> int:
    """Hold a port, 0 for any, until many more are held; the port. Raises ``OSError``: somebody has it."""
    _held.append(hold_port(port))
    while len(_held) > _MOST_HELD:
        _held.popleft().close()
    return int(_held[-1].getsockname()[1])


def wait_until(what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Ask until the answer is true, and return it; fail with ``what`` when it takes too long."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def die_at(port: int, name: str) -> None:
    """The member whose ``GOFAIL_HTTP`` has this port dies at the fail point of that name, with status 2."""
    request = urllib.request.Request(f"http://{HOST}:{port}/{name}", data=b"panic", method="PUT")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        assert answer.status == 204


def environment() -> dict[str, str]:
    """The process's environment without what would configure a member or a client."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("ETCD", "ETCDCTL"))}


class Member:
    """One member: its command line, and its process when it runs."""

    def __init__(self, name: str, client_port: int, peer_port: int, folder: Path, arguments: Sequence[str]):
        self.name = name
        self.client_port = client_port
        self.peer_port = peer_port
        self.data_dir = folder / name
        self.log_path = folder / f"{name}.log"
        self.arguments = list(arguments)
        self.program = [sys.executable, "-m", "tercet"]
        self.process: subprocess.Popen[bytes] | None = None
        self.tls: ssl.SSLContext | None = None  # of our own requests; None: they are plain

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self.client_port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def start(self) -> None:
        assert self.process is None or self.process.poll() is not None
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.program, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(),
            )  # fmt: skip

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def http(self, path: str, body: dict[str, Any] | None = None, timeout: float = 30.0) -> Any:
        """GET, or POST with a body; the JSON answer, or None when there is none."""
        data = None if body is None else json.dumps(body).encode()
        scheme = "http" if self.tls is None else "https"
        request = urllib.request.Request(f"{scheme}://{self.endpoint}{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=self.tls) as response:
                return json.loads(response.read())
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def healthy(self) -> bool:
        found = self.http("/health")
        return bool(found) and found["health"] == "true"

    def status(self) -> dict[str, Any]:
        found = self.http("/v3/maintenance/status", {})
        assert found is not None, f"{self.name} does not answer"
        return dict(found)


class Cluster:
    """Some members that know each other; a context manager that leaves nothing running."""

    def __init__(
        self,
        folder: Path,
        size: int = 1,
        *,
        token: str = "e2e",
        flags: Sequence[str] = (),
        peer_scheme: str = "http",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(2 * size)
        names = [f"n{number + 1}" for number in range(size)]
        roster = ",".join(f"{n}={peer_scheme}://{HOST}:{p}" for n, p in zip(names, ports[size:], strict=True))
        self.members = []
        for name, client, peer in zip(names, ports[:size], ports[size:], strict=True):
            client_url = f"{'http' if tls is None else 'https'}://{HOST}:{client}"
            peer_url = f"{peer_scheme}://{HOST}:{peer}"
            arguments = [
                "--name", name, "--data-dir", str(folder / name),
                "--listen-client-urls", client_url, "--advertise-client-urls", client_url,
                "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
                "--initial-cluster", roster, "--initial-cluster-token", token, *flags,
            ]  # fmt: skip
            self.members.append(Member(name, client, peer, folder, arguments))
            self.members[-1].tls = tls

    def __enter__(self) -> Cluster:
        for member in self.members:
            member.start()
        try:
            self.wait_healthy()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        for member in self.members:
            if member.process is not None and member.process.poll() is None:
                member.process.kill()
                member.process.wait()

    def wait_healthy(self, members: Sequence[Member] | None = None) -> None:
        for member in members or self.members:
            wait_until(f"{member.name} is healthy or ends", lambda m=member: m.healthy() or not m.running())
            assert member.running(), f"{member.name} has ended:\n{member.log}"

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def leader(self) -> Member:
        """The member that the running members agree on as leader."""

        def agreed() -> Member | None:
            found = {}
            for member in self.members:
                if member.running():
                    status = member.http("/v3/maintenance/status", {})
                    if status is None or not status.get("leader"):
                        return None
                    found[status["header"]["member_id"]] = (member, status["leader"])
            leaders = {leader for _, leader in found.values()}
            return found[leaders.pop()][0] if len(leaders) == 1 and leaders <= found.keys() else None

        return wait_until("the members agree on a leader", agreed)  # type: ignore[no-any-return]

    def etcdctl(self, *words: str, check: bool = True, stdin: str = "", timeout: float = PATIENCE) -> str:
        """Run Debian's etcdctl against all members, or those that ``words`` name; its standard output."""
        where = () if "--endpoints" in words else ("--endpoints", self.endpoints)  # given twice, both count
        done = subprocess.run(
            ["etcdctl", *PATIENT_FLAGS, *where, *words],
            input=stdin, capture_output=True, text=True, timeout=timeout,
            env=environment() | {"ETCDCTL_API": "3"},
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"etcdctl {words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout if check else done.stdout + done.stderr
