"""The state as etcd's database: streamed by ``Maintenance.Snapshot``, summed up by ``Maintenance.Hash``.

Both read a *view* that later writes do not change, in steps small enough that the member goes on serving. A
snapshot takes two passes over it, because the length is announced with the first piece (``core.bbolt``
says why); nothing but the piece under way is held in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeAlias

import trio
from msgspec.structs import replace

from tercet.core.durable import META_BUCKET, META_KEY, decode_meta
from tercet.core.etcd_machine import StoredKeys, state_in, state_of
from tercet.core.etcd_schema import Entries, encode_state, key_entries
from tercet.core.etcd_snapshot import DatabaseHash, Export
from tercet.core.machine import Machine
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...world import BackendView, World
from ..call import StreamCall
from .member import Answers, Member

__all__ = ["SNAPSHOT_CHUNK_BYTES", "SnapshotView", "Snapshots", "open_view"]

#: What one message of a snapshot carries, as in etcd.
SNAPSHOT_CHUNK_BYTES: Final = 32_768
_COMMIT_AGAIN_SECONDS: Final = 0.01


class SnapshotView(AbstractContextManager["SnapshotView"]):
    """One consistent state; leave the context to let go of it."""

    buckets: Sequence[tuple[bytes, Entries]]  # by name, etcd's
    revision: int  # the newest in it


class MachineView(SnapshotView):
    """The state of a machine as it is in memory, for a member without a backend."""

    def __init__(self, machine: Machine) -> None:
        store = machine.store
        records = [replace(record, data=store.data_of(record, keep=False)) for record in store.records()]
        records.sort(key=lambda record: (record.mod_revision, record.sub))
        self.buckets = encode_state(state_of(machine), lambda: key_entries(records))
        self.revision = machine.revision

    def __exit__(self, *_: object) -> None:
        self.buckets = ()


class StoredView(SnapshotView):
    """The state of one commit of the backend."""

    def __init__(self, view: BackendView, member: Member) -> None:
        self._view = view
        row = view.get(META_BUCKET, META_KEY)
        assert row is not None, "a commit has been made"
        meta = decode_meta(row)
        keys = StoredKeys(
            view,
            meta.compacted,
            lambda key, revision, sub: member.machine.store.holds(key, revision, sub),
            lambda: member.machine.store.compacted,
        )
        self.buckets = encode_state(state_in(view, meta), keys)
        self.revision = meta.revision

    def __exit__(self, *_: object) -> None:
        self._view.close()


async def open_view(world: World, member: Member) -> SnapshotView:
    """The state with everything in it that is applied by now; a view of a moment later may have more."""
    keeper = member.keeper
    if keeper is None:
        return MachineView(member.machine)
    wanted = member.machine.applied_index
    await keeper.commit()
    while keeper.meta.index < wanted:  # the log was behind
        await world.clock.sleep(_COMMIT_AGAIN_SECONDS)
        await keeper.commit()
    return StoredView(keeper.view()[1], member)


OpenView: TypeAlias = Callable[[], Awaitable[SnapshotView]]


class Snapshots:
    """The two methods of the Maintenance service that read everything.

    Args:
        open_view: the state with everything in it that was applied when it is called.
    """

    def __init__(self, world: World, open_view: OpenView, answers: Answers) -> None:
        self._world = world
        self._open_view = open_view
        self._answers = answers

    async def snapshot(self, call: StreamCall) -> None:
        """Send the database in pieces, each with the number of bytes to come, and its hash at the end."""
        rpc.SnapshotRequest.FromString(await call.receive() or b"")
        started = self._world.clock.monotonic()
        with await self._open_view() as view:
            export = Export(view.buckets)
            for _ in export.measure():
                await trio.lowlevel.checkpoint()
            left = export.size
            for chunk in export.chunks(SNAPSHOT_CHUNK_BYTES):
                left = max(0, left - len(chunk))
                message = rpc.SnapshotResponse(remaining_bytes=left, blob=chunk)
                await call.send(message.SerializeToString())
                await trio.lowlevel.checkpoint()
        self._note("etcd_disk_backend_snapshot_duration_seconds", started)

    async def hash(self, call: StreamCall) -> None:
        """The number that etcd gives for a database with the same entries; a unary method that takes time."""
        rpc.HashRequest.FromString(await call.receive() or b"")
        started = self._world.clock.monotonic()
        with await self._open_view() as view:
            summed = DatabaseHash(view.buckets)
            for _ in summed.compute():
                await trio.lowlevel.checkpoint()
            header = self._answers.header(view.revision)
            await call.send(header + rpc.HashResponse(hash=summed.value).SerializeToString())
        self._note("etcd_mvcc_hash_duration_seconds", started)

    def _note(self, metric: str, started: float) -> None:
        self._world.probe.observe(metric, self._world.clock.monotonic() - started)
