"""The ``Disk`` port of ``net.world`` on this machine.

Syncs run in threads of their own (``net.real_threads``), so that slow name lookups never stand before them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from .real_threads import DiskThreads

if TYPE_CHECKING:
    from .real_backend import RealBackend

__all__ = ["RealDisk", "RealFile", "RealLock"]


class RealFile:
    """A file written at explicit offsets; see ``net.world.DiskFile``."""

    __slots__ = ("_close_later", "_descriptor", "_jobs", "_path", "_threads")

    def __init__(self, path: str, descriptor: int, threads: DiskThreads) -> None:
        self._path = path
        self._descriptor = descriptor
        self._threads = threads
        self._jobs = 0  # threads that use the descriptor now
        self._close_later = False

    def size(self) -> int:
        return os.fstat(self._open()).st_size

    def write_at(self, offset: int, data: bytes) -> None:
        _write_fully(self._open(), offset, data)

    def read_at(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(self._open(), min(length, 1 << 30), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._open(), size)

    def allocate(self, size: int) -> None:
        try:
            os.posix_fallocate(self._open(), 0, size)
        except OSError as problem:
            if problem.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            if self.size() < size:  # a file system without fallocate: at least the length is settled
                os.ftruncate(self._open(), size)

    async def sync(self) -> None:
        await self._job(self.sync_now)

    def sync_now(self) -> None:
        os.fdatasync(self._open())

    async def persist(self, offset: int, data: bytes) -> None:
        def work() -> None:
            _write_fully(self._descriptor, offset, data)
            os.fdatasync(self._descriptor)

        self._open()
        await self._job(work)

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._jobs:
            self._close_later = True
            return
        os.close(self._descriptor)
        self._descriptor = -1

    def _open(self) -> int:
        if self._descriptor < 0 or self._close_later:
            raise OSError(errno.EBADF, "the file was closed", self._path)
        return self._descriptor

    async def _job(self, work: Callable[[], None]) -> None:
        """Run in a thread; the file is closed only after it."""
        self._jobs += 1
        try:
            await self._threads.run(work)
        finally:
            self._jobs -= 1
            if self._close_later and not self._jobs:
                self._close_later = False
                self.close()


class _CarelessFile(RealFile):
    """A file whose syncs do nothing: ``--unsafe-no-fsync``. What was written survives the process alone."""

    __slots__ = ()

    async def sync(self) -> None:
        self._open()
        await trio.lowlevel.checkpoint()

    def sync_now(self) -> None:
        self._open()

    async def persist(self, offset: int, data: bytes) -> None:
        self.write_at(offset, data)
        await trio.lowlevel.checkpoint()


def _write_fully(descriptor: int, offset: int, data: bytes) -> None:
    written = os.pwrite(descriptor, data, offset)
    if written == len(data):
        return
    rest = memoryview(data)[written:]
    while rest:
        offset += written
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]


class RealLock:
    """An advisory lock that dies with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    """The local file system. Folders are made 0700, files 0600.

    Args:
        threads: for syncs, at most at once.
        durable: False: files that are opened are never synced, and a power cut may lose what they hold.
    """

    def __init__(self, threads: int = 4, *, durable: bool = True) -> None:
        self._file_class = RealFile if durable else _CarelessFile
        self._threads = DiskThreads(threads)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def list(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def make_dirs(self, path: str) -> None:
        # os.makedirs gives its mode to the last folder only.
        missing: list[str] = []
        while path and not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            os.mkdir(folder, 0o700)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def write_atomic(self, path: str, data: bytes) -> None:
        temporary = f"{path}.tmp"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_fully(descriptor, 0, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        self.sync_dir(os.path.dirname(path))

    def open(self, path: str, *, create: bool = False) -> RealFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return self._file_class(path, os.open(path, flags, 0o600), self._threads)

    def open_backend(self, path: str) -> RealBackend:
        from .real_backend import RealBackend  # who only reads and writes files need not load it

        return RealBackend(path, self._threads)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_dir(self, path: str) -> None:
        descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> RealLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return RealLock(descriptor)
