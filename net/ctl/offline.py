"""Work on a data directory that no member uses."""

from __future__ import annotations

import os

import trio

from .failures import ERROR, Failure
from .files import reason

__all__ = ["defragment"]


def defragment(data_dir: str) -> None:
    """Rewrite the directory's backend without holes. Fails when there is none, or a member uses it."""
    path = os.path.join(data_dir, "member", "backend")
    if not os.path.exists(path):
        raise Failure(
            ERROR, f"cannot open database at {path} (open {path}: no such file or directory)"
        )
    trio.run(_defragment, os.path.join(data_dir, "member", "wal", "lock"), path)


async def _defragment(lock_path: str, path: str) -> None:
    from .session import world

    disk = world().disk
    try:
        lock = disk.lock(lock_path)
    except BlockingIOError:
        raise Failure(ERROR, f"cannot open database at {path} (the data directory is in use)") from None
    except OSError as problem:
        raise Failure(ERROR, f"cannot open database at {path} ({reason(problem)})") from None
    try:
        backend = disk.open_backend(path)
        try:
            await backend.defragment()
        finally:
            backend.close()
    finally:
        lock.release()
