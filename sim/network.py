"""The simulated network: listeners, name resolution, connecting, and the map of links.

``SimNetwork`` is the world's; ``NetworkPort`` is what one process sees (the ``Network`` port). Hosts are
known by name and by address; ``localhost`` and 127.0.0.1 mean the asking host.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable
from zlib import crc32

import trio

from .connection import GIVE_UP, Endpoint, connected_pair
from .engine import SECOND, Engine
from .host import Host, Process, Waiter
from .link import Link

__all__ = ["NetworkPort", "SimListener", "SimNetwork"]

_NOTE_CONNECT = 0x22
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""})


def _socket_number(path: str) -> int:
    return 1 << 31 | crc32(path.encode())


class SimNetwork:
    """All links and listening ports of one world."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.hosts: dict[str, Host] = {}
        #: SRV records: name -> (host, port) in the order to be tried.
        self.services: dict[str, tuple[tuple[str, int], ...]] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._listeners: dict[tuple[str, int], SimListener] = {}

    def link(self, source: Host, target: Host) -> Link:
        found = self._links.get((source.name, target.name))
        if found is None:
            found = self._links[source.name, target.name] = Link(self.engine, source, target)
        return found

    def links(self, sources: Iterable[str], targets: Iterable[str]) -> list[Link]:
        """Every link from one of ``sources`` to another one of ``targets``, in that order."""
        far = list(targets)
        return [self.link(self.hosts[a], self.hosts[b]) for a in sources for b in far if a != b]

    def resolve(self, name: str, asking: Host) -> Host:
        if name in _LOCAL:
            return asking
        for host in self.hosts.values():
            if name in (host.name, host.address):
                return host
        raise OSError(errno.EHOSTUNREACH, f"No route to host {name}")

    def bind(self, listener: SimListener) -> None:
        self._listeners[listener.key] = listener

    def unbind(self, listener: SimListener) -> None:
        if self._listeners.get(listener.key) is listener:
            del self._listeners[listener.key]

    def listening(self, host: Host, port: int) -> SimListener | None:
        return self._listeners.get((host.name, port))

    def free_port(self, host: Host) -> int:
        while True:
            host.next_port = 32_768 + (host.next_port - 32_767) % 28_000
            if (host.name, host.next_port) not in self._listeners:
                return host.next_port

    def reset_between(self, one: Host, other: Host) -> int:
        """Reset every connection between two hosts, at both ends; the number of connections."""
        if one.process is None:
            return 0
        count = 0
        for socket in list(one.process.sockets.values()):
            if isinstance(socket, Endpoint) and socket._out.receiver.process.host is other:
                socket._out.receiver.fail(errno.ECONNRESET)
                socket.fail(errno.ECONNRESET)
                count += 1
        return count

    def halve_between(self, one: Host, other: Host) -> int:
        """Make ``one`` forget its connections with ``other`` (half-open); the number of connections."""
        if one.process is None:
            return 0
        count = 0
        for socket in list(one.process.sockets.values()):
            if isinstance(socket, Endpoint) and socket._out.receiver.process.host is other:
                socket.fail(errno.ECONNRESET)
                count += 1
        return count


class SimListener:
    """The ``Listener`` port of one process."""

    def __init__(self, network: SimNetwork, process: Process, port: int, backlog: int) -> None:
        self.process = process
        self.key = (process.host.name, port)
        self.backlog = backlog
        self._network = network
        self._queue: deque[Endpoint] = deque()
        self._waiter = Waiter(process)
        self._closed = False
        self._accepting = False
        self._handle = process.next_handle()
        process.sockets[self._handle] = self

    @property
    def address(self) -> str:
        return f"{self.process.host.address}:{self.key[1]}"

    @property
    def full(self) -> bool:
        return len(self._queue) >= self.backlog

    async def accept(self) -> Endpoint:
        await trio.lowlevel.checkpoint()
        if self._accepting:
            raise trio.BusyResourceError("another task is accepting")
        self._accepting = True
        try:
            while True:
                self.process.check()
                if self._closed:
                    raise trio.ClosedResourceError("this listener was closed")
                if self._queue:
                    self.process.network_operation()
                    return self._queue.popleft()
                await self._waiter.wait()
        finally:
            self._accepting = False

    def close(self) -> None:
        if not self._closed and self.process.alive:
            self.cut(reset=True)

    def arrived(self, endpoint: Endpoint) -> bool:
        self._queue.append(endpoint)
        return self._waiter.fire()

    def cut(self, reset: bool, silent: bool = False) -> None:
        """Stop listening; connections that nobody accepted are reset."""
        self._closed = True
        self._network.unbind(self)
        self.process.sockets.pop(self._handle, None)
        while self._queue:
            self._queue.popleft().cut(reset=reset, silent=silent)
        self._waiter.fire()


class _Attempt:
    """One connection attempt: SYN, answer, and the retries in between."""

    __slots__ = ("back", "endpoint", "error", "forth", "given_up", "network", "pause", "port", "process",
                 "started", "target", "waiter")  # fmt: skip

    def __init__(self, network: SimNetwork, process: Process, target: Host, port: int) -> None:
        self.network = network
        self.process = process
        self.target = target
        self.port = port
        self.forth = network.link(process.host, target)
        self.back = network.link(target, process.host)
        self.waiter = Waiter(process)
        self.endpoint: Endpoint | None = None
        self.error = 0
        self.given_up = False
        self.pause = SECOND
        self.started = network.engine.now

    def syn_sent(self) -> None:
        self.network.engine.after(self.forth.delay(), self.syn_arrives)

    def syn_arrives(self, _: object) -> bool:
        if self.given_up:
            return False
        if self.forth.dead or self.forth.clogged:
            return self.lost()
        listener = self.network.listening(self.target, self.port)
        engine = self.network.engine
        if listener is None or self.target.refuses:
            engine.after(self.back.delay(), self.refused)
            return False
        if listener.full:
            return self.lost()
        host = self.process.host
        addresses = (f"{host.address}:{self.network.free_port(host)}", listener.address)
        self.endpoint, far = connected_pair(
            engine, self.forth, self.back, self.process, listener.process, addresses
        )
        engine.note(_NOTE_CONNECT, host.index, self.target.index << 32 | self.port)
        engine.after(self.back.delay(), self.answered)
        return listener.arrived(far)

    def answered(self, _: object) -> bool:
        if self.given_up:
            return False
        if self.back.dead or self.back.clogged:
            self.network.engine.after(SECOND, self.answered)
            return self.timed_out()
        return self.waiter.fire()

    def refused(self, _: object) -> bool:
        if self.given_up:
            return False
        if self.back.dead or self.back.clogged:
            return self.lost()
        self.error = errno.ECONNREFUSED
        return self.waiter.fire()

    def lost(self) -> bool:
        self.network.engine.after(self.pause, self.syn_arrives)
        self.pause *= 2
        return self.timed_out()

    def timed_out(self) -> bool:
        if self.network.engine.now - self.started < GIVE_UP:
            return False
        self.error = errno.ETIMEDOUT
        return self.waiter.fire()

    def give_up(self) -> None:
        self.given_up = True
        if self.endpoint is not None and self.process.alive:
            self.endpoint.cut(reset=True)


class NetworkPort:
    """The ``Network`` port of one process."""

    def __init__(self, process: Process, network: SimNetwork) -> None:
        self._process = process
        self._network = network

    async def listen(self, host: str, port: int, *, backlog: int = 1024) -> SimListener:
        await trio.lowlevel.checkpoint()
        return self.listen_now(host, port, backlog)

    def listen_now(self, host: str, port: int, backlog: int) -> SimListener:
        """``listen`` without a checkpoint."""
        self._process.network_operation()
        mine = self._process.host
        if self._network.resolve(host, mine) is not mine:
            raise OSError(errno.EADDRNOTAVAIL, f"Cannot assign requested address {host}")
        chosen = port or self._network.free_port(mine)
        if self._network.listening(mine, chosen) is not None:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        listener = SimListener(self._network, self._process, chosen, backlog)
        self._network.bind(listener)
        return listener

    async def listen_unix(self, path: str) -> SimListener:
        """A Unix socket is a port that no TCP connection can name."""
        return await self.listen("localhost", _socket_number(path))

    async def connect_unix(self, path: str) -> Endpoint:
        return await self.connect("localhost", _socket_number(path))

    async def lookup_host(self, host: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return (self._network.resolve(host, self._process.host).address,)

    async def lookup_address(self, address: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return (self._network.resolve(address, self._process.host).name,)

    async def lookup_services(self, name: str) -> tuple[tuple[str, int], ...]:
        await trio.lowlevel.checkpoint()
        records = self._network.services.get(name)
        if not records:
            raise OSError(errno.EHOSTUNREACH, f"lookup {name}: no such host")
        return records

    async def connect(self, host: str, port: int) -> Endpoint:
        await trio.lowlevel.checkpoint()
        self._process.network_operation()
        target = self._network.resolve(host, self._process.host)
        attempt = _Attempt(self._network, self._process, target, port)
        attempt.syn_sent()
        try:
            await attempt.waiter.wait()
        except BaseException:
            attempt.give_up()
            raise
        self._process.check()
        if attempt.error or attempt.endpoint is None:
            attempt.give_up()
            raise OSError(attempt.error, os.strerror(attempt.error))
        return attempt.endpoint
