"""The member's durable state: the driver of the write-ahead log.

``core.wal`` says what bytes mean; this module opens the data directory, recovers, and appends with one write
and one sync per record. At most one record is unsynced at any time, which is what makes a torn tail
recognisable. After a failed write or sync nothing is known about the file, so the storage refuses
everything from then on and the node stops: a later start recovers what was really kept.

Layout: ``<sequence>-<first index>.wal`` and ``lock`` in ``<data dir>/member/wal``, or in the folder of
``--wal-dir``. Segments go, oldest first, once the backend holds what their entries did (``release``). Each
segment begins with the hard state, so none of those before it is needed for that.
"""

from __future__ import annotations

import errno
import posixpath

import msgspec

from tercet.core.errors import Corruption, Rejected
from tercet.core.raft.types import Entry, HardState
from tercet.core.wal import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    Identity,
    Position,
    Recovery,
    SegmentHeader,
    Tail,
    encode_header,
    encode_record,
    segment_name,
)

from .config import wal_folder
from .world import DiskFile, DiskLock, World

__all__ = ["DirectoryLocked", "Recovered", "Storage", "StorageFailed", "explain_failure"]

#: Small records bring zeros along up to a multiple of this, so that the syncs of the next ones need not
#: make the file system convert preallocated blocks (5 KB records: 150 against 200 µs a sync on ext4).
_ZERO_AHEAD = 64 << 10
_SMALL_RECORD = 16 << 10
#: What a hard state adds to a record at most.
_HARD_STATE_BYTES = 64


class DirectoryLocked(Rejected):
    """Another process has the data directory open."""


class StorageFailed(Corruption):
    """A write or sync failed: what the file holds is unknown until the next start. The node must stop."""


class Recovered(msgspec.Struct, frozen=True):
    """What the log held. A new directory gives the empty hard state and no entries."""

    hard_state: HardState
    entries: tuple[Entry, ...]  # from any index on: older ones may have been released
    fresh: bool  # the directory was made just now
    torn_bytes: int  # cut from the end; 0 after a clean stop
    base: tuple[int, int] | None = None  # index and term: a snapshot took the place of the log up to here


class Storage:
    """The open log of one member. One task uses it; appends must not overlap."""

    def __init__(self, world: World, folder: str, lock: DiskLock, identity: Identity, capacity: int) -> None:
        """Not for callers: use ``Storage.open``."""
        self._world = world
        self._folder = folder
        self._lock = lock
        self._identity = identity
        self._capacity = capacity
        self._nonces = world.rng.stream("wal")
        self._file: DiskFile | None = None
        self._header: SegmentHeader | None = None
        self._position = Position(0, 0, 0)
        self._zeroed_to = 0
        self._next_index = 1
        self._hard_state: HardState | None = None  # the newest that was written
        self._segments: list[tuple[str, int]] = []  # path, highest index of an entry in it; the last is open
        self._highest = 0  # in the open segment
        self.written_bytes = 0  # since the start
        self._failure = ""
        self._appending = False

    @classmethod
    async def open(
        cls,
        world: World,
        data_dir: str,
        identity: Identity,
        *,
        folder: str = "",
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple[Storage, Recovered]:
        """Open or make the data directory, recover its log and cut a torn tail.

        Args:
            world: the member's machine.
            data_dir: made with mode 0700 when missing.
            identity: who we are; a directory of anybody else is refused.
            folder: of the log; "": the data directory's own.
            segment_bytes: capacity of new segments, at least 4096.

        Raises:
            DirectoryLocked: another process holds the directory.
            WrongDirectory: it belongs to another cluster or member, or to a newer version.
            Corruption: the log cannot be trusted (which file, which offset, what to do); no
                segment was changed, only leftover temporary files may be gone.
            StorageFailed: the disk failed or is full.
        """
        if segment_bytes < 4096:
            raise ValueError(f"need segment_bytes >= 4096, got {segment_bytes}")
        folder = folder or wal_folder(data_dir)
        disk = world.disk
        try:
            for path in (posixpath.join(data_dir, "member"), folder):
                if not disk.exists(path):
                    _make_folder(world, path)
            lock = disk.lock(posixpath.join(folder, "lock"))
        except BlockingIOError:
            raise DirectoryLocked(f"the data directory {data_dir} is in use by another process") from None
        except OSError as problem:
            raise StorageFailed(explain_failure("open", data_dir, problem)) from problem
        storage = cls(world, folder, lock, identity, segment_bytes)
        try:
            return storage, await storage._recover()
        except OSError as problem:
            storage.close()
            raise StorageFailed(explain_failure("recover", folder, problem)) from problem
        except BaseException:
            storage.close()
            raise

    async def append(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        """Make a hard state and entries durable: one write and one sync, in a thread.

        Entries replace the log from the first one's index on.

        Raises:
            StorageFailed: the disk refused. Nothing may be acknowledged any more; the node stops.
        """
        self._begin()
        try:
            file, offset, data, position = self._encode(hard_state, entries)
            if position.offset > self._zeroed_to:
                await self._rotate(position.offset - offset)
                hard_state = hard_state or self._hard_state
                file, offset, data, position = self._encode(hard_state, entries)
            started = self._world.clock.monotonic()
            await file.persist(offset, data)
        except OSError as problem:
            raise self._fail(problem) from problem
        except BaseException:
            self._failure = "an append was interrupted"
            raise
        self._end(position, hard_state, entries, started, offset)

    def append_now(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        """Like ``append``, but in place: it blocks the loop and spares the thread's round trip."""
        self._begin()
        try:
            file, offset, data, position = self._encode(hard_state, entries)
            if position.offset > self._zeroed_to:
                self._rotate_now(position.offset - offset)
                hard_state = hard_state or self._hard_state
                file, offset, data, position = self._encode(hard_state, entries)
            started = self._world.clock.monotonic()
            file.write_at(offset, data)
            file.sync_now()
        except OSError as problem:
            raise self._fail(problem) from problem
        self._end(position, hard_state, entries, started, offset)

    async def restart_at(self, index: int, term: int, hard_state: HardState) -> None:
        """Make the log void up to ``index``, and go on after it: a snapshot holds what the entries did.

        Raises:
            StorageFailed: the disk refused; a later start finds the old log, or the new one.
        """
        self._begin()
        try:
            await self._rotate(HEADER_BYTES)
            self._world.probe.point("wal.restart.rotated")
            file = self._file
            assert file is not None
            data, position = encode_record(self._position, hard_state, (), (index, term))
            await file.persist(self._position.offset, data)
        except OSError as problem:
            raise self._fail(problem) from problem
        except BaseException:
            self._failure = "a restart of the log was interrupted"
            raise
        self._world.probe.point("wal.restart.written")
        self._position = position
        self._zeroed_to = max(self._zeroed_to, position.offset)
        self._hard_state = hard_state
        self._next_index = index + 1
        self._appending = False
        self._segments = [(path, 0) for path, _ in self._segments]
        self.release(0)

    def release(self, index: int) -> None:
        """Remove the segments of which no entry above ``index`` is needed; the open one stays.

        Raises:
            StorageFailed: the disk refused.
        """
        disk = self._world.disk
        try:
            while len(self._segments) > 1 and self._segments[0][1] <= index:
                path, _ = self._segments.pop(0)
                disk.remove(path)
                self._world.probe.point("wal.release.removed")
                disk.sync_dir(self._folder)  # each before the next: no gap whatever happens
                self._world.probe.log("info", "released a WAL segment", path=path)
        except OSError as problem:
            raise self._fail(problem) from problem

    def close(self) -> None:
        """Close the file and let the directory go; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def _begin(self) -> None:
        if self._failure:
            raise StorageFailed(f"the log stopped earlier: {self._failure}")
        assert not self._appending, "appends must not overlap"
        self._appending = True
        self._world.probe.point("wal.append.before")

    def _end(
        self, position: Position, hard_state: HardState | None, entries: tuple[Entry, ...], started: float,
        offset: int,
    ) -> None:
        self._position = position
        if hard_state is not None:
            self._hard_state = hard_state
        if entries:
            last = entries[-1].index
            self._next_index = last + 1
            if last > self._highest:
                self._highest = last
                self._segments[-1] = (self._segments[-1][0], last)
        self.written_bytes += position.offset - offset
        self._appending = False
        probe = self._world.probe
        probe.observe("etcd_disk_wal_fsync_duration_seconds", self._world.clock.monotonic() - started)
        probe.count("etcd_disk_wal_write_bytes_total", position.offset - offset)
        probe.point("wal.append.after")

    def _fail(self, problem: OSError) -> StorageFailed:
        self._failure = explain_failure("append", self._folder, problem)
        return StorageFailed(self._failure)

    def _encode(
        self, hard_state: HardState | None, entries: tuple[Entry, ...]
    ) -> tuple[DiskFile, int, bytes, Position]:
        """The file, where to write, what (with zeros ahead), and the position after it.

        A position beyond ``_zeroed_to`` means that the record does not fit: rotate and encode again.
        """
        file, header = self._file, self._header
        assert file is not None and header is not None
        offset = self._position.offset
        data, position = encode_record(self._position, hard_state, entries)
        if self._zeroed_to < position.offset <= header.capacity:
            zeroed_to = position.offset
            if len(data) <= _SMALL_RECORD:
                zeroed_to = min((position.offset // _ZERO_AHEAD + 1) * _ZERO_AHEAD, header.capacity)
                data += bytes(zeroed_to - position.offset)
            self._zeroed_to = zeroed_to
        return file, offset, data, position

    async def _rotate(self, record_bytes: int) -> None:
        """Go on in a new segment with room for a record of that size."""
        file, header = self._create_segment(record_bytes)
        await file.sync()
        self._enter_segment(file, header)

    def _rotate_now(self, record_bytes: int) -> None:
        file, header = self._create_segment(record_bytes)
        file.sync_now()
        self._enter_segment(file, header)

    def _create_segment(self, record_bytes: int) -> tuple[DiskFile, SegmentHeader]:
        """Write the next segment under its temporary name; the caller syncs it and enters it."""
        before = self._header
        needed = HEADER_BYTES + record_bytes + _HARD_STATE_BYTES
        header = SegmentHeader(
            identity=self._identity,
            sequence=0 if before is None else before.sequence + 1,
            first_index=self._next_index,
            capacity=max(self._capacity, (needed + 4095) & ~4095),
            previous_crc=self._position.crc,
            nonce=self._nonces.getrandbits(64),
        )
        file = self._world.disk.open(self._path(header) + ".tmp", create=True)
        try:
            file.allocate(header.capacity)
            file.write_at(0, encode_header(header))
        except BaseException:
            file.close()
            raise
        return file, header

    def _enter_segment(self, file: DiskFile, header: SegmentHeader) -> None:
        """Give a synced segment its name and write there from now on."""
        disk, path = self._world.disk, self._path(header)
        try:
            self._world.probe.point("wal.rotate.written")
            disk.rename(path + ".tmp", path)
            self._world.probe.point("wal.rotate.renamed")
            disk.sync_dir(self._folder)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file, self._header = file, header
        self._position = Position(header.seed, HEADER_BYTES, header.previous_crc)
        self._zeroed_to = HEADER_BYTES
        self._segments.append((path, 0))
        self._highest = 0
        self._world.probe.log("info", "created a WAL segment", path=path, bytes=header.capacity)

    def _path(self, header: SegmentHeader) -> str:
        return posixpath.join(self._folder, segment_name(header))

    async def _recover(self) -> Recovered:
        """Read all segments, cut a torn tail, and make the log ready to append."""
        disk = self._world.disk
        names = []
        for name in disk.list(self._folder):
            if name.endswith(".wal"):
                names.append(name)
            elif name.endswith(".tmp"):  # a segment whose making was cut short: nothing is in it
                disk.remove(posixpath.join(self._folder, name))
        if not names:
            await self._rotate(0)
            return Recovered(HardState(), (), fresh=True, torn_bytes=0)
        recovery = Recovery(self._identity)
        for name in names:
            recovery.feed(name, self._read(name), last=name == names[-1])
        tail = recovery.tail
        assert tail is not None
        self._world.probe.point("wal.recover.read")
        await self._resume(tail)
        entries = tuple(recovery.entries)
        if recovery.base is not None:
            self._next_index = recovery.base[0] + 1
        if entries:
            self._next_index = entries[-1].index + 1
        self._hard_state = recovery.hard_state
        paths = (posixpath.join(self._folder, name) for name in names)
        self._segments = list(zip(paths, recovery.highest, strict=True))
        self._highest = recovery.highest[-1]
        torn_bytes = 0 if tail.torn is None else tail.torn.end - tail.torn.offset
        return Recovered(recovery.hard_state, entries, False, torn_bytes, recovery.base)

    def _read(self, name: str) -> bytes:
        file = self._world.disk.open(posixpath.join(self._folder, name))
        try:
            return file.read_at(0, file.size())
        finally:
            file.close()

    async def _resume(self, tail: Tail) -> None:
        """Open the last segment for appending; zeros take the place of a torn record, durably.

        A killed process leaves records in the page cache that were never synced. They have just been read
        and will be acted on, so they are made durable first.
        """
        path = posixpath.join(self._folder, tail.name)
        self._file = self._world.disk.open(path)
        self._header, self._position = tail.header, tail.position
        self._zeroed_to = tail.position.offset
        torn = tail.torn
        if torn is not None:
            self._world.probe.log(
                "warn", "cut a torn record from the WAL; it was never acknowledged",
                path=path, offset=torn.offset, bytes=torn.end - torn.offset,
            )  # fmt: skip
            self._file.write_at(torn.offset, bytes(torn.end - torn.offset))
        await self._file.sync()


def _make_folder(world: World, folder: str) -> None:
    """Make a folder and every name on the way to it durable."""
    disk = world.disk
    missing: list[str] = []
    path = folder
    while path and not disk.exists(path):
        missing.append(path)
        path = posixpath.dirname(path)
    disk.make_dirs(folder)
    for made in reversed(missing):
        disk.sync_dir(posixpath.dirname(made) or ".")


def explain_failure(action: str, path: str, problem: OSError) -> str:
    """What failed and what the operator can do."""
    if problem.errno == errno.ENOSPC:
        return (
            f"cannot {action} {path}: no space left on the disk; free some and start the member again "
            f"(nothing acknowledged is lost)"
        )
    return f"cannot {action} {path}: {problem}; the member stops, check the disk before starting it again"
