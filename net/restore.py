"""A data directory out of a snapshot file: how a cluster begins anew from its past, or from another etcd's.

Every first member is restored from the same file with the same flags about the cluster; each gets a
directory as etcd's own restore makes it (``core.etcd_directory``), which an etcd can start on, and which
Tercet takes over when it first starts on it (``net.adopt``). The checks, their order and their words are
etcd's.

While it is under way the file ``member/restoring`` is there; a member that finds it does not start. Without
it a restore that was killed would pass for a new cluster with nothing in it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from tercet.core.errors import Rejected
from tercet.core.etcd_directory import LOG_NAME, log_file, restored_buckets, store_file, store_name
from tercet.core.etcd_restore import Restored
from tercet.core.etcd_snapshot import HASH_BYTES, Export, Import, has_hash
from tercet.core.members import MemberView

from .config import MemberConfig, cluster_id, member_id
from .world import Change, DiskFile, World

__all__ = ["RestoreOptions", "RestoreRefused", "check_restored", "restore", "write_backend"]

_READ_BYTES: Final = 1 << 20
_ROWS_PER_COMMIT: Final = 2000


class RestoreRefused(Rejected):
    """The snapshot or the flags cannot be used; the text is etcd's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """What is to be made of a snapshot; the fields are etcdctl's flags.

    ``data_dir`` "": the name and ``.etcd``.
    """

    name: str = "default"
    data_dir: str = ""
    initial_cluster: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"default": ("http://localhost:2380",)}
    )
    initial_cluster_token: str = "etcd-cluster"
    initial_advertise_peer_urls: tuple[str, ...] = ("http://localhost:2380",)
    skip_hash_check: bool = False
    wal_dir: str = ""

    def config(self) -> MemberConfig:
        """The same as a member's configuration."""
        return MemberConfig(
            name=self.name,
            data_dir=self.data_dir or f"{self.name}.etcd",
            wal_dir=self.wal_dir,
            initial_cluster=self.initial_cluster,
            initial_cluster_token=self.initial_cluster_token,
            initial_advertise_peer_urls=self.initial_advertise_peer_urls,
        )


def check_restored(world: World, data_dir: str) -> None:
    """Refuse a directory whose restore did not come to its end. Raises ``RestoreRefused``."""
    if world.disk.exists(_mark(data_dir)):
        raise RestoreRefused(
            f"the restore of a snapshot into {data_dir} did not come to its end:"
            " remove the directory and restore again"
        )


def _mark(data_dir: str) -> str:
    return posixpath.join(data_dir, "member", "restoring")


async def restore(world: World, snapshot_path: str, options: RestoreOptions) -> str:
    """Make a data directory from a snapshot, ours or etcd's; the path of the directory.

    Raises:
        RestoreRefused: the flags contradict themselves, the directory exists, or the file is not what it
            should be by its hash.
        DamagedDatabase: what the hash covers is no etcd database. The directory may be there in part.
        OSError, StorageFailed: the disk failed.
    """
    config = options.config()
    _check_flags(config)
    disk = world.disk
    if disk.exists(config.data_dir):
        raise RestoreRefused(f'data-dir "{config.data_dir}" exists')
    if config.wal_dir and disk.exists(config.wal_dir):
        raise RestoreRefused(f'wal-dir "{config.wal_dir}" exists')
    try:
        file = disk.open(snapshot_path)
    except FileNotFoundError:
        raise RestoreRefused(f"open {snapshot_path}: no such file or directory") from None
    try:
        size = await _check_hash(file, skip=options.skip_hash_check)
        members = [MemberView(*row) for row in config.members()]
        await _write(world, config, Import(file.read_at, size), members)
    finally:
        file.close()
    return config.data_dir


def _check_flags(config: MemberConfig) -> None:
    own = config.initial_cluster.get(config.name)
    if own is None:
        name = f'"{config.name}"'
        raise RestoreRefused(f"couldn't find local name {name} in the initial cluster configuration")
    advertised = config.initial_advertise_peer_urls
    if sorted(own) == sorted(advertised):
        _check_repetitions(config)
        return
    for url in sorted(advertised):
        if url not in own:
            listed = ",".join(f"{config.name}={known}" for known in own)
            raise RestoreRefused(
                f"--initial-advertise-peer-urls has {url} but missing from --initial-cluster={listed}"
            )
    for url in sorted(own):
        if url not in advertised:
            raise RestoreRefused(
                f"--initial-cluster has {config.name}={url} but missing from"
                f" --initial-advertise-peer-urls={','.join(advertised)}"
            )


def _check_repetitions(config: MemberConfig) -> None:
    pairs = sorted((name, url) for name, urls in config.initial_cluster.items() for url in urls)
    if len({url for _, url in pairs}) < len(pairs):
        listed = ",".join(f"{name}={url}" for name, url in pairs)
        raise RestoreRefused(f"initial cluster {listed} has duplicate url")


async def _check_hash(file: DiskFile, *, skip: bool) -> int:
    """The bytes that belong to the database."""
    size = file.size()
    if not has_hash(size):
        if not skip:
            raise RestoreRefused("snapshot missing hash but --skip-hash-check=false")
        return size
    size -= HASH_BYTES
    if skip:
        return size
    digest = hashlib.sha256()
    for offset in range(0, size, _READ_BYTES):
        digest.update(file.read_at(offset, min(_READ_BYTES, size - offset)))
        await trio.lowlevel.checkpoint()
    expected = file.read_at(size, HASH_BYTES)
    if digest.digest() != expected:
        raise RestoreRefused(f"expected sha256 {_go_bytes(expected)}, got {_go_bytes(digest.digest())}")
    return size


def _go_bytes(data: bytes) -> str:
    return f"[{' '.join(map(str, data))}]"


async def _write(world: World, config: MemberConfig, source: Import, members: list[MemberView]) -> None:
    """The mark comes first: whoever finds it knows that the rest may be missing."""
    cluster = cluster_id(tuple(member.id for member in members))
    member = member_id(config.initial_advertise_peer_urls, config.initial_cluster_token)
    disk, mark = world.disk, _mark(config.data_dir)
    snap = posixpath.join(config.data_dir, "member", "snap")
    disk.make_dirs(posixpath.dirname(mark))
    disk.write_atomic(mark, b"")
    disk.make_dirs(snap)
    disk.make_dirs(config.log_folder)
    await _write_database(world, posixpath.join(snap, "db"), Export(restored_buckets(source, len(members))))
    disk.write_atomic(posixpath.join(snap, store_name(len(members))), store_file(members))
    disk.write_atomic(posixpath.join(config.log_folder, LOG_NAME), log_file(member, cluster, members))
    disk.remove(mark)
    disk.sync_dir(posixpath.dirname(mark))


async def _write_database(world: World, path: str, export: Export) -> None:
    for _ in export.measure():
        await trio.lowlevel.checkpoint()
    file = world.disk.open(path, create=True)
    try:
        place, done = 0, export.size
        for chunk in export.chunks(_READ_BYTES):
            if place < done:  # its hash is what a snapshot ends with, and a database does not
                file.write_at(place, chunk)
                place += len(chunk)
                await file.sync()
    finally:
        file.close()


async def write_backend(world: World, path: str, restored: Restored) -> None:
    """Put the rows into a backend; they are valid once the last of them is there."""
    backend = world.disk.open_backend(path)
    try:
        for batch in _batches(restored.changes()):
            await backend.commit(batch)
    finally:
        backend.close()


def _batches(changes: Iterator[Change]) -> Iterator[list[Change]]:
    """The last row makes the others valid, so that it matters little how they are cut."""
    batch: list[Change] = []
    for change in changes:
        batch.append(change)
        if len(batch) >= _ROWS_PER_COMMIT:
            yield batch
            batch = []
    if batch:
        yield batch
