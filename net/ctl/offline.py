"""Work on a data directory that no member uses."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from tercet.core.etcd_snapshot import Export, Import

from .failures import ERROR, Failure
from .files import PartFile, opened, reason

__all__ = ["defragment"]

CHUNK_BYTES: Final = 1 << 20


def defragment(data_dir: str, wal_dir: str = "") -> None:
    """Rewrite the directory's database without holes, Tercet's or one that is still etcd's.

    Args:
        data_dir: With ``member`` in it.
        wal_dir: Of the log, whose lock keeps a member from starting meanwhile; "": the data directory's own.

    Raises:
        Failure: There is none, or a member uses it.
    """
    path = os.path.join(data_dir, "member", "backend")
    etcds = os.path.join(data_dir, "member", "snap", "db")
    if os.path.exists(path):
        log = wal_dir or os.path.join(data_dir, "member", "wal")
        if not glob.glob(os.path.join(glob.escape(log), "*.wal")):
            raise Failure(ERROR, f"there is no log in {log}: name the directory of the log with --wal-dir")
        if _is_open(path):
            raise _in_use(path)
        trio.run(_defragment, os.path.join(log, "lock"), path)
    elif os.path.exists(etcds):
        _defragment_etcds(etcds)
    else:
        raise Failure(
            ERROR, f"cannot open database at {etcds} (open {etcds}: no such file or directory)"
        )


def _in_use(path: str) -> Failure:
    return Failure(ERROR, f"cannot open database at {path} (the data directory is in use)")


def _is_open(path: str) -> bool:
    """Whether a process has the backend open: LMDB keeps a lock on a file beside it as long.

    A member whose log is elsewhere is recognized by this even when a wrong log was named.
    """
    try:
        descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(descriptor)
    return False


def _defragment_etcds(path: str) -> None:
    with _locked(path, path), opened(path) as (read, size):
        export = Export([(name, bucket.items) for name, bucket in Import(read, size).buckets()])
        for _ in export.measure():
            pass
        file, place = PartFile(path), 0
        try:
            for chunk in export.chunks(CHUNK_BYTES):
                if place < export.size:  # behind it comes the hash of a snapshot
                    file.write(chunk)
                place += len(chunk)
            file.finish()
        finally:
            file.close()


@contextmanager
def _locked(lock_path: str, path: str) -> Iterator[None]:
    from .session import world

    try:
        lock = world().disk.lock(lock_path)
    except BlockingIOError:
        raise _in_use(path) from None
    except OSError as problem:
        raise Failure(ERROR, f"cannot open database at {path} ({reason(problem)})") from None
    try:
        yield
    finally:
        lock.release()


async def _defragment(lock_path: str, path: str) -> None:
    from .session import world

    with _locked(lock_path, path):
        backend = world().disk.open_backend(path)
        try:
            await backend.defragment()
        finally:
            backend.close()
