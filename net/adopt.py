"""A data directory that an etcd has left: the member goes on from it, under its own name and ids.

``member/snap/db`` is etcd's database up to some entry, ``member/wal`` its log. Both are turned into ours: a
backend with the state of the database, and a log that begins behind it with the entries the database has
not seen. etcd's own files stay, those of its log in another folder, so the way back is open until the first
write.

A crash in the middle is harmless, and so is a refusal: etcd's files are only ever moved, and first when all
is read and a backend is made; then our log is made, and the backend gets its name last. Without a backend the
next start finds etcd's files, in either folder, and does it all again.
"""

from __future__ import annotations

import posixpath
from typing import Final

from tercet.core.etcd_restore import Restored
from tercet.core.etcd_snapshot import Import
from tercet.core.etcd_wal import CannotAdopt, EtcdLog, convert, is_etcd_log, members_at, read_log
from tercet.core.wal import Identity

from .restore import write_backend
from .storage import Storage
from .world import World

__all__ = ["adopt_etcd_directory"]

_HEAD_BYTES: Final = 16
_LOCK: Final = "lock"  # of our own log


async def adopt_etcd_directory(world: World, data_dir: str, log_folder: str) -> None:
    """Take over what an etcd has left in ``data_dir``; nothing happens when there is no such thing.

    Args:
        log_folder: of etcd's log, and of ours later: a part of the data directory, or ``--wal-dir``.

    Raises:
        CannotAdopt: an etcd has it open, or its log ends with what we cannot carry out.
        Corruption: database or log are damaged.
        OSError, StorageFailed: the disk failed.
    """
    member = posixpath.join(data_dir, "member")
    database = posixpath.join(member, "snap", "db")
    disk = world.disk
    if not disk.exists(database) or disk.exists(posixpath.join(member, "backend")):
        return
    segments = _segments(world, log_folder)
    if not segments:
        return
    try:
        lock = disk.lock(database)
    except BlockingIOError:
        raise CannotAdopt(f"an etcd is running on {data_dir}") from None
    file = disk.open(database)
    try:
        log = read_log((posixpath.basename(path), disk.read(path)) for path in segments)
        await _take_over(world, data_dir, log_folder, log, Import(file.read_at, file.size()))
    finally:
        file.close()
        lock.release()


def _old_folder(log_folder: str) -> str:
    """Where etcd's log goes."""
    return f"{log_folder}.etcd"


def _segments(world: World, log_folder: str) -> list[str]:
    """The files of etcd's log in order, also those that have been moved already."""
    disk = world.disk
    found: dict[str, str] = {}
    for folder in (log_folder, _old_folder(log_folder)):
        for name in disk.list(folder) if disk.exists(folder) else ():
            path = posixpath.join(folder, name)
            if name.endswith(".wal") and _is_etcds(world, path):
                found[name] = path
    return [found[name] for name in sorted(found)]


def _is_etcds(world: World, path: str) -> bool:
    file = world.disk.open(path)
    try:
        return is_etcd_log(file.read_at(0, _HEAD_BYTES))
    finally:
        file.close()


async def _take_over(world: World, data_dir: str, log_folder: str, log: EtcdLog, source: Import) -> None:
    state = source.state()
    index = state.applied_index
    term = log.term_at(index)
    if term is None:
        raise CannotAdopt(f"etcd's log does not know entry {index}, up to which its database goes")
    entries = convert(log, index)
    members = members_at(log, index, state.members)
    member = posixpath.join(data_dir, "member")
    backend = posixpath.join(member, "backend")
    disk = world.disk
    for leftover in (f"{backend}.new", f"{backend}.new-lock"):
        if disk.exists(leftover):
            disk.remove(leftover)
    await write_backend(world, f"{backend}.new", Restored(source, members, index, term))
    world.probe.point("adopt.staged")
    _clear_log(world, log_folder)
    world.probe.point("adopt.moved")
    storage, _ = await Storage.open(
        world, data_dir, Identity(log.cluster_id, log.member_id), folder=log_folder
    )
    try:
        await storage.restart_at(index, term, log.hard_state)
        if entries:
            await storage.append(None, entries)
    finally:
        storage.close()
    world.probe.point("adopt.logged")
    disk.rename(f"{backend}.new", backend)
    disk.sync_dir(member)
    world.probe.log(
        "info", "took over the data directory of an etcd; its log was moved", path=_old_folder(log_folder),
        applied_index=index, entries=len(entries),
    )  # fmt: skip


def _clear_log(world: World, log_folder: str) -> None:
    """Move etcd's files out of the log's folder; what an earlier attempt has made of our own goes."""
    disk, old = world.disk, _old_folder(log_folder)
    parent = posixpath.dirname(log_folder) or "."
    if not disk.exists(old):
        disk.make_dirs(old)
        disk.sync_dir(parent)
    for name in disk.list(log_folder):
        path = posixpath.join(log_folder, name)
        if name.endswith(".wal") and not _is_etcds(world, path):
            disk.remove(path)
        elif name != _LOCK:
            disk.rename(path, posixpath.join(old, name))
    disk.sync_dir(old)  # first: a crash may leave a file in both folders, but never in none
    disk.sync_dir(log_folder)
