"""Work on a data directory that no member uses."""

from __future__ import annotations

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


def defragment(data_dir: str) -> None:
    """Rewrite the directory's database without holes, Tercet's or one that is still etcd's.

    Raises:
        Failure: There is none, or a member uses it.
    """
    path = os.path.join(data_dir, "member", "backend")
    etcds = os.path.join(data_dir, "member", "snap", "db")
    if os.path.exists(path):
        trio.run(_defragment, os.path.join(data_dir, "member", "wal", "lock"), path)
    elif os.path.exists(etcds):
        _defragment_etcds(etcds)
    else:
        raise Failure(
            ERROR, f"cannot open database at {etcds} (open {etcds}: no such file or directory)"
        )


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
        raise Failure(ERROR, f"cannot open database at {path} (the data directory is in use)") from None
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
