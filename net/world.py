"""The ports: all that a driver may use of the machine. The seam between the real and the simulated world.

A ``World`` is a small value that names one member's clock, network, disk, chance and probe. Drivers take
it as an argument and use nothing else: no ``trio.sleep``, ``trio.current_time``, ``time``, ``open`` or
sockets of their own (``tests/test_layout.py`` forbids them). ``net.real`` implements the ports on this
machine, ``sim.world`` inside a simulation; ``tests/contract`` runs one suite on both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

__all__ = [
    "Clock", "Connection", "Disk", "DiskFile", "DiskLock", "Listener", "Network", "Probe", "Rng", "World",
]


class Clock(Protocol):
    """This member's own idea of time: it may be skewed, jump, or run at another rate."""

    def monotonic(self) -> float:
        """Seconds since some start; never goes back, but its rate may be wrong."""

    def wall(self) -> float:
        """Unix time in seconds; may jump."""

    async def sleep(self, seconds: float) -> None:
        """Sleep for ``seconds`` >= 0 of this clock's time; 0 is a checkpoint."""

    def timeout(self, seconds: float) -> AbstractContextManager[trio.CancelScope]:
        """Cancel the body after ``seconds`` of this clock's time, like ``trio.move_on_after``."""


class Connection(Protocol):
    """One TCP connection. Errors are ``OSError`` (reset, broken pipe, ETIMEDOUT)."""

    @property
    def remote(self) -> str:
        """The other end as ``host:port``."""

    def try_send(self, data: bytes) -> int:
        """Hand over as much as the kernel takes now; the number of bytes taken, 0 when it is full.

        Synchronous: the fast path of the node's loop. Must not be called while ``send_all`` runs.
        """

    async def send_all(self, data: bytes) -> None:
        """Send everything, waiting as needed."""

    async def receive(self, max_bytes: int) -> bytes:
        """At least one byte, at most ``max_bytes``; ``b""`` when the other end has finished sending."""

    def close_sending(self) -> None:
        """Half-close: the other end reads ``b""`` after what was sent."""

    def close(self) -> None:
        """Close both directions at once; idempotent, never waits. A pending receive raises
        ``trio.ClosedResourceError``."""


class Listener(Protocol):
    @property
    def address(self) -> str:
        """The bound ``host:port``; the port that was really chosen when 0 was asked for."""

    async def accept(self) -> Connection:
        """The next connection; raises ``trio.ClosedResourceError`` after ``close``."""

    def close(self) -> None: ...


class Network(Protocol):
    async def listen(self, host: str, port: int, *, backlog: int = 1024) -> Listener:
        """Bind and listen; ``OSError`` with EADDRINUSE when the port is taken."""

    async def connect(self, host: str, port: int) -> Connection:
        """Connect (with TCP_NODELAY); ``OSError`` when refused or unreachable. Timeouts are the caller's."""


class DiskFile(Protocol):
    """An open file, written at explicit offsets. ``OSError`` (EIO, ENOSPC) says nothing about what was
    written: after a failed sync the file must not be trusted (the node stops)."""

    def size(self) -> int: ...

    def write_at(self, offset: int, data: bytes) -> None:
        """Write into the page cache; not durable."""

    def read_at(self, offset: int, length: int) -> bytes: ...

    def truncate(self, size: int) -> None: ...

    def allocate(self, size: int) -> None:
        """Make the file at least ``size`` bytes of zeros on disk, so that later syncs need no metadata."""

    async def sync(self) -> None:
        """fdatasync in a thread (a scheduled event in the simulator): what was written is durable."""

    def sync_now(self) -> None:
        """fdatasync in place: blocks the loop, saves the thread's round trip. Only when nobody waits."""

    async def persist(self, offset: int, data: bytes) -> None:
        """``write_at`` and ``sync`` as one job in a thread."""

    def close(self) -> None: ...


class DiskLock(Protocol):
    def release(self) -> None: ...


class Disk(Protocol):
    """The member's file system. Paths are strings; relative ones are the caller's mistake."""

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> list[str]:
        """Names in a folder, sorted; ``FileNotFoundError`` when there is none."""

    def make_dirs(self, path: str) -> None:
        """Like ``mkdir -p`` with mode 0700."""

    def read(self, path: str) -> bytes: ...

    def write_atomic(self, path: str, data: bytes) -> None:
        """Durable all-or-nothing replacement: write a temporary file, sync, rename, sync the folder."""

    def open(self, path: str, *, create: bool = False) -> DiskFile: ...

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None: ...

    def lock(self, path: str) -> DiskLock:
        """Take the exclusive lock of ``path``; ``BlockingIOError`` when another process holds it."""


class Rng(Protocol):
    def stream(self, purpose: str) -> random.Random:
        """The random stream of that name: the same object at each call. Its own sequence per purpose,
        so that a new draw in one place does not move the others."""


class Probe(Protocol):
    """Where a member tells what it does: logs, metrics and traces hang on it; never changes behaviour."""

    def log(self, level: str, message: str, /, **fields: object) -> None:
        """One structured log line; ``level`` is debug, info, warn, error or fatal."""

    def count(self, metric: str, amount: float = 1.0, /, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, /, **labels: str) -> None: ...

    def observe(self, metric: str, value: float, /, **labels: str) -> None:
        """One sample of a histogram, in the metric's unit."""

    def point(self, name: str) -> None:
        """A named code point was reached; the simulator may crash the member right here."""

    @property
    def step(self) -> Callable[[object, object, object], None] | None:
        """When set: called as ``step(event, effects, state_after)`` for every step of the core (traces)."""


@dataclass(frozen=True, slots=True)
class World:
    """One member's (or one client's) machine."""

    name: str
    clock: Clock
    net: Network
    disk: Disk
    rng: Rng
    probe: Probe
    environment: Mapping[str, str]
