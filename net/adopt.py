"""A data directory that an etcd has left: the member goes on from it, under its own name and ids.

``member/snap/db`` is etcd's database up to some entry, ``member/wal`` its log. Both are turned into ours: a
backend with the state of the database, and a log that begins behind it with the entries the database has
not seen. etcd's own files stay, its log under another name, so the way back is open until the first write.

A crash in the middle is harmless: etcd's log is moved, then ours is made, and the backend gets its name last;
without a backend the next start does it all again.
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


async def adopt_etcd_directory(world: World, data_dir: str) -> None:
    """Take over what an etcd has left in ``data_dir``; nothing happens when there is no such thing.

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
    log_folder = _find_log(world, member)
    if not log_folder:
        return
    try:
        lock = disk.lock(database)
    except BlockingIOError:
        raise CannotAdopt(f"an etcd is running on {data_dir}") from None
    file = disk.open(database)
    try:
        log = _read(world, log_folder)
        await _take_over(world, data_dir, log_folder, log, Import(file.read_at, file.size()))
    finally:
        file.close()
        lock.release()


def _find_log(world: World, member: str) -> str:
    """The folder of etcd's log, also when it has been moved already; "" when there is none."""
    for name in ("wal.etcd", "wal"):
        folder = posixpath.join(member, name)
        names = _segments(world, folder)
        if not names:
            continue
        file = world.disk.open(posixpath.join(folder, names[0]))
        try:
            if is_etcd_log(file.read_at(0, _HEAD_BYTES)):
                return folder
        finally:
            file.close()
    return ""


def _segments(world: World, folder: str) -> list[str]:
    if not world.disk.exists(folder):
        return []
    return [name for name in world.disk.list(folder) if name.endswith(".wal")]


def _read(world: World, folder: str) -> EtcdLog:
    names = _segments(world, folder)
    return read_log((name, world.disk.read(posixpath.join(folder, name))) for name in names)


async def _take_over(world: World, data_dir: str, log_folder: str, log: EtcdLog, source: Import) -> None:
    state = source.state()
    index = state.applied_index
    term = log.term_at(index)
    if term is None:
        raise CannotAdopt(f"etcd's log does not know entry {index}, up to which its database goes")
    entries = convert(log, index)
    members = members_at(log, index, state.members)
    member = posixpath.join(data_dir, "member")
    backend, log_now = posixpath.join(member, "backend"), posixpath.join(member, "wal")
    disk = world.disk
    for leftover in (f"{backend}.new", f"{backend}.new-lock"):
        if disk.exists(leftover):
            disk.remove(leftover)
    await write_backend(world, f"{backend}.new", Restored(source, members, index, term))
    if log_folder == log_now:
        disk.rename(log_now, f"{log_now}.etcd")
        disk.sync_dir(member)
    elif disk.exists(log_now):
        for name in disk.list(log_now):
            disk.remove(posixpath.join(log_now, name))
    storage, _ = await Storage.open(world, data_dir, Identity(log.cluster_id, log.member_id))
    try:
        await storage.restart_at(index, term, log.hard_state)
        if entries:
            await storage.append(None, entries)
    finally:
        storage.close()
    disk.rename(f"{backend}.new", backend)
    disk.sync_dir(member)
    world.probe.log(
        "info", "took over the data directory of an etcd; its log was moved", path=f"{log_now}.etcd",
        applied_index=index, entries=len(entries),
    )  # fmt: skip
