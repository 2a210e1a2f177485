"""Members as real processes on loopback, which join, leave and die while a program watches."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client, open_client
from tercet.net.real import real_world
from tercet.net.world import World

from ..ports import HOST, held_ports

__all__ = ["Fleet", "FleetFailed"]

_POLL_SECONDS = 0.05


class FleetFailed(RuntimeError):
    """A member did not do what was expected in time."""


class _Line(msgspec.Struct):
    msg: str = ""


class Fleet:
    """Up to ``size`` members, n1, n2, ...; ports are chosen at once, processes start when they are wanted.

    A context manager: nothing is left running.

    Args:
        flags: for every member.
    """

    def __init__(self, folder: Path, size: int, flags: Sequence[str] = ()) -> None:
        self.folder = folder
        self.names = tuple(f"n{number + 1}" for number in range(size))
        self._held = ExitStack()
        ports = held_ports(2 * size, self._held)
        self.client_ports = dict(zip(self.names, ports[:size], strict=True))
        #: Where a member listens for others; ``advertised`` is what the others are told.
        self.peer_ports = dict(zip(self.names, ports[size:], strict=True))
        self.advertised = dict(self.peer_ports)
        self.world: World = real_world("observer", write_log=lambda line: None)
        self._flags = tuple(flags)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Fleet:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self._held.close()

    def url(self, name: str) -> str:
        """Where clients reach a member."""
        return f"http://{HOST}:{self.client_ports[name]}"

    def peer_url(self, name: str) -> str:
        """Where the others are told to reach a member."""
        return f"http://{HOST}:{self.advertised[name]}"

    @property
    def urls(self) -> tuple[str, ...]:
        """The client URLs of all members, started or not."""
        return tuple(self.url(name) for name in self.names)

    def start(self, name: str, cluster: Sequence[str], *, existing: bool = False) -> None:
        """Start a member that knows of ``cluster``, itself included; flags of the beginning do not matter
        to one that has data."""
        listen = f"http://{HOST}:{self.peer_ports[name]}"
        roster = ",".join(f"{other}={self.peer_url(other)}" for other in cluster)
        argv = [
            sys.executable, "-m", "tercet", "--name", name, "--data-dir", str(self.folder / name),
            "--listen-client-urls", self.url(name), "--advertise-client-urls", self.url(name),
            "--listen-peer-urls", listen, "--initial-advertise-peer-urls", self.peer_url(name),
            "--initial-cluster", roster, "--initial-cluster-token", "real",
            "--initial-cluster-state", "existing" if existing else "new", *self._flags,
        ]  # fmt: skip
        with open(self.folder / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal."""
        self._processes[name].send_signal(number)

    def wipe(self, name: str) -> None:
        """The disk of a member that has ended is lost."""
        shutil.rmtree(self.folder / name)

    async def ended(self, name: str, seconds: float = 20.0) -> int:
        """Wait for the end of a process; its exit status."""
        process = self._processes[name]
        with trio.move_on_after(seconds):
            while process.poll() is None:  # noqa: ASYNC110 - a process has no event
                await trio.sleep(_POLL_SECONDS)
        status = process.poll()
        if status is None:
            raise FleetFailed(f"{name} has not ended within {seconds} s")
        return status

    async def healthy(self, name: str, seconds: float = 30.0) -> None:
        """Wait until a member serves linearizable reads."""
        reason = ""
        with trio.move_on_after(seconds):
            while True:
                try:
                    async with self.client(name) as client:
                        await client.get(b"health", timeout=2)
                    return
                except TercetError as error:
                    reason = str(error)
                if self._processes[name].poll() is not None:
                    break
                await trio.sleep(_POLL_SECONDS)
        raise FleetFailed(f"{name} does not serve: {reason}\n{self.tail(name)}")

    def client(self, name: str = "", request_timeout: float = 5.0) -> Client:
        """A client of one member, or of all, for ``async with``."""
        urls = (self.url(name),) if name else self.urls
        return open_client(self.world, urls, request_timeout=request_timeout)

    async def leader(self) -> str:
        """The member that leads, as they themselves say."""
        with trio.move_on_after(20):
            while True:
                for name in self.running():
                    try:
                        async with self.client(name) as client:
                            status = await client.status(timeout=1)
                    except TercetError:
                        continue
                    if status.leader == status.header.member_id:
                        return name
                await trio.sleep(_POLL_SECONDS)
        raise FleetFailed("no leader within 20 s")

    def running(self) -> list[str]:
        """Who runs, in the order of the names."""
        found = self._processes
        return [name for name in self.names if name in found and found[name].poll() is None]

    async def agree(self, seconds: float = 60.0) -> None:
        """Wait until all that run hold the same history of keys."""
        answers: dict[str, tuple[int, int]] = {}
        with trio.move_on_after(seconds):
            while True:
                answers = {}
                for name in self.running():
                    try:
                        answers[name] = await self._hash(name)
                    except TercetError:
                        break
                if len(answers) == len(self.running()) and len(dict.fromkeys(answers.values())) == 1:
                    return
                await trio.sleep(0.1)
        raise FleetFailed(f"members do not agree within {seconds} s: {answers}")

    async def _hash(self, name: str) -> tuple[int, int]:
        async with self.client(name) as client:
            path, answer = "/etcdserverpb.Maintenance/HashKV", rpc.HashKVResponse.FromString
            found = await client.call(path, rpc.HashKVRequest(), answer, timeout=10)
        return found.header.revision, found.hash

    def memory_bytes(self, name: str) -> int:
        """Memory of a member's own, now: not counted are pages of its files, which the kernel may drop."""
        status = Path(f"/proc/{self._processes[name].pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))

    def said(self, name: str, message: str) -> int:
        """How often a member has logged a message."""
        lines = (self.folder / f"{name}.log").read_bytes().splitlines()
        return sum(_message(line) == message for line in lines)

    def tail(self, name: str) -> str:
        """The last lines of a member's log."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-8:])


def _message(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_Line).msg
    except msgspec.MsgspecError:
        return ""
