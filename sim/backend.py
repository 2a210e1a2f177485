"""A simulated backend: the ``Backend`` port of ``net.world`` with the same promises about crashes.

The rows hang on the file's inode, so renaming, removing, unsynced folders and power cuts treat a backend
like any other file. A commit takes a sync's time. At a moment drawn inside of it the new state becomes
durable, before its caller hears of it; a crash before that moment loses the commit wholly, one after it
keeps it wholly. A disk that lies forgets at the power cut what it claimed to keep.
"""

from __future__ import annotations

import errno
import random
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from zlib import crc32

from tercet.net.world import Change

from .host import Process, Waiter
from .inode import Inode

if TYPE_CHECKING:
    from .disk import SimDisk

__all__ = ["BackendInode", "SimBackend"]

_PAGE_BYTES = 4096
_ROW_BYTES = 16  # about what a row takes beside key and value



class _Bucket:
    """Never changed once it is in a state: commits put a changed copy in its place."""

    __slots__ = ("_order", "rows", "used")

    def __init__(self, rows: dict[bytes, bytes], used: int) -> None:
        self.rows = rows
        self.used = used  # bytes of all rows
        self._order: list[bytes] | None = None  # the sorted keys, once somebody asked

    def copy(self) -> _Bucket:
        return _Bucket(self.rows.copy(), self.used)

    def put(self, key: bytes, value: bytes) -> None:
        old = self.rows.get(key)
        self.used += len(value) - len(old) if old is not None else len(key) + len(value) + _ROW_BYTES
        self.rows[key] = value

    def remove(self, key: bytes) -> None:
        old = self.rows.pop(key, None)
        if old is not None:
            self.used -= len(key) + len(old) + _ROW_BYTES

    def keys(self, start: bytes, end: bytes | None) -> list[bytes]:
        """The keys from ``start`` to below ``end``, in order."""
        order = self._order
        if order is None:
            order = self._order = sorted(self.rows)
        return order[bisect_left(order, start) : len(order) if end is None else bisect_left(order, end)]


_State: TypeAlias = dict[str, _Bucket]


class BackendInode(Inode):
    """The file: rows as its process sees them, and as they would be after a power cut."""

    __slots__ = ("durable_state", "high_water", "state")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.state: _State = {}
        self.durable_state: _State = {}
        self.high_water = 0  # bytes: the file does not shrink by itself

    def settle(self, state: _State, *, durable: bool) -> None:
        """A commit takes effect."""
        self.state = state
        if durable:
            self.durable_state = state
        self.high_water = max(self.high_water, self.in_use())
        self.size = self.high_water

    def in_use(self) -> int:
        """The bytes of all rows, in whole pages."""
        used = sum([bucket.used for bucket in self.state.values()])
        return (used // _PAGE_BYTES + 3) * _PAGE_BYTES

    def power_cut(self, mode: str, rng: random.Random) -> str:
        self.state = self.durable_state
        return mode

    def forget_after(self, now: int) -> None:
        """Commits take effect at once or never: nothing is ahead of time."""


class _View:
    def __init__(self, state: _State, process: Process) -> None:
        self._state: _State | None = state
        self._process = process

    def get(self, bucket: str, key: bytes) -> bytes | None:
        found = self._bucket(bucket)
        return None if found is None else found.rows.get(key)

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        found = self._bucket(bucket)
        if found is None:
            return
        keys = found.keys(start, end)
        for key in keys[:limit] if limit else keys:
            yield key, found.rows[key]

    def buckets(self) -> tuple[str, ...]:
        self._bucket("")
        state = self._state or {}
        return tuple(name for name in sorted(state) if state[name].rows)

    def close(self) -> None:
        self._state = None

    def _bucket(self, bucket: str) -> _Bucket | None:
        self._process.check()
        state = self._state
        if state is None:
            raise OSError(errno.EBADF, "the backend was closed")
        return state.get(bucket)


class SimBackend:
    """An open backend of one process; see ``net.world.Backend``."""

    def __init__(self, process: Process, disk: SimDisk, inode: BackendInode) -> None:
        self._process = process
        self._disk = disk
        self._inode = inode
        self._state = inode.state  # as its process knows it: a commit counts once its caller is told
        self._closed = False

    async def commit(self, changes: Iterable[Change]) -> None:
        state, growth, checksum = self._changed(changes)
        await self._disk.commit(_Commit(self._disk, self._inode, self._process, state, growth, checksum))
        self._process.check()
        self._state = self._inode.state

    def commit_now(self, changes: Iterable[Change]) -> None:
        state, growth, checksum = self._changed(changes)
        disk = self._disk
        disk.check_error()
        disk.check_space(growth)
        if disk.host.is_due("sync"):
            disk.host.crash_at("sync")
            self._process.check()
        self._inode.settle(state, durable=False)
        self._state = state
        disk.block(partial(self._settle, state, checksum))

    def _settle(self, state: _State, checksum: int) -> None:
        self._inode.settle(state, durable=not self._disk.lying)
        self._disk.note_commit(checksum)

    def get(self, bucket: str, key: bytes) -> bytes | None:
        return self._now().get(bucket, key)

    def borrow(self, bucket: str, key: bytes) -> bytes | None:
        return self._now().get(bucket, key)

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._now().scan(bucket, start, end, limit)

    def view(self) -> _View:
        return self._now()

    def size(self) -> int:
        return max(self._inode.high_water, self._inode.in_use())

    def size_in_use(self) -> int:
        return self._inode.in_use()

    def readers(self) -> int:
        return 1  # a state is a value here: views hold nothing

    async def defragment(self) -> None:
        state, _, checksum = self._changed(())
        await self._disk.commit(_Commit(self._disk, self._inode, self._process, state, 0, checksum))
        self._process.check()
        self._inode.high_water = self._inode.size = self._inode.in_use()

    def close(self) -> None:
        self._closed = True

    def _now(self) -> _View:
        if self._closed:
            raise OSError(errno.EBADF, "the backend was closed")
        if self._disk.error_rate:
            self._disk.check_error()
        return _View(self._state, self._process)

    def _changed(self, changes: Iterable[Change]) -> tuple[_State, int, int]:
        """The state after the changes, how many bytes it grows by, and a checksum for the run's digest."""
        self._process.disk_operation()
        if self._closed:
            raise OSError(errno.EBADF, "the backend was closed")
        state = dict(self._state)
        own: dict[str, None] = {}  # the buckets that are copied already
        growth = checksum = 0
        for bucket, key, value in changes:
            if not 0 < len(key) <= 480:
                raise ValueError(f"need a key of 1 to 480 bytes, got {len(key)}")
            if bucket not in own:
                own[bucket] = None
                state[bucket] = state[bucket].copy() if bucket in state else _Bucket({}, 0)
            rows = state[bucket]
            checksum = crc32(key, checksum)
            if value is None:
                rows.remove(key)
            else:
                rows.put(key, bytes(value))
                growth += len(key) + len(value)
                checksum = crc32(value, checksum)
        return state, growth, checksum


class _Commit:
    """A commit under way."""

    def __init__(
        self, disk: SimDisk, inode: BackendInode, process: Process, state: _State, growth: int, checksum: int
    ) -> None:
        self.waiter = Waiter(process)
        self.finished = False
        self.growth = growth
        self._disk = disk
        self._inode = inode
        self._process = process
        self._state = state
        self._checksum = checksum

    def settle(self, _: object) -> bool:
        """The moment at which it becomes durable, if its process still lives."""
        if self._process.alive:
            self._inode.settle(self._state, durable=not self._disk.lying)
            self._disk.note_commit(self._checksum)
        return False

    def complete(self, _: object) -> bool:
        """The moment at which its caller hears of it."""
        self.finished = True
        return self.waiter.fire()
