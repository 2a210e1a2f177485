"""A simulated disk as one process sees it: files, folders, locks and backends; the ``Disk`` port.

Every operation counts as one of its process, which may crash at it, and may fail as the disk is told to.
"""

from __future__ import annotations

import errno
import posixpath

from tercet.core.errors import Corruption

from .backend import BackendInode, SimBackend
from .disk import SimDisk
from .host import Process
from .inode import Inode

__all__ = ["DiskPort"]


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
        self._inode.write(offset, data, disk.program_now())
        disk.note_write(offset, data)

    def read_at(self, offset: int, length: int) -> bytes:
        self._operation()
        return self._inode.read(offset, length)

    def truncate(self, size: int) -> None:
        self._operation()
        self._disk.check_space(size - self._inode.size)
        self._inode.resize(size, self._disk.program_now())

    def allocate(self, size: int) -> None:
        self._operation()
        if size > self._inode.size:
            self._disk.check_space(size - self._inode.size)
            self._inode.resize(size, self._disk.program_now())

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
        inode.write(0, data, disk.program_now())
        disk.note_write(0, data)
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
