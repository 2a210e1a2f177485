"""The ports of ``net.world`` on this machine: real sockets, a real disk, the system's clocks.

This and ``real_disk`` are the only driver modules that touch ``os``, ``socket`` and ``time``. Sockets are raw
and non-blocking, waited on through ``trio.lowlevel``: an echo costs 20 µs, through ``SocketStream`` 37.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import trio

from .log import JsonLog
from .log_outputs import open_outputs
from .real_disk import RealDisk, RealFile, RealLock
from .real_dns import lookup_services
from .world import World

if TYPE_CHECKING:
    from .metrics import Metrics

__all__ = [
    "RealClock", "RealCompute", "RealConnection", "RealDisk", "RealFile", "RealListener", "RealLock",
    "RealNetwork", "RealProbe", "RealRng", "real_world",
]

T = TypeVar("T")

#: accept() errors that pass by themselves: the connection died, or the process is short of something.
_ACCEPT_AGAIN = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EINTR})
_ACCEPT_LATER = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class RealClock:
    """The system's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def timeout(self, seconds: float) -> AbstractContextManager[trio.CancelScope]:
        return trio.move_on_after(seconds)


class RealConnection:
    """A TCP connection on a non-blocking socket; see ``net.world.Connection``."""

    __slots__ = ("_closed", "_descriptor", "_remote", "_socket")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._descriptor = sock.fileno()
        self._closed = False
        try:
            self._remote = _join(sock.getpeername())
        except OSError:  # already reset: the first use will say so
            self._remote = "unknown:0"

    @property
    def remote(self) -> str:
        return self._remote

    def try_send(self, data: bytes | memoryview) -> int:
        if self._closed:
            raise trio.ClosedResourceError("this connection was already closed")
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        rest = memoryview(data)
        waited = False
        while rest:
            taken = self.try_send(rest)
            rest = rest[taken:]
            if rest:
                await trio.lowlevel.wait_writable(self._descriptor)
                waited = True
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def receive(self, max_bytes: int) -> bytes:
        if self._closed:
            raise trio.ClosedResourceError("this connection was already closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            data = self._socket.recv(max_bytes)
        except BlockingIOError:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                return self._socket.recv(max_bytes)
            except BlockingIOError:
                continue

    def close_sending(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this connection was already closed")
        with contextlib.suppress(OSError):  # the other end may have gone
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._descriptor)
            self._socket.close()


class RealListener:
    """A listening socket; ``path`` is that of a Unix socket, removed at the end."""

    __slots__ = ("_address", "_closed", "_descriptor", "_path", "_socket")

    def __init__(self, sock: socket.socket, path: str = "") -> None:
        self._socket = sock
        self._descriptor = sock.fileno()
        self._closed = False
        self._path = path
        self._address = path or _join(sock.getsockname())

    @property
    def address(self) -> str:
        return self._address

    async def accept(self) -> RealConnection:
        while not self._closed:
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._descriptor)
            except OSError as problem:
                if problem.errno in _ACCEPT_LATER:
                    await trio.sleep(0.1)
                elif problem.errno not in _ACCEPT_AGAIN:
                    raise
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return RealConnection(sock)
        raise trio.ClosedResourceError("this listener was closed")

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            trio.lowlevel.notify_closing(self._descriptor)
            self._socket.close()
            if self._path:
                with contextlib.suppress(OSError):
                    os.unlink(self._path)


def _is_answered(path: str) -> bool:
    """Somebody listens on this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
    return True


class RealNetwork:
    """TCP over IPv4 and IPv6, and Unix sockets. ``reuse_port``: see ``real_world``."""

    def __init__(self, *, reuse_port: bool = False) -> None:
        self._reuse_port = reuse_port

    async def listen(self, host: str, port: int, *, backlog: int = 1024) -> RealListener:
        found = await _resolve(host, port, listening=True)
        family, address = found[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
            sock.listen(backlog)
        except OSError as problem:
            sock.close()
            reason = os.strerror(problem.errno or 0).lower()
            raise OSError(problem.errno, f"listen tcp {_join(address)}: bind: {reason}") from None
        except BaseException:
            sock.close()
            raise
        return RealListener(sock)

    async def listen_unix(self, path: str) -> RealListener:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _is_answered(path):
                os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind(path)
            sock.listen(1024)
        except OSError as problem:
            sock.close()
            reason = os.strerror(problem.errno or 0).lower() if problem.errno else str(problem)
            raise OSError(problem.errno, f"listen unix {path}: bind: {reason}") from None
        return RealListener(sock, path)

    async def connect_unix(self, path: str) -> RealConnection:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(path)  # never waits: the kernel has room for us, or says at once that it has not
            await trio.lowlevel.checkpoint()
        except OSError as problem:
            sock.close()
            raise OSError(problem.errno, f"dial unix {path}: {problem.strerror or problem}") from None
        except BaseException:
            sock.close()
            raise
        return RealConnection(sock)

    async def lookup_host(self, host: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(address[0] for _, address in await _resolve(host, 0, listening=False)))

    async def lookup_address(self, address: str) -> tuple[str, ...]:
        name, others, _ = await trio.to_thread.run_sync(socket.gethostbyaddr, address, abandon_on_cancel=True)
        return (name, *others)

    async def lookup_services(self, name: str) -> tuple[tuple[str, int], ...]:
        return await trio.to_thread.run_sync(lookup_services, name, abandon_on_cancel=True)

    async def connect(self, host: str, port: int) -> RealConnection:
        problem: OSError | None = None
        for family, address in await _resolve(host, port, listening=False):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                await _connect(sock, address)
                return RealConnection(sock)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
        raise problem or OSError(errno.EADDRNOTAVAIL, f"no address for {host}:{port}")


async def _connect(sock: socket.socket, address: tuple[str, int]) -> None:
    sock.setblocking(False)
    try:
        sock.connect(address)
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock.fileno())
    else:
        await trio.lowlevel.cancel_shielded_checkpoint()
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, f"connect to {_join(address)}: {os.strerror(code)}")


_Address: TypeAlias = tuple[socket.AddressFamily, tuple[str, int]]


async def _resolve(host: str, port: int, *, listening: bool) -> list[_Address]:
    """Addresses of a host, IPv4 first; numeric ones without a thread."""
    host = host.strip("[]")
    if not host:
        host = "0.0.0.0" if listening else "127.0.0.1"
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, UnicodeError):
            socket.inet_pton(family, host)
            return [(family, (host, port))]
    try:
        rows = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as problem:
        raise OSError(errno.EINVAL, f"not a host name: {host!r}") from problem
    found = [(row[0], (str(row[4][0]), int(row[4][1]))) for row in rows]
    return sorted(found, key=lambda pair: pair[0] != socket.AF_INET)


def _join(address: object) -> str:
    """``host:port`` of a socket address, IPv6 in brackets; a Unix socket's path as it is."""
    if not isinstance(address, tuple):
        return str(address) or "local:0"
    host, port = str(address[0]), int(address[1])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class RealRng:
    """Named random streams from one seed; None draws the seed from the system."""

    def __init__(self, seed: int | None = None) -> None:
        self._secrets = random.SystemRandom() if seed is None else None
        self.seed = int.from_bytes(os.urandom(8), "big") if seed is None else seed
        self._streams: dict[str, random.Random] = {}

    def stream(self, purpose: str) -> random.Random:
        if self._secrets is not None and purpose.startswith("secret/"):
            return self._secrets
        found = self._streams.get(purpose)
        if found is None:
            found = self._streams[purpose] = random.Random(f"{self.seed}/{purpose}")
        return found


class RealCompute:
    """Calculations in threads, a few at a time."""

    def __init__(self) -> None:
        self._limiter: trio.CapacityLimiter | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread; one that is given up on runs to its end."""
        if self._limiter is None:
            self._limiter = trio.CapacityLimiter(max(1, (os.cpu_count() or 2) - 1))
        return await trio.to_thread.run_sync(function, limiter=self._limiter, abandon_on_cancel=True)


class RealProbe:
    """Logs and metrics of a real member; ``step`` is set from outside when a trace is wanted."""

    __slots__ = ("_count", "_gauge", "_log", "_observe", "metrics", "point", "step")

    def __init__(self, log: JsonLog, metrics: Metrics) -> None:
        self._log = log
        self.metrics = metrics
        self.step: Callable[[object, object, object], None] | None = None
        #: Called at named points with their names (``net.fail_points``).
        self.point: Callable[[str], None] = _pass_by
        self._count = metrics.count
        self._gauge = metrics.gauge
        self._observe = metrics.observe

    def log(self, level: str, message: str, /, **fields: object) -> None:
        if self._log.enabled(level):
            frame = sys._getframe(1)
            self._log.log(level, message, fields, f"{frame.f_globals.get('__name__', '')}:{frame.f_lineno}")

    def set_log_level(self, level: str) -> None:
        """Log from this level on; one of ``log.LEVELS``."""
        self._log.set_level(level)

    def count(self, metric: str, amount: float = 1.0, /, **labels: str) -> None:
        self._count(metric, amount, labels)

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        self._gauge(metric, value, labels)

    def observe(self, metric: str, value: float, /, **labels: str) -> None:
        self._observe(metric, value, labels)


def _pass_by(name: str) -> None:
    """Nothing happens at named points on a real machine, unless a test asks for it."""


def real_world(
    name: str,
    *,
    seed: int | None = None,
    log_level: str = "info",
    log_format: str = "json",
    durable: bool = True,
    write_log: Callable[[str], object] | None = None,
    environment: Mapping[str, str] | None = None,
    reuse_port: bool = False,
) -> World:
    """Make the world of a member or client on this machine.

    Args:
        name: the member's name.
        seed: of the random streams; None draws one.
        log_level: lowest level that is logged.
        log_format: json or console.
        durable: False: see ``RealDisk``.
        write_log: takes finished log lines; None writes them to standard error.
        environment: the environment variables; None takes the process's own.
        reuse_port: other processes that ask for it may listen on our ports, too.
    """
    from .metrics import Metrics  # takes a while, and those who only dial need none

    clock = RealClock()
    probe = RealProbe(JsonLog(
        write_log or open_outputs(()), clock.wall, log_level, console=log_format == "console"
    ), Metrics())
    return World(
        name=name,
        clock=clock,
        net=RealNetwork(reuse_port=reuse_port),
        disk=RealDisk(durable=durable),
        rng=RealRng(seed),
        probe=probe,
        environment=dict(os.environ) if environment is None else environment,
        compute=RealCompute(),
    )
