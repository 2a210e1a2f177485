"""The keeper of the applied state: brings it to disk in batches, lets the log go, and reads values back.

The state machine lives in memory and runs ahead of the disk; nothing is lost by that, because the log has
what is missing. Ten times a second the keeper writes what has changed since the last time, and the index it
has come to, in one commit of the backend, in a thread. It never writes an entry that this member's own log
does not hold durably, so the log always reaches at least as far as the backend.

Once enough entries have passed, the log is let go up to some way behind what the backend holds: members
that lag a little should not need a snapshot. The order matters: first the backend says durably where the
log begins, then Raft forgets, then the files go.

A compaction is carried out here, too: a few records at a time, so that nobody waits for it; what it drops
goes from the disk with the next commits, and chunks of which little is left are written anew.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

import msgspec
import trio

from tercet.core.durable import META_BUCKET, META_KEY, Loaded, Meta, decode_meta, encode_meta, load_machine
from tercet.core.errors import Corruption
from tercet.core.machine import Machine
from tercet.core.mvcc.resident import RESIDENT_BYTES
from tercet.core.raft import RaftState
from tercet.core.raft.membership import meta_of
from tercet.core.raft.types import Event, HardState, SnapshotMeta, SnapshotReady

from .chunked import ChunkCommit, ValueReader
from .collector import collector_paused
from .scrubber import Scrubber
from .storage import Storage, StorageFailed, explain_failure
from .world import Backend, BackendView, Change, World

__all__ = ["COMMIT_SECONDS", "Keeper", "KeeperLimits"]

#: How often the state goes to disk.
COMMIT_SECONDS: Final = 0.1
#: The log is let go after so many bytes, too, and that much of it is kept behind at most.
RELEASE_BYTES: Final = 64 << 20
KEPT_BYTES: Final = 16 << 20
_SETTLED_AT_ONCE: Final = 10_000  # records, in one turn


class KeptNode(Protocol):
    """What the keeper needs of ``net.node.Node``."""

    machine: Machine

    @property
    def state(self) -> RaftState: ...

    def happen(self, event: Event) -> None: ...


class KeeperLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When the log is let go, and how compactions are paced."""

    snapshot_count: int = 100_000  # entries
    catchup_entries: int = 5_000  # kept behind
    scrub_records: int = 1_000  # dropped in one step of a compaction
    scrub_seconds: float = 0.01  # between two steps
    resident_bytes: int = RESIDENT_BYTES  # of values in memory that are on disk, too


class Keeper:
    """The backend of one member and what is known about it.

    ``machine`` and ``meta`` are what was found on disk at the start; ``meta`` then follows the commits.
    """

    def __init__(self, world: World, data_dir: str, storage: Storage, limits: KeeperLimits) -> None:
        """Open the backend and load the state from it.

        Raises:
            Corruption: it cannot be trusted.
            OSError: the disk fails.
        """
        self._world = world
        self._folder = posixpath.join(data_dir, "member")
        self._path = posixpath.join(self._folder, "backend")
        self._storage = storage
        self._limits = limits
        self._node: KeptNode | None = None
        self._busy = trio.Lock()  # a commit, a defragmentation or an installation is under way
        self._progress: deque[tuple[int, int]] = deque()  # index and bytes of the log, by commit
        #: Called after each commit, when the sizes may have changed.
        self.on_commit: list[Callable[[], None]] = []
        self._scrubbed: list[Callable[[], None]] = []
        self._scrubber = Scrubber(world, limits.scrub_records)
        self._announced = 0  # the base that Raft and the log know
        self._remove_leftovers()
        self.backend: Backend = world.disk.open_backend(self._path)
        try:
            with collector_paused():
                loaded = load_machine(self.backend)
            self._adopt(loaded)
        except BaseException:
            self.backend.close()
            raise

    def attach(self, node: KeptNode) -> None:
        """This node's state is to be kept; to be called before ``run``."""
        self._node = node

    def view(self) -> tuple[SnapshotMeta, BackendView]:
        """A consistent state to be sent to another member, and what it stands for; the caller closes it."""
        view = self.backend.view()
        row = view.get(META_BUCKET, META_KEY)
        if row is None:
            view.close()
            raise OSError("nothing has been written yet")
        return decode_meta(row).configuration, view

    async def run(self) -> None:
        """Keep the state until cancelled; an error of the disk is raised and must stop the node."""
        clock, node = self._world.clock, self._node
        assert node is not None
        due = clock.monotonic() + COMMIT_SECONDS
        while True:
            pause = max(0.0, due - clock.monotonic())
            if node.machine.scrubbing:
                self._scrubber.step(node.machine)
                pause = min(pause, self._limits.scrub_seconds)
            elif self._scrubbed:
                waiting, self._scrubbed = self._scrubbed, []
                for done in waiting:
                    done()
            await clock.sleep(pause)
            if clock.monotonic() >= due:
                await self.commit()
                due = clock.monotonic() + COMMIT_SECONDS

    async def commit(self) -> None:
        """Write what has changed; nothing happens when the log is behind, or nothing has changed."""
        node = self._node
        assert node is not None
        if not self._is_due(node.machine):
            return  # an idle member does not even wait its turn
        async with self._busy:
            index = node.machine.applied_index
            if self._is_due(node.machine) and node.state.persisted_index >= index == node.state.applied_index:
                await self._commit(node)

    async def defragment(self) -> None:
        """Finish what a compaction has left to do, then give the file's holes back to the file system.

        Everything goes on meanwhile, but commits wait.
        """
        node = self._node
        assert node is not None
        while node.machine.scrubbing:
            self._scrubber.step(node.machine)
            await trio.lowlevel.checkpoint()
        await self.commit()  # what was dropped
        await self.commit()  # what was written anew for it
        async with self._busy:
            self._world.probe.point("keeper.defragment.before")
            await self.backend.defragment()
            self._world.probe.point("keeper.defragment.after")
        self._tell()

    def when_scrubbed(self, done: Callable[[], None]) -> None:
        """Call ``done`` once nothing is left of the compactions so far: at once, or in the keeper's task."""
        if self._node is None or not self._node.machine.scrubbing:
            done()
        else:
            self._scrubbed.append(done)

    def _tell(self) -> None:
        for listener in self.on_commit:
            listener()

    # ---- snapshots from others

    async def receive(self) -> Backend:
        """An empty backend for the rows of a snapshot; give it to ``install``, or ``discard`` it."""
        self._remove_leftovers()
        return self._world.disk.open_backend(f"{self._path}.new")

    def discard(self, received: Backend) -> None:
        """Forget rows that were received."""
        received.close()
        self._remove_leftovers()

    async def install(self, received: Backend, hard_state: HardState) -> Machine:
        """Put a received state in place of backend and log; the machine that it makes.

        A crash in the middle leaves the old state and log, or the new state; then the next start finds that
        the log is older, and makes it void.

        Args:
            hard_state: to be written to the log with it.

        Raises:
            Corruption: the rows make no state; nothing was changed.
            StorageFailed, OSError: the disk failed; the node must stop.
        """
        row = received.get(META_BUCKET, META_KEY)
        if row is None:
            raise Corruption("the snapshot that was received has no meta row")
        meta = decode_meta(row)
        meta = msgspec.structs.replace(
            meta, base_index=meta.index, base_term=meta.term, installed=True
        )
        await received.commit([(META_BUCKET, META_KEY, encode_meta(meta))])
        with trio.CancelScope(shield=True), collector_paused():  # a thread reads what would be closed
            loaded = await self._world.compute.run(partial(load_machine, received))
        self._world.probe.point("keeper.install.staged")
        async with self._busy:
            received.close()
            old = self.backend  # serves what the present machine still reads
            self._world.disk.rename(f"{self._path}.new", self._path)
            self._world.probe.point("keeper.install.renamed")
            self._world.disk.sync_dir(self._folder)
            self._world.probe.point("keeper.install.durable")
            self._remove_leftovers()
            self._remove(f"{self._path}-lock")  # of the old file
            self.backend = self._world.disk.open_backend(self._path)
            self._adopt(loaded)
            await self._storage.restart_at(meta.index, meta.term, hard_state)
            self._world.probe.point("keeper.install.done")
            old.close()
        return loaded.machine

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()

    # ---- what a commit writes

    def _is_due(self, machine: Machine) -> bool:
        meta, store = self.meta, machine.store
        return (
            machine.applied_index != meta.index
            or bool(store.dropped)
            or self._chunks.has_stale
            or meta.installed
        )

    async def _commit(self, node: KeptNode) -> None:
        machine, state = node.machine, node.state
        changes = machine.take_changes()
        meta = self._next_meta(machine, state)
        records = ChunkCommit(self.backend, self._chunks, machine.store)

        def rows() -> Iterator[Change]:
            yield from records.rows()
            for (bucket, key), value in changes.items():
                yield bucket, key, value
            yield META_BUCKET, META_KEY, encode_meta(meta)

        clock = self._world.clock
        started = clock.monotonic()
        self._world.probe.point("keeper.commit.before")
        try:
            await self.backend.commit(rows())
        except OSError as problem:
            raise StorageFailed(explain_failure("write", self._path, problem)) from problem
        self._world.probe.point("keeper.commit.after")
        self._world.probe.observe(
            "etcd_disk_backend_commit_duration_seconds", clock.monotonic() - started
        )
        self.meta = meta
        records.done()
        for first in range(0, len(records.records), _SETTLED_AT_ONCE):
            if first:
                await trio.lowlevel.checkpoint()
            machine.store.settle(records.records[first : first + _SETTLED_AT_ONCE])
        self._let_go(node)
        self._tell()

    # ---- the log

    def _next_meta(self, machine: Machine, state: RaftState) -> Meta:
        base_index, base_term = self._next_base(state)
        index, term = machine.applied_index, machine.applied_term
        return Meta(
            index, term, machine.store.revision, machine.store.compacted,
            meta_of(state.configuration, index, term), base_index, base_term,
        )

    def _next_base(self, state: RaftState) -> tuple[int, int]:
        """Where the log may begin: what the backend holds already decides, less what is kept behind."""
        meta, limits, progress = self.meta, self._limits, self._progress
        written = self._storage.written_bytes
        progress.append((meta.index, written))
        passed = meta.index - meta.base_index
        if passed <= 0 or (passed < limits.snapshot_count and written - progress[0][1] < RELEASE_BYTES):
            return meta.base_index, meta.base_term
        base = meta.index - limits.catchup_entries
        while len(progress) > 1 and written - progress[0][1] > KEPT_BYTES:
            base = max(base, progress.popleft()[0])
        base = min(base, meta.index)
        if base <= max(meta.base_index, state.log.base_index):
            return meta.base_index, meta.base_term
        while progress and progress[0][0] < base:
            progress.popleft()
        return base, state.log.term_at(base)

    def _let_go(self, node: KeptNode) -> None:
        meta = self.meta
        if meta.base_index > self._announced:
            self._announced = meta.base_index
            node.happen(SnapshotReady(meta.configuration, meta.base_index))
            self._world.probe.log("info", "saved snapshot", snapshot_index=meta.index)
            self._world.probe.log(
                "info", "compacted Raft logs", compact_index=meta.base_index, applied_index=meta.index
            )
            self._world.probe.point("keeper.release.announced")
            self._storage.release(meta.base_index)

    # ---- the beginning

    def _adopt(self, loaded: Loaded) -> None:
        self.machine, self._chunks = loaded.machine, loaded.chunks
        self.meta = loaded.meta or Meta(0, 0, 1, -1, SnapshotMeta(0, 0, ()))
        self._announced = self.meta.base_index
        self._progress.clear()
        resident = self.machine.store.resident
        resident.limit = self._limits.resident_bytes
        reader = ValueReader(self.backend, self._chunks)
        resident.fetch, resident.fetch_all = reader.fetch, reader.fetch_all

    def _remove_leftovers(self) -> None:
        """What a transfer that was cut short has left behind, and LMDB's lock file of a renamed backend."""
        self._remove(f"{self._path}.new")
        self._remove(f"{self._path}.new-lock")

    def _remove(self, path: str) -> None:
        if self._world.disk.exists(path):
            self._world.disk.remove(path)
