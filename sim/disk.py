"""A simulated disk and its file system: the ``Disk`` port with loss, errors and delay.

``SimDisk`` belongs to the host and outlives processes. A directory entry becomes durable with ``sync_dir``
of its folder, independent of the file's bytes; ``make_dirs`` is durable at once (file systems order it
before anything inside). ``DiskPort`` is what one process sees.

A ``sync`` makes durable what was written before it was called, once its latency has passed; a power cut in
between may keep any part. A disk that lies answers a sync and does nothing.
"""

from __future__ import annotations

import errno
import posixpath
from typing import Protocol, TypeAlias
from zlib import crc32

import trio

from tercet.core.errors import Corruption

from .backend import BackendInode, SimBackend
from .engine import Engine
from .host import Host, Process, Waiter
from .inode import Inode
from .seeds import stream

__all__ = ["DiskPort", "SimDisk"]

_NOTE_WRITE = 0x10
_NOTE_SYNC = 0x11
_NOTE_COMMIT = 0x12
_CUT_MODES = ("lose", "keep", "prefix", "scatter")

#: ("link", path, inode) | ("unlink", path, None) | ("rename", old + "\0" + new, inode)
_Change: TypeAlias = tuple[str, str, Inode | None]


class SimDisk:
    """The disk of one host. Faults are fields that may be set at any time.

    ``error_rate``: probability of EIO per write, read and sync. ``capacity``: bytes, None without limit.
    """

    def __init__(self, engine: Engine, host: Host) -> None:
        self.engine = engine
        self.host = host
        self.rng = stream(engine.seed, "disk", host.name)
        self.sync_latency_ns = 200_000 + self.rng.randrange(800_000)
        self.slow_factor = 1
        self.error_rate = 0.0
        self.capacity: int | None = None
        self.lying = False
        self.folders: dict[str, None] = {"/": None}
        self.files: dict[str, Inode] = {}
        self.syncs = 0
        self._durable_files: dict[str, Inode] = {}
        self._changes: list[_Change] = []
        self._inodes = 0
        self._power = 0  # power cuts so far: a sync that began before one never completes

    def used(self) -> int:
        """Bytes taken by all files."""
        return sum(inode.size for inode in self.files.values())

    def new_inode(self) -> Inode:
        self._inodes += 1
        return Inode(self._inodes)

    def new_backend(self) -> BackendInode:
        self._inodes += 1
        return BackendInode(self._inodes)

    def change(self, kind: str, path: str, inode: Inode | None = None) -> None:
        """Change the name space as the cache sees it; durable with ``commit_folder``."""
        _rename_or_link(self.files, (kind, path, inode))
        self._changes.append((kind, path, inode))

    def commit_folder(self, folder: str) -> None:
        left = []
        for change in self._changes:
            if posixpath.dirname(change[1].rpartition("\0")[2]) == folder:
                _rename_or_link(self._durable_files, change)
            else:
                left.append(change)
        self._changes = left

    def die_at(self, now: int) -> None:
        """The program died at ``now``: what it would have written later is taken back (it is simulated ahead
        of the engine's time while it blocks).
        """
        for path in sorted(self.files):
            self.files[path].forget_after(now)

    def power_cut(self, mode: str | None = None) -> str:
        """Lose what is not durable. ``mode``: lose, keep, prefix, scatter; None draws one."""
        chosen = mode or _CUT_MODES[self.rng.randrange(4)]
        self._power += 1
        kept = len(self._changes)
        if chosen == "lose":
            kept = 0
        elif chosen != "keep":
            kept = self.rng.randrange(kept + 1)
        for change in self._changes[:kept]:
            _rename_or_link(self._durable_files, change)
        self._changes.clear()
        self.files = dict(self._durable_files)
        for path in sorted(self.files):
            self.files[path].power_cut(chosen, self.rng)
        return chosen

    def wipe(self) -> None:
        """A new, empty disk."""
        self._power += 1
        self._changes.clear()
        self.files.clear()
        self._durable_files.clear()
        self.folders = {"/": None}

    def check_space(self, growth: int) -> None:
        if self.capacity is not None and growth > 0 and self.used() + growth > self.capacity:
            raise OSError(errno.ENOSPC, "No space left on device")

    def check_error(self) -> None:
        if self.error_rate and self.rng.random() < self.error_rate:
            raise OSError(errno.EIO, "Input/output error")

    def sync_delay(self) -> int:
        base = self.sync_latency_ns * self.slow_factor
        return base // 2 + self.rng.randrange(base + 1)

    async def sync(self, inode: Inode, process: Process) -> None:
        """Wait for a sync's latency, then make durable what was written before the call."""
        job = _Sync(self, inode, process)
        done = max(self.engine.now, self.host.stalled_until) + self.sync_delay()
        if self.host.is_due("sync"):  # the worst moment: whoever did not wait has been heard by now
            self.engine.at(done - 1, self._crash_in_sync, self._power)
        self.engine.at(done, job.complete)
        while not job.finished:
            await job.waiter.wait()
        self.check_error()

    def sync_in_place(self, inode: Inode, process: Process) -> None:
        """A sync that blocks the program's loop.

        The program goes on, ahead of the engine's time, as if the latency had passed; so what it has synced
        is durable from here on, and a crash that is to hit the sync must hit it here.
        """
        self.check_error()
        if self.host.is_due("sync"):
            self.host.crash_at("sync")
            process.check()
        self._complete(inode, inode.written)
        self.host.stall(self.sync_delay())

    async def commit(self, job: Commit) -> None:
        """Wait for a backend's commit, which becomes durable at some moment on the way."""
        self.check_error()
        self.check_space(job.growth)
        start, delay = max(self.engine.now, self.host.stalled_until), self.sync_delay()
        if self.host.is_due("sync"):
            self.engine.at(start + self.rng.randrange(delay + 1), self._crash_in_sync, self._power)
        self.engine.at(start + self.rng.randrange(delay + 1), job.settle)
        self.engine.at(start + delay, job.complete)
        with trio.CancelScope(shield=True):
            while not job.finished:
                await job.waiter.wait()
        self.check_error()

    def note_commit(self, checksum: int) -> None:
        """A backend's commit is durable."""
        self.syncs += 1
        self.engine.note(_NOTE_COMMIT, self.host.index, checksum)

    def _crash_in_sync(self, power: int) -> None:
        if power == self._power:
            self.host.crash_at("sync")

    def _complete(self, inode: Inode, mark: int) -> None:
        self.syncs += 1
        if not self.lying:
            inode.commit(mark)
        self.engine.note(_NOTE_SYNC, self.host.index, mark)


class Commit(Protocol):
    """A backend's commit under way."""

    waiter: Waiter
    finished: bool
    growth: int

    def settle(self, _: object) -> bool: ...

    def complete(self, _: object) -> bool: ...


class _Sync:
    __slots__ = ("disk", "finished", "inode", "mark", "power", "waiter")

    def __init__(self, disk: SimDisk, inode: Inode, process: Process) -> None:
        self.disk = disk
        self.inode = inode
        self.mark = inode.written
        self.power = disk._power
        self.finished = False
        self.waiter = Waiter(process)

    def complete(self, _: object) -> bool:
        if self.power != self.disk._power:
            return False
        self.disk._complete(self.inode, self.mark)
        self.finished = True
        return self.waiter.fire()


def _rename_or_link(files: dict[str, Inode], change: _Change) -> None:
    kind, path, inode = change
    if kind == "link" and inode is not None:
        files[path] = inode
    elif kind == "unlink":
        files.pop(path, None)
    elif kind == "rename" and inode is not None:
        old, _, new = path.partition("\0")
        files.pop(old, None)
        files[new] = inode


class _Lock:
    def __init__(self, process: Process, path: str) -> None:
        self._process = process
        self._path = path

    def release(self) -> None:
        if self._process.locks.get(self._path) is self:
            del self._process.locks[self._path]


class _File:
    """An open file of one process."""

    def __init__(self, process: Process, disk: SimDisk, path: str, inode: Inode) -> None:
        self._process = process
        self._disk = disk
        self._path = path
        self._inode = inode
        self._open = True

    def _operation(self) -> None:
        self._process.disk_operation()
        if not self._open:
            raise ValueError(f"{self._path} is closed")
        if self._disk.error_rate:
            self._disk.check_error()

    def size(self) -> int:
        return self._inode.size

    def write_at(self, offset: int, data: bytes) -> None:
        self._operation()
        disk = self._disk
        if disk.capacity is not None:
            disk.check_space(offset + len(data) - self._inode.size)
        self._inode.write(offset, data, self._now())
        disk.engine.note(_NOTE_WRITE, disk.host.index, offset << 32 ^ crc32(data))

    def read_at(self, offset: int, length: int) -> bytes:
        self._operation()
        return self._inode.read(offset, length)

    def truncate(self, size: int) -> None:
        self._operation()
        self._disk.check_space(size - self._inode.size)
        self._inode.resize(size, self._now())

    def allocate(self, size: int) -> None:
        self._operation()
        if size > self._inode.size:
            self._disk.check_space(size - self._inode.size)
            self._inode.resize(size, self._now())

    def _now(self) -> int:
        """When an operation of the program happens: after the stall that it is in, if any."""
        return max(self._disk.engine.now, self._disk.host.stalled_until)

    async def sync(self) -> None:
        self._operation()
        await self._disk.sync(self._inode, self._process)
        self._process.check()

    def sync_now(self) -> None:
        self._operation()
        self._disk.sync_in_place(self._inode, self._process)

    async def persist(self, offset: int, data: bytes) -> None:
        self.write_at(offset, data)
        await self.sync()

    def close(self) -> None:
        self._open = False


class DiskPort:
    """The ``Disk`` port of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._disk = process.host.disk

    def exists(self, path: str) -> bool:
        path = _absolute(path)
        return path in self._disk.files or path in self._disk.folders

    def list(self, path: str) -> list[str]:
        self._process.check()
        path = _absolute(path)
        self._need_folder(path)
        names = dict.fromkeys(posixpath.basename(p) for p in self._disk.files if posixpath.dirname(p) == path)
        names |= dict.fromkeys(
            posixpath.basename(p) for p in self._disk.folders if p != "/" and posixpath.dirname(p) == path
        )
        return sorted(names)

    def make_dirs(self, path: str) -> None:
        self._process.disk_operation()
        path = _absolute(path)
        while path not in self._disk.folders:
            if path in self._disk.files:
                raise FileExistsError(errno.EEXIST, "File exists", path)
            self._disk.folders[path] = None
            path = posixpath.dirname(path)

    def read(self, path: str) -> bytes:
        self._process.disk_operation()
        self._disk.check_error()
        inode = self._find(path)
        return inode.read(0, inode.size)

    def write_atomic(self, path: str, data: bytes) -> None:
        self._process.disk_operation()
        path = _absolute(path)
        self._need_folder(posixpath.dirname(path))
        self._disk.check_error()
        self._disk.check_space(len(data))
        disk = self._disk
        inode = disk.new_inode()
        inode.write(0, data, max(disk.engine.now, disk.host.stalled_until))
        disk.engine.note(_NOTE_WRITE, disk.host.index, crc32(data))
        disk.sync_in_place(inode, self._process)
        self._process.disk_operation()  # a crash between the write and the rename leaves the old file
        disk.change("link", path, inode)
        if not disk.lying:
            disk.commit_folder(posixpath.dirname(path))

    def open(self, path: str, *, create: bool = False) -> _File:
        self._process.disk_operation()
        path = _absolute(path)
        inode = self._disk.files.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            self._need_folder(posixpath.dirname(path))
            self._disk.check_error()
            inode = self._disk.new_inode()
            self._disk.change("link", path, inode)
        return _File(self._process, self._disk, path, inode)

    def open_backend(self, path: str) -> SimBackend:
        self._process.disk_operation()
        path = _absolute(path)
        self._disk.check_error()
        inode = self._disk.files.get(path)
        if inode is None:
            self._need_folder(posixpath.dirname(path))
            inode = self._disk.new_backend()
            self._disk.change("link", path, inode)
            if not self._disk.lying:
                self._disk.commit_folder(posixpath.dirname(path))
        if not isinstance(inode, BackendInode):
            raise Corruption(f"{path} is not a backend")
        return SimBackend(self._process, self._disk, inode)

    def rename(self, old: str, new: str) -> None:
        self._process.disk_operation()
        inode = self._find(old)
        self._need_folder(posixpath.dirname(_absolute(new)))
        self._disk.change("rename", f"{_absolute(old)}\0{_absolute(new)}", inode)

    def remove(self, path: str) -> None:
        self._process.disk_operation()
        self._find(path)
        self._disk.change("unlink", _absolute(path))

    def sync_dir(self, path: str) -> None:
        self._process.disk_operation()
        self._disk.check_error()
        path = _absolute(path)
        self._need_folder(path)
        if not self._disk.lying:
            self._disk.commit_folder(path)

    def lock(self, path: str) -> _Lock:
        self._process.check()
        path = _absolute(path)
        self._need_folder(posixpath.dirname(path))
        if path in self._process.locks:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable", path)
        if path not in self._disk.files:
            self._disk.change("link", path, self._disk.new_inode())
        lock = _Lock(self._process, path)
        self._process.locks[path] = lock
        return lock

    def _find(self, path: str) -> Inode:
        path = _absolute(path)
        inode = self._disk.files.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return inode

    def _need_folder(self, path: str) -> None:
        if path not in self._disk.folders:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)


def _absolute(path: str) -> str:
    """Names in the world are absolute; a relative one is taken from the root."""
    return posixpath.normpath("/" + path.lstrip("/"))
