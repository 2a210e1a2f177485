"""Planted bugs of what is on disk: B22, B23, B24, B29 and B30 of the bug zoo, in the drivers."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from tercet.core.durable import META_BUCKET, Meta
from tercet.core.machine import Machine
from tercet.core.raft import RaftState
from tercet.core.raft.types import Effects, Persisted
from tercet.core.wal import Tail
from tercet.net.keeper import Keeper, KeptNode
from tercet.net.loop import CoreLoop
from tercet.net.snapshot_receive import SnapshotReceiver
from tercet.net.storage import Storage
from tercet.net.world import Backend, Change, Probe

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]

_gather = CoreLoop._gather
_attach = Keeper.attach
_next_meta = Keeper._next_meta
_begin = SnapshotReceiver._begin


def _gather_and_hope(self: CoreLoop, effects: Effects) -> None:
    _gather(self, effects)
    entries = effects.entries
    if entries and len(self._state.configuration.members) == 1:
        self.happen(Persisted(entries[-1].index, entries[-1].term, self._state.current_term))


def _b22() -> AbstractContextManager[None]:
    return replaced(CoreLoop, "_gather", _gather_and_hope)


class _TwoCommits:
    """A backend that writes how far the rows have come before it writes the rows."""

    def __init__(self, backend: Backend, probe: Probe) -> None:
        self._backend = backend
        self._probe = probe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def commit(self, changes: Iterable[Change]) -> None:
        rows = list(changes)
        await self._backend.commit([row for row in rows if row[0] == META_BUCKET])
        self._probe.point("keeper.commit.between")
        await self._backend.commit([row for row in rows if row[0] != META_BUCKET])


def _attach_to_two(self: Keeper, node: KeptNode) -> None:
    self.backend = _TwoCommits(self.backend, self._world.probe)
    _attach(self, node)


def _b23() -> AbstractContextManager[None]:
    return replaced(Keeper, "attach", _attach_to_two)


async def _resume_trusting(self: Storage, tail: Tail) -> None:
    self._file = self._world.disk.open(posixpath.join(self._folder, tail.name))
    self._header, self._position = tail.header, tail.position
    self._zeroed_to = tail.position.offset
    if tail.torn is not None:
        self._file.write_at(tail.torn.offset, bytes(tail.torn.end - tail.torn.offset))


def _b24() -> AbstractContextManager[None]:
    return replaced(Storage, "_resume", _resume_trusting)


def _meta_of_the_finished(self: Keeper, machine: Machine, state: RaftState) -> Meta:
    meta = _next_meta(self, machine, state)
    if machine.scrubbing:
        return msgspec.structs.replace(meta, compacted=self.meta.compacted)
    return meta


def _b29() -> AbstractContextManager[None]:
    return replaced(Keeper, "_next_meta", _meta_of_the_finished)


async def _begin_at_any_time(self: SnapshotReceiver, *arguments: Any) -> Any:
    present = self._partial
    if present is not None:
        present.complete = False
    return await _begin(self, *arguments)


def _b30() -> AbstractContextManager[None]:
    return replaced(SnapshotReceiver, "_begin", _begin_at_any_time)


MUTATIONS = (
    Mutation(
        "B22",
        "etcd 14370",
        "A member that is alone counts an entry as durable as soon as it is owed to the disk.",
        "one member, a write, a power cut before the sync",
        _b22,
        world="simulated",
    ),
    Mutation(
        "B23",
        "etcd 13766, 14685",
        "The applied index is written to the backend in a commit of its own, before what was applied.",
        "a crash between the two commits",
        _b23,
        world="simulated",
    ),
    Mutation(
        "B24",
        "etcd 14143",
        "Log records that were read at the start count as durable, wherever they were read from.",
        "slow disks; a majority killed in its syncs, started again, and then without power",
        _b24,
        world="simulated",
    ),
    Mutation(
        "B29",
        "etcd 17780, 18667",
        "A compaction is only on disk once it is finished, what it drops already before.",
        "a crash in the middle of a compaction",
        _b29,
        world="simulated",
    ),
    Mutation(
        "B30-receiver",
        "etcd 18055, 20271",
        "A snapshot may take the place of another that is just being installed.",
        "a follower that lags, and two snapshots in a short time",
        _b30,
        world="simulated",
    ),
)
