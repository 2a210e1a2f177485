"""``snapshot save``, ``status`` and ``restore``: files in etcd's own format."""

from __future__ import annotations

import json
import math
import os
import time
from typing import TYPE_CHECKING

from tercet.core.bbolt import DamagedDatabase
from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .calls import DEADLINE, error_text
from .context import Context, Settings, complain, write
from .failures import ERROR, INTERRUPTED, Failure
from .peer_urls import check_peer_urls
from .text import size_text

if TYPE_CHECKING:
    from ..restore import RestoreOptions

__all__ = ["restore", "save", "status"]

PATH = "/etcdserverpb.Maintenance/Snapshot"


def _log(message: str, **fields: object) -> None:
    """One line of JSON on standard error, as etcd's tools log what takes long."""
    line = {"level": "info", "ts": round(time.time(), 6), "caller": "snapshot", "msg": message, **fields}
    complain(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n")


def save(context: Context) -> None:
    """``snapshot save``."""
    context.need(len(context.arguments) == 1, "snapshot save expects one argument")
    path = context.arguments[0]
    settings = context.settings()
    if len(settings.endpoints) != 1:
        several = " ".join(settings.endpoints)
        raise Failure(
            INTERRUPTED, f"snapshot must be requested to one selected node, not multiple [{several}]"
        )
    limit = max(settings.command_timeout, 0.0) if "command-timeout" in context.chosen else math.inf
    try:
        context.run(_save, settings, path, limit)
    except Failure as failure:
        raise Failure(INTERRUPTED if failure.status == ERROR else failure.status, failure.text) from None
    write(f"Snapshot saved at {path}\n")


async def _save(settings: Settings, path: str, limit: float) -> None:
    """Save to a file, within a limit of seconds."""
    from .session import world

    with world().clock.timeout(limit) as scope:
        await _fetch(settings, path)
    if scope.cancelled_caught:
        raise Failure(ERROR, DEADLINE)


async def _fetch(settings: Settings, path: str) -> None:
    from .files import PartFile
    from .session import connect

    file = PartFile(path)
    try:
        _log("created temporary db file", path=file.part)
        started, size = time.monotonic(), 0
        async with connect(settings) as client:
            connection = await client.connection()
            call = connection.start(PATH, client.metadata)
            call.send(rpc.SnapshotRequest().SerializeToString(), end=True)
            _log("fetching snapshot", endpoint=settings.endpoints[0])
            while (message := await call.receive()) is not None:
                blob = rpc.SnapshotResponse.FromString(message).blob
                size += len(blob)
                file.write(blob)
        took = round(time.monotonic() - started, 6)
        _log("fetched snapshot", endpoint=settings.endpoints[0], size=size_text(size), took=took)
        file.finish()
        _log("saved", path=path)
    except TercetError as error:
        raise Failure(ERROR, error_text(error)) from None
    finally:
        file.close()


def status(context: Context) -> None:
    """``snapshot status``: looks at every entry of the file."""
    context.need(len(context.arguments) == 1, "snapshot status requires exactly one argument")
    printer = context.printer
    from tercet.core.etcd_snapshot import snapshot_status

    from .files import opened

    with opened(context.arguments[0], "stat") as (read, size):
        found = snapshot_status(read, size)
    printer.show("db_status", found)


def _members(text: str) -> dict[str, tuple[str, ...]]:
    """The members that ``--initial-cluster`` names, with their peer URLs."""
    members: dict[str, list[str]] = {}
    for part in filter(None, text.split(",")):
        name, _, url = part.strip().partition("=")
        members.setdefault(name, []).append(url.strip())
    return {name: tuple(sorted(urls)) for name, urls in members.items()}


def restore(context: Context) -> None:
    """``snapshot restore``: a data directory for one member of a new cluster."""
    context.need(len(context.arguments) == 1, "snapshot restore requires exactly one argument")
    from ..restore import RestoreOptions

    path = context.arguments[0]
    urls = [url.strip() for url in context.text("initial-advertise-peer-urls").split(",")]
    cluster = _members(context.text("initial-cluster"))
    check_peer_urls([*urls, *(url for known in cluster.values() for url in known)])
    options = RestoreOptions(
        name=context.text("name"),
        data_dir=context.text("data-dir"),
        wal_dir=context.text("wal-dir"),
        initial_cluster=cluster,
        initial_cluster_token=context.text("initial-cluster-token"),
        initial_advertise_peer_urls=tuple(sorted(urls)),
        skip_hash_check=context.yes("skip-hash-check"),
    )
    data_dir = options.data_dir or f"{options.name}.etcd"
    places = {
        "path": path,
        "wal-dir": context.text("wal-dir") or os.path.join(data_dir, "member", "wal"),
        "data-dir": data_dir,
        "snap-dir": os.path.join(data_dir, "member", "snap"),
    }
    context.run(_restore, path, options, places)


async def _restore(path: str, options: RestoreOptions, places: dict[str, str]) -> None:
    from ..restore import RestoreRefused
    from ..restore import restore as make
    from .files import reason
    from .session import world

    if not world().disk.exists(places["data-dir"]):
        _log("restoring snapshot", **places)
    try:
        await make(world(), path, options)
    except RestoreRefused as refused:
        raise Failure(ERROR, str(refused)) from None
    except DamagedDatabase:
        raise Failure(ERROR, "invalid database") from None
    except OSError as problem:
        place = problem.filename
        asked = f"{'read' if place == path else 'mkdir'} {place}: " if place else ""
        raise Failure(ERROR, asked + reason(problem)) from None
    for member, _, urls in options.config().members():
        _log("added member", **{"added-peer-id": f"{member:x}", "added-peer-peer-urls": list(urls)})
    _log("restored snapshot", **places)
