"""A simulated disk and its file system: the ``Disk`` port with loss, errors and delay.

``SimDisk`` belongs to the host and outlives processes. A directory entry becomes durable with ``sync_dir``
of its folder, independent of the file's bytes; ``make_dirs`` is durable at once (file systems order it
before anything inside). ``disk_port`` is what one process sees.

A ``sync`` makes durable what was written before it was called, once its latency has passed; a power cut in
between may keep any part. A disk that lies answers a sync and does nothing.

A sync in place blocks the program, which is simulated ahead of the engine's time meanwhile. So what it did to
the disk has its own time, and becomes durable at that time, not before: a crash in between hits it as it hits
any other sync, and takes back what the program would have done afterwards.
"""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol
from zlib import crc32

import trio

from .backend import BackendInode
from .engine import Engine
from .host import Host, Process, Waiter
from .inode import Inode
from .seeds import stream

__all__ = ["SimDisk"]

_NOTE_WRITE = 0x10
_NOTE_SYNC = 0x11
_NOTE_COMMIT = 0x12
_CUT_MODES = ("lose", "keep", "prefix", "scatter")


class _Change(NamedTuple):
    """Of the name space: "link" path to inode, "unlink" path, or "rename" old + NUL + new."""

    number: int  # from 1 on
    at: int  # virtual ns
    kind: str
    path: str
    inode: Inode | None


class _Promise:
    """Something that is durable at ``due``, when the call that blocks its process since ``begun`` is over."""

    __slots__ = ("begun", "due", "keep")

    def __init__(self, begun: int, due: int, keep: Callable[[], None]) -> None:
        self.begun, self.due, self.keep = begun, due, keep


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
        self._changed = 0  # changes of the name space ever
        self._promises: dict[_Promise, None] = {}
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

    def program_now(self) -> int:
        """When an operation of the program happens: after the call that blocks it, if one does."""
        return max(self.engine.now, self.host.stalled_until)

    def change(self, kind: str, path: str, inode: Inode | None = None) -> None:
        """Change the name space as the cache sees it; durable with ``commit_folder``."""
        self._changed += 1
        change = _Change(self._changed, self.program_now(), kind, path, inode)
        _rename_or_link(self.files, change)
        self._changes.append(change)

    def commit_folder(self, folder: str) -> None:
        """Make the changes of one folder so far durable."""
        now = self.program_now()
        if now == self.engine.now:
            self._commit_changes(folder, self._changed)
        else:
            self.promise(now, now, partial(self._commit_changes, folder, self._changed))

    def _commit_changes(self, folder: str, mark: int) -> None:
        left = []
        for change in self._changes:
            if change.number <= mark and posixpath.dirname(change.path.rpartition("\0")[2]) == folder:
                _rename_or_link(self._durable_files, change)
            else:
                left.append(change)
        self._changes = left

    def promise(self, begun: int, due: int, keep: Callable[[], None]) -> None:
        """Call ``keep`` at ``due``; not if the power is cut before, or the program died before ``begun``."""
        promise = _Promise(begun, due, keep)
        self._promises[promise] = None
        self.engine.at(due, self._keep, promise)

    def _keep(self, promise: _Promise) -> bool:
        if promise in self._promises:
            del self._promises[promise]
            promise.keep()
        return False

    def die_at(self, now: int) -> None:
        """The program died at ``now``: what it would have done later is taken back."""
        for promise in list(self._promises):
            if promise.due <= now:
                self._keep(promise)
            elif promise.begun > now:
                del self._promises[promise]
        if self._changes and self._changes[-1].at > now:
            self._changes = [change for change in self._changes if change.at <= now]
            self.files = dict(self._durable_files)
            for change in self._changes:
                _rename_or_link(self.files, change)
        for path in sorted(self.files):
            self.files[path].forget_after(now)

    def power_cut(self, mode: str | None = None) -> str:
        """Lose what is not durable. ``mode``: lose, keep, prefix, scatter; None draws one."""
        chosen = mode or _CUT_MODES[self.rng.randrange(4)]
        self._power += 1
        self._promises.clear()
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
        self._promises.clear()
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
        done = job.begun + self.sync_delay()
        if self.host.is_due("sync"):  # the worst moment: whoever did not wait has been heard by now
            self.engine.at(done - 1, self._crash_in_sync, self._power)
        self.engine.at(done, job.complete)
        while not job.finished:
            await job.waiter.wait()
        self.check_error()

    def sync_in_place(self, inode: Inode, process: Process) -> None:
        """A sync that blocks the program's loop: the program goes on as if the latency had passed."""
        self.check_error()
        if self.host.is_due("sync"):
            self.host.crash_at("sync")
            process.check()
        self.block(partial(self._complete, inode, inode.written))

    def block(self, keep: Callable[[], None]) -> None:
        """Block the program's loop for the time of a sync; ``keep`` makes durable what it waits for."""
        begun, delay = self.program_now(), self.sync_delay()
        self.promise(begun, begun + delay, keep)  # due before the program goes on
        self.host.stall(delay)

    async def commit(self, job: Commit) -> None:
        """Wait for a backend's commit, which becomes durable at some moment on the way."""
        self.check_error()
        self.check_space(job.growth)
        start, delay = self.program_now(), self.sync_delay()
        if self.host.is_due("sync"):
            self.engine.at(start + self.rng.randrange(delay + 1), self._crash_in_sync, self._power)
        self.engine.at(start + self.rng.randrange(delay + 1), job.settle)
        self.engine.at(start + delay, job.complete)
        with trio.CancelScope(shield=True):
            while not job.finished:
                await job.waiter.wait()
        self.check_error()

    def note_write(self, offset: int, data: bytes) -> None:
        """A process has written into a file."""
        self.engine.note(_NOTE_WRITE, self.host.index, offset << 32 ^ crc32(data))

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
    __slots__ = ("begun", "disk", "finished", "inode", "mark", "power", "process", "waiter")

    def __init__(self, disk: SimDisk, inode: Inode, process: Process) -> None:
        self.disk = disk
        self.inode = inode
        self.process = process
        self.begun = disk.program_now()
        self.mark = inode.written
        self.power = disk._power
        self.finished = False
        self.waiter = Waiter(process)

    def complete(self, _: object) -> bool:
        ended = self.process.ended
        if self.power != self.disk._power or (ended is not None and ended < self.begun):
            return False
        self.disk._complete(self.inode, self.mark)
        self.finished = True
        return self.waiter.fire()


def _rename_or_link(files: dict[str, Inode], change: _Change) -> None:
    _, _, kind, path, inode = change
    if kind == "link" and inode is not None:
        files[path] = inode
    elif kind == "unlink":
        files.pop(path, None)
    elif kind == "rename" and inode is not None:
        old, _, new = path.partition("\0")
        files.pop(old, None)
        files[new] = inode
