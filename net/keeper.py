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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec
import trio

from tercet.core.durable import META_BUCKET, META_KEY, Loaded, Meta, decode_meta, encode_meta, load_machine
from tercet.core.errors import Corruption
from tercet.core.machine import Machine
from tercet.core.mvcc.chunks import (
    DATA_BUCKET,
    INDEX_BUCKET,
    Chunk,
    ChunkMap,
    Place,
    chunk_key,
    cut_chunks,
    data_in,
    decode_index,
    encode_data,
    encode_index,
    find_all,
    missing_value,
    place_of,
)
from tercet.core.mvcc.record import Record
from tercet.core.mvcc.store import RESIDENT_BYTES
from tercet.core.raft import RaftState
from tercet.core.raft.membership import meta_of
from tercet.core.raft.types import Entry, Event, HardState, SnapshotMeta, SnapshotReady

from .storage import Recovered, Storage, StorageFailed, explain_failure
from .world import Backend, BackendView, Change, World

__all__ = ["COMMIT_SECONDS", "Keeper", "KeeperLimits", "match_log"]

#: How often the state goes to disk.
COMMIT_SECONDS: Final = 0.1
#: The log is let go after so many bytes, too, and that much of it is kept behind at most.
RELEASE_BYTES: Final = 64 << 20
KEPT_BYTES: Final = 16 << 20
_ADVICE: Final = (
    "Restore the data directory from a copy, or remove the member from the cluster, clear the directory and "
    "add the member again"
)
_REWRITES: Final = 32  # chunks read back and written anew in one commit


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
        self._announced = 0  # the base that Raft and the log know
        self._remove_leftovers()
        self.backend: Backend = world.disk.open_backend(self._path)
        try:
            self._adopt(load_machine(self.backend))
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
                node.machine.scrub(self._limits.scrub_records)
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
        async with self._busy:
            node = self._node
            assert node is not None
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
            node.machine.scrub(self._limits.scrub_records)
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
        with trio.CancelScope(shield=True):  # a thread reads what would be closed
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
        store = machine.store
        fresh, dropped = store.take_fresh()
        changes = machine.take_changes()
        meta = self._next_meta(machine, state)
        news = place_of(fresh[0]) if fresh else None
        late: dict[Place, None] = {}  # dropped before they were ever on disk
        for record in dropped:
            place = place_of(record)
            if news is not None and place >= news:
                late[place] = None
            else:
                self._chunks.drop(place)
        if late:
            fresh = [record for record in fresh if place_of(record) not in late]
        runs, rewritten = self._rewrite(machine)
        rewritten += self._chunks.take_gone([run for run, _ in runs])
        chunks: list[Chunk] = []

        def rows() -> Iterator[Change]:
            for chunk in cut_chunks(fresh):
                chunks.append(chunk)
                key = chunk_key(place_of(chunk[0]))
                yield INDEX_BUCKET, key, encode_index(chunk)
                yield DATA_BUCKET, key, encode_data(chunk)
            yield from rewritten
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
        for run, count in runs:
            self._chunks.replace(run, count)
        for chunk in chunks:
            self._chunks.add(place_of(chunk[0]), len(chunk))
        store.settle(fresh)
        self._let_go(node)
        self._tell()

    def _rewrite(self, machine: Machine) -> tuple[list[tuple[list[Place], int]], list[Change]]:
        """What becomes of chunks of which little is wanted: runs with their new counts, and the rows."""
        runs: list[tuple[list[Place], int]] = []
        rows: list[Change] = []
        for run in self._chunks.take_stale(_REWRITES):
            records = list(self._wanted_of(run, machine))
            for place in run[1:] if records else run:
                key = chunk_key(place)
                rows += ((INDEX_BUCKET, key, None), (DATA_BUCKET, key, None))
            if records:
                key = chunk_key(run[0])
                rows += ((INDEX_BUCKET, key, encode_index(records)), (DATA_BUCKET, key, encode_data(records)))
            runs.append((run, len(records)))
        return runs, rows

    def _wanted_of(self, run: Iterable[Place], machine: Machine) -> Iterator[Record]:
        holds, backend = machine.store.holds, self.backend
        for place in run:
            if not self._chunks.wanted(place):
                continue
            key = chunk_key(place)
            index, data = backend.get(INDEX_BUCKET, key), backend.borrow(DATA_BUCKET, key)
            if index is None or data is None:
                raise missing_value(*_parts(place))
            for record in decode_index(index):
                if holds(record.key, record.mod_revision, record.sub):
                    found = data_in(data, record.mod_revision, record.sub)
                    if found is None:
                        raise missing_value(record.mod_revision, record.sub)
                    yield msgspec.structs.replace(record, data=found)

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
        store = self.machine.store
        store.resident_limit = self._limits.resident_bytes
        reader = _Reader(self.backend, self._chunks)
        store.fetch, store.fetch_all = reader.fetch, reader.fetch_all

    def _remove_leftovers(self) -> None:
        """What a transfer that was cut short has left behind, and LMDB's lock file of a renamed backend."""
        self._remove(f"{self._path}.new")
        self._remove(f"{self._path}.new-lock")

    def _remove(self, path: str) -> None:
        if self._world.disk.exists(path):
            self._world.disk.remove(path)


async def match_log(
    storage: Storage, recovered: Recovered, meta: Meta
) -> tuple[HardState, tuple[Entry, ...], int]:
    """Make sure that log and backend go together, and finish an installation that was cut short.

    Returns:
        What Raft starts from: the hard state, the entries that are not let go, and the term of the entry
        before them, 0 when it is not known.

    Raises:
        Corruption: entries are missing between the two, so one of them was lost or replaced.
        StorageFailed: the disk failed.
    """
    hard_state, entries = recovered.hard_state, recovered.entries
    if meta.installed and recovered.base != (meta.index, meta.term):
        term = max(hard_state.current_term, meta.term)
        voted_for = hard_state.voted_for if term == hard_state.current_term else 0
        hard_state, entries = HardState(term, voted_for, meta.index), ()
        await storage.restart_at(meta.index, meta.term, hard_state)
    elif entries and entries[0].index > meta.base_index + 1:
        raise Corruption(
            f"the log begins with entry {entries[0].index}, but the backend says that it goes on after "
            f"entry {meta.base_index}. {_ADVICE}"
        )
    elif entries and entries[-1].index < meta.index:
        raise Corruption(
            f"the log ends with entry {entries[-1].index}, but entry {meta.index} was applied. {_ADVICE}"
        )
    elif not entries and meta.index > (recovered.base or (meta.base_index,))[0]:
        raise Corruption(f"the log is empty, but entry {meta.index} was applied. {_ADVICE}")
    if entries:
        entries = entries[max(0, meta.base_index + 1 - entries[0].index) :]
    follows = bool(entries) and entries[0].index == meta.base_index + 1
    return hard_state, entries, meta.base_term if follows else 0


class _Reader:
    """Reads values back for one store."""

    def __init__(self, backend: Backend, chunks: ChunkMap) -> None:
        self._backend = backend
        self._chunks = chunks

    def fetch(self, mod_revision: int, sub: int) -> bytes:
        """See ``core.mvcc.store.Fetch``."""
        first = self._chunks.chunk_of(mod_revision << 32 | sub)
        row = None if first is None else self._backend.borrow(DATA_BUCKET, chunk_key(first))
        data = None if row is None else data_in(row, mod_revision, sub)
        if data is None:
            raise missing_value(mod_revision, sub)
        return data

    def fetch_all(self, records: Sequence[Record]) -> list[bytes]:
        """See ``core.mvcc.store.FetchAll``."""
        found: dict[Place, bytes] = {}
        places = sorted(map(place_of, records))
        begin = 0
        while begin < len(places):
            first, end = self._chunks.run_of(places, begin)
            row = None if first is None else self._backend.borrow(DATA_BUCKET, chunk_key(first))
            if row is None:
                raise missing_value(*_parts(places[begin]))
            find_all(row, places[begin:end], found)
            begin = end
        return [found[place_of(record)] for record in records]


def _parts(place: Place) -> tuple[int, int]:
    return place >> 32, place & 0xFFFFFFFF
