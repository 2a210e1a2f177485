"""Many watchers and many leases on one member: how fast, how much memory, and what a restart costs.

The watchers share a prefix and a connection, 200 to a stream. Each of a few puts, one after the other, is an
event for every one of them; its time runs from the call until the last watcher has been told, and so contains
the work of the client that counts. The server's own part is the CPU time of an event. The leases are granted
by h2load, and live through a restart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import trio

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client, open_client
from tercet.net.client.connection import Call
from tercet.net.real import real_world

from .load import Load, run_h2load
from .payloads import VALUE_BYTES, grpc_frame
from .targets import Target

__all__ = ["Figure", "lease_figures", "watcher_figures"]

#: What was measured, its unit, and the number.
Figure: TypeAlias = tuple[str, str, float]

_PREFIX = b"/crowd/"
_ON_A_STREAM = 200
_EVENTS = 10
_LEASE_SECONDS = 36_000
_RESTART_SECONDS = 120.0


def watcher_figures(
    name: str, watchers: int, folder: Path, progress: Callable[[str], None]
) -> Iterator[Figure]:
    """So many watchers of one prefix on a fresh member.

    Raises:
        TargetFailed: the server died.
    """
    with Target(name, 1, folder) as target:
        progress(f"{name}: {watchers:,} watchers")
        before = target.memory_bytes()
        crowd = _Crowd(watchers)
        trio.run(crowd.watch, target)
        what = f"{watchers:,} watchers of one prefix"
        yield f"{what}: all created", "s", crowd.created_seconds
        yield f"{what}: memory", "MB", (crowd.memory - before) / 1e6
        yield f"{what}: a put until the last has it, median", "ms", statistics.median(crowd.delays) * 1e3
        yield f"{what}: CPU of an event", "µs", crowd.cpu_seconds / (_EVENTS * watchers) * 1e6


class _Crowd:
    """The watchers, and what was found out about them."""

    def __init__(self, watchers: int) -> None:
        self._watchers = watchers
        self._answers = 0  # messages so far
        self._wanted = 0
        self._reached = trio.Event()
        self.created_seconds = self.cpu_seconds = 0.0
        self.memory = 0
        self.delays: list[float] = []

    async def watch(self, target: Target) -> None:
        world = real_world("crowd", log_level="fatal", environment={})
        async with (
            open_client(world, [target.url("")], request_timeout=60.0) as watching,
            open_client(world, [target.url("")], request_timeout=60.0) as putting,
            trio.open_nursery() as nursery,
        ):
            began = time.monotonic()
            await self._create(watching, nursery)
            self.created_seconds = time.monotonic() - began
            self.memory = target.memory_bytes()
            cpu = target.cpu_seconds()
            for number in range(_EVENTS):
                began = time.monotonic()
                self._expect(self._watchers)
                await putting.put(_PREFIX + b"%d" % number, b"v" * VALUE_BYTES)
                await self._reached.wait()
                self.delays.append(time.monotonic() - began)
            self.cpu_seconds = target.cpu_seconds() - cpu
            nursery.cancel_scope.cancel()

    async def _create(self, client: Client, nursery: trio.Nursery) -> None:
        create = rpc.WatchCreateRequest(key=_PREFIX, range_end=_PREFIX[:-1] + b"0")
        request = rpc.WatchRequest(create_request=create).SerializeToString()
        self._expect(self._watchers)
        connection = await client.connection()
        for first in range(0, self._watchers, _ON_A_STREAM):
            call = connection.start("/etcdserverpb.Watch/Watch")
            nursery.start_soon(self._count, call)
            for _ in range(min(_ON_A_STREAM, self._watchers - first)):
                call.send(request)
            await trio.lowlevel.checkpoint()
        await self._reached.wait()

    def _expect(self, answers: int) -> None:
        self._wanted = self._answers + answers
        self._reached = trio.Event()

    async def _count(self, call: Call) -> None:
        while await call.receive() is not None:
            self._answers += 1
            if self._answers == self._wanted:
                self._reached.set()


def lease_figures(name: str, leases: int, folder: Path, progress: Callable[[str], None]) -> Iterator[Figure]:
    """So many leases on a fresh member.

    Raises:
        TargetFailed, LoadFailed: the server died, or a request failed.
    """
    with Target(name, 1, folder) as target:
        progress(f"{name}: {leases:,} leases")
        before = target.memory_bytes()
        body = grpc_frame(rpc.LeaseGrantRequest(TTL=_LEASE_SECONDS).SerializeToString())
        granted = run_h2load(target.url("/etcdserverpb.Lease/LeaseGrant"), body, Load(16, 16), leases)
        yield f"{leases:,} leases: granted in", "s", granted.seconds
        yield f"{leases:,} leases: memory", "MB", (target.memory_bytes() - before) / 1e6
        asked = run_h2load(target.url("/etcdserverpb.Lease/LeaseLeases"), grpc_frame(b""), Load(1, 1), 1)
        yield f"{leases:,} leases: listed in", "ms", asked.seconds * 1e3
        progress(f"{name}: restarting with {leases:,} leases")
        began = time.monotonic()
        target.restart(_RESTART_SECONDS)
        yield f"{leases:,} leases: restart, until healthy", "s", time.monotonic() - began
        yield f"{leases:,} leases: memory after the restart", "MB", target.memory_bytes() / 1e6
