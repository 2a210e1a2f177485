"""Automatic compaction, by etcd's rules: the leader forgets what is older than a time, or than a count.

*periodic*: the revision is noted ten times per period (per hour when the period is longer), and the one of
one period ago is compacted; first after a whole period, then every period, at least every hour.
*revision*: every five minutes, all but the newest so many revisions.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .world import World

__all__ = ["Compactor"]

_REVISION_SECONDS: Final = 300.0
_INTERVAL_MAX: Final = 3600.0
_DIVISOR: Final = 10


class _Member(Protocol):
    machine: Machine

    @property
    def is_leader(self) -> bool: ...

    async def propose_and_wait(self, kind: int, payload: bytes) -> object: ...


class Compactor:
    """Compacts while this member leads.

    Args:
        mode: periodic or revision.
        retention: seconds, or revisions; 0: ``run`` does nothing.
    """

    def __init__(self, world: World, member: _Member, mode: str, retention: float) -> None:
        self._world = world
        self._member = member
        self._mode = mode
        self._retention = retention

    async def run(self) -> None:
        """Run until cancelled."""
        if self._retention > 0:
            await (self._by_revision() if self._mode == "revision" else self._by_time())

    async def _by_revision(self) -> None:
        done = 0
        while True:
            await self._world.clock.sleep(_REVISION_SECONDS)
            revision = self._member.machine.revision - int(self._retention)
            if revision > 0 and revision != done and self._member.is_leader and await self._compact(revision):
                done = revision

    async def _by_time(self) -> None:
        clock, period = self._world.clock, self._retention
        interval = min(period, _INTERVAL_MAX)
        revisions: deque[int] = deque(maxlen=int(period / (interval / _DIVISOR)) + 1)
        succeeded, wait, done = clock.monotonic(), period, 0
        while True:
            revisions.append(self._member.machine.revision)
            await clock.sleep(interval / _DIVISOR)
            revision = revisions[0]
            if not self._member.is_leader or clock.monotonic() - succeeded < wait or revision == done:
                continue
            wait = interval
            if await self._compact(revision):
                succeeded, done = clock.monotonic(), revision

    async def _compact(self, revision: int) -> bool:
        log = self._world.probe.log
        request = rpc.CompactionRequest(revision=revision).SerializeToString()
        try:
            await self._member.propose_and_wait(Command.COMPACTION, request)
        except RpcError as error:
            if error.message != rpc_errors.COMPACTED.message:
                log("warn", "failed auto compaction", revision=revision, error=error.message)
                return False
        log("info", "completed auto compaction", revision=revision, mode=self._mode)
        return True
