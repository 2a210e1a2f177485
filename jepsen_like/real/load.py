"""Clients of real members whose every call is recorded, and what the record says afterwards.

They are the clients of the simulated campaigns, on real sockets. Two things are read off their history: that
it is linearizable as etcd's revisions tell it (so no acknowledged write was lost), and the longest time in
which no write was acknowledged to anybody.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, cast

import msgspec
import trio

from tercet.net.client import Client, open_client
from tercet.net.real import real_world
from tercet.net.world import World

from ..checkers.verdict import Limits, Verdict
from ..checking import check_history
from ..history import Answer, History, Operation
from ..workloads.mix import Profile, Workload
from .processes import Fleet

__all__ = ["Load", "Report"]

_PROFILE = Profile(
    weights={"put": 40, "get": 25, "delete": 5, "cas": 10, "swap": 10, "range": 5},
    pause_ms=10, watchers=1, request_seconds=5.0,
)  # fmt: skip
_WRITES = ("put", "delete", "txn")
_CHECK_SECONDS = 120.0


class Report(msgspec.Struct, kw_only=True):
    """What came of a scene; one line of ``--json``."""

    scene: str
    verdict: str
    reason: str = ""
    seconds: float
    operations: int
    unknown_operations: int
    longest_unavailable_ms: float  # the longest time without an acknowledged write
    numbers: dict[str, float] = {}  # the scene's own


class _Setting:
    """What ``sim.run.Setting`` is to a simulated client."""

    def __init__(self, fleet: Fleet, number: int, count: int, stop: trio.Event) -> None:
        self.number, self.count, self.stop = number, count, stop
        self.host = f"c{number + 1}"
        self.world: World = real_world(self.host, seed=number + 1, write_log=lambda line: None)
        self._urls = fleet.urls

    def now(self) -> int:
        return time.monotonic_ns()

    def client(
        self,
        endpoint: int | None = None,
        request_timeout: float = 5.0,
        login: tuple[str, str] | None = None,
    ) -> Client:
        first = (self.number if endpoint is None else endpoint) % len(self._urls)
        urls = (*self._urls[first:], *self._urls[:first]) if endpoint is None else (self._urls[first],)
        return open_client(self.world, urls, request_timeout=request_timeout, login=login)


class Load:
    """Some clients of a fleet; an asynchronous context manager within which they run."""

    def __init__(self, fleet: Fleet, clients: int = 8) -> None:
        self._fleet = fleet
        self._clients = clients
        self._workload = Workload(0, _PROFILE)
        self._stop = trio.Event()
        self._started = 0.0
        self._began_ns = 0

    async def put_bulk(self, client: Client, process: int, key: str, data: bytes) -> None:
        """Put something large that nobody reads; the record has the key alone."""

        async def action() -> Answer:
            found = await client.put(key.encode(), data)
            return Answer(found.header.revision)

        asked = Operation(process, "put", 0, key=key, value=key)
        await self._workload.recorder.call(asked, action, time.monotonic_ns)

    async def __aenter__(self) -> Load:
        self._started = time.monotonic()
        self._began_ns = time.monotonic_ns()
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        for number in range(self._clients):
            setting = _Setting(self._fleet, number, self._clients, self._stop)
            nursery.start_soon(self._workload.client, cast(Any, setting))
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._stop.set()
        await self._manager.__aexit__(*exc)

    def unavailable_ms(self, since_ns: int) -> float:
        """The longest time without an acknowledged write, between two since then."""
        return round(_longest_gap(self._workload.history(), since_ns) / 1e6, 1)

    def report(self, scene: str, numbers: dict[str, float] | None = None) -> Report:
        """Check the history; to be called once the clients have ended."""
        seconds = time.monotonic() - self._started
        history = self._workload.history()
        limits = Limits(seconds=_CHECK_SECONDS, clock=time.process_time)
        verdict: Verdict = check_history(history, limits=limits)
        return Report(
            scene=scene,
            verdict=verdict.verdict,
            reason=verdict.reason,
            seconds=round(seconds, 2),
            operations=len(history.operations),
            unknown_operations=sum(one.outcome == "info" for one in history.operations),
            longest_unavailable_ms=self.unavailable_ms(self._began_ns),
            numbers=numbers or {},
        )


def _longest_gap(history: History, since: int) -> int:
    """The longest time between two acknowledgements of writes, in ns, from a moment on."""
    ends = sorted(
        one.returned for one in history.operations
        if one.outcome == "ok" and one.f in _WRITES and one.returned is not None and one.returned > since
    )  # fmt: skip
    return max((after - before for before, after in pairwise(ends)), default=0)
