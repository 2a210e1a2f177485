"""The ``Backend`` port of ``net.world`` on this machine: LMDB.

One file, a copy-on-write B+ tree with two alternating roots: a commit writes new pages, syncs them, and then
writes the new root, so a crash leaves the state before or after it. Readers see the state they began with;
the pages that such a state needs are not reused before it is let go. The file never shrinks by itself.

All buckets share one tree, their names in front of the keys, so that a small database is a few pages. The map
is far larger than any database, as it only reserves addresses: nothing has to grow at run time.
Reads are plain memory accesses in the caller's thread; commits run in a thread of their own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import lmdb

from tercet.core.errors import Corruption

from .real_threads import DiskThreads
from .world import Change

__all__ = ["RealBackend"]

_MAP_BYTES = 1 << 40
_MAP_BYTES_LEAST = 1 << 31
_ROOM_BYTES_LEAST = 1 << 20
_NAME_END = b"\0"
_AFTER_NAME_END = b"\1"


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Raise LMDB's errors as the port's."""
    try:
        yield
    except lmdb.MapFullError as problem:
        raise OSError(errno.ENOSPC, "the map of the database is full", path) from problem
    except (
        lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError
    ) as problem:
        raise Corruption(
            f"the backend {path} cannot be trusted: {problem}. Restore it from a copy, or remove the member "
            f"from the cluster, clear its data directory and add it again"
        ) from problem
    except lmdb.Error as problem:
        full = os.strerror(errno.ENOSPC) in str(problem) or _is_full(path)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(problem), path) from problem


def _is_full(path: str) -> bool:
    """LMDB calls a short write, which is how a full disk shows first, an input/output error."""
    try:
        disk = os.statvfs(os.path.dirname(path) or ".")
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _ROOM_BYTES_LEAST


class _Environment:
    """An open LMDB environment; closed when the last of its users lets go."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.handle = _open(path)
        self.users = 1

    def release(self) -> None:
        """One user less."""
        self.users -= 1
        if not self.users:
            self.handle.close()

    def write(self, changes: Iterable[Change]) -> None:
        """One durable commit."""
        with _translated(self.path), self.handle.begin(write=True) as transaction:
            for bucket, key, value in changes:
                if value is None:
                    transaction.delete(_full(bucket, key))
                else:
                    transaction.put(_full(bucket, key), value)

    def measure(self) -> tuple[int, int]:
        """The bytes that the file takes, and those of them that are in use."""
        with _translated(self.path), self.handle.begin():
            last, tree = int(self.handle.info()["last_pgno"]), self.handle.stat()
        page = int(tree["psize"])
        pages = 2 + int(tree["branch_pages"] + tree["leaf_pages"] + tree["overflow_pages"])
        return (last + 1) * page, min(last + 1, pages) * page


class _View:
    """A read transaction: the state as of its beginning."""

    def __init__(self, environment: _Environment) -> None:
        self._environment: _Environment | None = environment
        environment.users += 1
        with _translated(environment.path):
            self._transaction = environment.handle.begin(buffers=True)

    def renew(self) -> None:
        """Move on to the newest state."""
        assert self._environment is not None
        self._transaction.abort()
        with _translated(self._environment.path):
            self._transaction = self._environment.handle.begin(buffers=True)

    def borrow(self, bucket: str, key: bytes) -> memoryview | None:
        self._check()
        found: memoryview | None = self._transaction.get(_full(bucket, key))
        return found

    def get(self, bucket: str, key: bytes) -> bytes | None:
        found = self.borrow(bucket, key)
        return None if found is None else bytes(found)

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        self._check()
        name = bucket.encode()
        last = name + _AFTER_NAME_END if end is None else name + _NAME_END + end
        with self._transaction.cursor() as cursor:
            found = cursor.set_range(_full(bucket, start))
            count = 0
            while found and not (limit and count >= limit):
                key = bytes(cursor.key())
                if key >= last:
                    return
                yield key[len(name) + 1 :], bytes(cursor.value())
                count += 1
                found = cursor.next()

    def buckets(self) -> tuple[str, ...]:
        self._check()
        names: list[str] = []
        with self._transaction.cursor() as cursor:
            found = cursor.first()
            while found:
                name = bytes(cursor.key()).partition(_NAME_END)[0]
                names.append(name.decode())
                found = cursor.set_range(name + _AFTER_NAME_END)
        return tuple(sorted(names))

    def close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            self._transaction.abort()
            environment.release()

    def _check(self) -> None:
        if self._environment is None:
            raise OSError(errno.EBADF, "the backend was closed")


class RealBackend:
    """An LMDB file; see ``net.world.Backend``.

    Args:
        threads: for commits.
    """

    def __init__(self, path: str, threads: DiskThreads) -> None:
        self._path = path
        self._threads = threads
        with suppress(FileNotFoundError):
            os.unlink(f"{path}.defrag")  # of a defragmentation that was cut short
        fresh = not os.path.exists(path)
        self._environment = _Environment(path)
        if fresh:
            _sync_folder(path)
        self._current = _View(self._environment)
        self._sizes = self._environment.measure()
        self._closed = False

    async def commit(self, changes: Iterable[Change]) -> None:
        await self._job(lambda: self._environment.write(changes))
        self._moved_on()

    def commit_now(self, changes: Iterable[Change]) -> None:
        self._check()
        self._environment.write(changes)
        self._moved_on()

    def get(self, bucket: str, key: bytes) -> bytes | None:
        return self._current.get(bucket, key)

    def borrow(self, bucket: str, key: bytes) -> memoryview | None:
        return self._current.borrow(bucket, key)

    def scan(
        self, bucket: str, start: bytes = b"", end: bytes | None = None, limit: int = 0
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._current.scan(bucket, start, end, limit)

    def view(self) -> _View:
        self._check()
        return _View(self._environment)

    def size(self) -> int:
        return self._sizes[0]

    def size_in_use(self) -> int:
        return self._sizes[1]

    def readers(self) -> int:
        return self._environment.users - 1  # one is this backend itself

    async def defragment(self) -> None:
        temporary = f"{self._path}.defrag"

        def copy() -> None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            with _translated(self._path):
                self._environment.handle.copy(temporary, compact=True)
            descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, 0o600)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        await self._job(copy)
        with suppress(FileNotFoundError):
            os.unlink(f"{self._path}-lock")  # views of the old file keep theirs
        os.replace(temporary, self._path)
        _sync_folder(self._path)
        old, self._environment = self._environment, _Environment(self._path)
        self._current.close()
        old.release()
        self._current = _View(self._environment)
        self._sizes = self._environment.measure()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._current.close()
            self._environment.release()

    def _moved_on(self) -> None:
        self._current.renew()
        self._sizes = self._environment.measure()

    def _check(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the backend was closed", self._path)

    async def _job(self, work: Callable[[], None]) -> None:
        self._check()
        await self._threads.run(work)


def _full(bucket: str, key: bytes) -> bytes:
    return bucket.encode() + _NAME_END + key


def _open(path: str) -> lmdb.Environment:
    size = _MAP_BYTES
    while True:
        try:
            with _translated(path):
                return lmdb.open(path, subdir=False, map_size=size, mode=0o600)
        except OSError as problem:  # where addresses are limited, a smaller map has to do
            if size <= _MAP_BYTES_LEAST or os.strerror(errno.ENOMEM) not in str(problem):
                raise
            size >>= 2


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
