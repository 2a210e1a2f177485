"""``etcdutl defrag`` and ``hashkv``: work on files, with no member running."""

from __future__ import annotations

import json
from dataclasses import dataclass

import google_crc32c

from tercet.core.bbolt import Database
from tercet.core.etcd_schema import decode_record
from tercet.core.etcd_snapshot import Import

from .context import Context, write
from .failures import ERROR, Failure
from .files import opened
from .offline import defragment
from .show import unsupported
from .show_table import framed

__all__ = ["defrag", "hashkv"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One record of the file: where it stands, and what is hashed."""

    revision: int
    deleted: bool
    place: bytes
    value: bytes


def defrag(context: Context) -> None:
    """``defrag``: of a data directory that no member uses."""
    data_dir = context.text("data-dir")
    context.need(bool(data_dir), 'required flag(s) "data-dir" not set')
    try:
        defragment(data_dir, context.text("wal-dir"))
    except Failure as failure:
        raise Failure(ERROR, f"Failed to defragment etcd data[{data_dir}] ({failure.text})") from None
    write(f"Finished defragmenting etcd directory[{data_dir}]\n")


def hashkv(context: Context) -> None:
    """``hashkv``: the number that members give for the same history, from a snapshot file."""
    context.need(len(context.arguments) == 1, "hashkv expects one argument: the snapshot's file name")
    printer = context.printer.format
    with opened(context.arguments[0]) as (read, size):
        source = Import(read, size)
        compacted = source.state().compacted
        history, newest = _histories(Database(read, size))
    revision = context.number("rev") or newest
    if revision > newest:
        raise Failure(ERROR, "mvcc: required revision is a future revision")
    if 0 < revision < compacted:
        raise Failure(ERROR, "mvcc: required revision has been compacted")
    number = _hash(history, compacted, revision)
    rows = [[str(number), str(revision), str(compacted)]]
    if printer == "json":
        fields = {"hash": number, "hashRevision": revision, "compactRevision": compacted}
        write(json.dumps(fields, separators=(",", ":")) + "\n")
    elif printer == "table":
        write(framed(("hash", "hash revision", "compact revision"), rows))
    elif printer == "fields":
        write(f'"Hash" : {number}\n"HashRevision" : {revision}\n"CompactRevision" : {compacted}\n')
    elif printer == "simple":
        write(", ".join(rows[0]) + "\n")
    else:
        raise unsupported(printer)


def _histories(database: Database) -> tuple[dict[bytes, list[_Entry]], int]:
    """Every key's records in order, and the newest revision of all; 1 when there is none."""
    histories: dict[bytes, list[_Entry]] = {}
    newest = 1
    bucket = database.bucket(b"key")
    for name, value in bucket.items() if bucket is not None else ():
        newest, _, deleted, content = decode_record(name, value)
        histories.setdefault(content.key, []).append(_Entry(newest, deleted, name, value))
    return histories, newest


def _hash(histories: dict[bytes, list[_Entry]], compacted: int, revision: int) -> int:
    """As ``core.mvcc.hashing``: what is newer than the compaction, and what is still needed of the rest."""
    counted: list[_Entry] = []
    kept: list[_Entry] = []  # up to the compaction
    current: list[_Entry] = []  # ... and still the newest at ``revision``
    alive = False
    for history in histories.values():
        before = [entry for entry in history if entry.revision <= compacted]
        recent = [entry for entry in history if compacted < entry.revision <= revision]
        counted += recent
        if before and not before[-1].deleted:
            kept.append(before[-1])
            if not recent:
                current.append(before[-1])
        seen = before + recent
        alive = alive or bool(seen and not seen[-1].deleted)
    counted += current if alive else kept
    total = google_crc32c.value(b"key")
    for entry in sorted(counted, key=lambda one: one.place):
        total = google_crc32c.extend(google_crc32c.extend(total, entry.place), entry.value)
    return int(total)
