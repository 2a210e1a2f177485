"""The ports: all that a driver may use of the machine. The seam between the real and the simulated world.

A ``World`` is a small value that names one member's clock, network, disk, chance and probe. Drivers take
it as an argument and use nothing else: no ``trio.sleep``, ``trio.current_time``, ``time``, ``open`` or
sockets of their own (``tests/test_layout.py`` forbids them). ``net.real`` implements the ports on this
machine, ``sim.world`` inside a simulation; ``tests/contract`` runs one suite on both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar

import trio

__all__ = [
    "Backend", "BackendView", "Change", "Clock", "Compute", "Connection", "Disk", "DiskFile", "DiskLock",
    "InlineCompute", "Listener", "Network", "Probe", "Rng", "World",
]

T = TypeVar("T")


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

    async def listen_unix(self, path: str) -> Listener:
        """Listen on a Unix socket; a file of that name that nobody listens on any more is replaced."""

    async def connect_unix(self, path: str) -> Connection:
        """Connect to a Unix socket; ``OSError`` as for ``connect``."""

    async def lookup_host(self, host: str) -> tuple[str, ...]:
        """The addresses of a host name, IPv4 first; ``OSError`` when it has none."""

    async def lookup_address(self, address: str) -> tuple[str, ...]:
        """The host names of an address; ``OSError`` when it has none."""

    async def lookup_services(self, name: str) -> tuple[tuple[str, int], ...]:
        """The SRV records of ``_service._proto.domain`` as (host, port), in the order to be tried;
        ``OSError`` when there are none."""


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


#: One change of a backend: bucket, key, value; value None deletes, and deleting what is not there is fine.
Change: TypeAlias = tuple[str, bytes, "bytes | None"]


class BackendView(Protocol):
    """A committed state of a backend; later commits do not change it. To be closed soon: it keeps space."""

    def get(self, bucket: str, key: bytes) -> bytes | None:
        """The value of a key; None when there is none."""

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        """The rows of [start, end) in order of their keys, lazily.

        Args:
            end: exclusive; None: every key from ``start`` on.
            limit: stop after so many rows; 0: no limit.
        """

    def buckets(self) -> tuple[str, ...]:
        """The names of the buckets that hold something, sorted."""

    def close(self) -> None:
        """Let the state go; idempotent."""


class Backend(Protocol):
    """Applied state on disk: rows in named buckets, changed by atomic, durable commits; one owner.

    A key has 1 to 480 bytes, a bucket's name up to 30, a value any number. After a failed commit the state is
    the one before it or the one after it, and the backend must be closed (the node stops). A closed one
    raises ``OSError``.
    """

    async def commit(self, changes: Iterable[Change]) -> None:
        """Make changes durable, all or nothing, in a thread, where ``changes`` is iterated, too.

        Commits must not overlap. Raises ``OSError``: ENOSPC, EIO.
        """

    def commit_now(self, changes: Iterable[Change]) -> None:
        """As ``commit``, but in place: blocks the loop."""

    def get(self, bucket: str, key: bytes) -> bytes | None:
        """The value of a key as last committed; None when there is none."""

    def borrow(self, bucket: str, key: bytes) -> bytes | memoryview | None:
        """As ``get`` without a copy: the bytes are good until the caller's next checkpoint or commit."""

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        """As ``BackendView.scan`` of the last committed state; to be used up before the next checkpoint."""

    def view(self) -> BackendView:
        """The last committed state, to be kept while commits go on."""

    def size(self) -> int:
        """Bytes that the file takes."""

    def size_in_use(self) -> int:
        """Bytes of it that hold something; the rest is reused, or given back by ``defragment``."""

    def readers(self) -> int:
        """States that are held at the moment: the last committed one, and every open view."""

    async def defragment(self) -> None:
        """Write the file anew without holes, durably, and go on with it; must not overlap a commit."""

    def close(self) -> None:
        """Close; idempotent. Must not overlap a commit."""


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

    def open_backend(self, path: str) -> Backend:
        """Open a backend, or make one durably; the caller keeps others out (``lock``).

        It may be renamed with ``rename`` and removed with ``remove`` while it is closed.

        Raises:
            Corruption: the file is not a backend, or it is damaged.
            OSError: the disk fails or is full.
        """

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def sync_dir(self, path: str) -> None: ...

    def lock(self, path: str) -> DiskLock:
        """Take the exclusive lock of ``path``; ``BlockingIOError`` when another process holds it."""


class Rng(Protocol):
    def stream(self, purpose: str) -> random.Random:
        """The random stream of that name: the same object at each call. Its own sequence per purpose,
        so that a new draw in one place does not move the others.

        A purpose that begins with ``secret/`` is for what nobody may guess: on the real machine, unless it
        was given a seed, such a stream cannot be predicted from what it has shown.
        """


class Compute(Protocol):
    """Long calculations (hashes of passwords) that the member's tasks should not wait for."""

    async def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread, in place in a simulation; it must not touch the member's state."""


class InlineCompute:
    """Calculates in place."""

    async def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` now."""
        await trio.lowlevel.checkpoint()
        return function()


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
    compute: Compute = field(default_factory=InlineCompute)
