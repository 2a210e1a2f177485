"""etcd's snapshot file: its database as one stream, and SHA-256 over it at the end.

``Export`` makes the stream from buckets whose entries can be read twice (the source must be a view that does
not change meanwhile); both passes are generators, so that whoever drives them decides how much is done at a
time. ``Import`` reads such a file, ours or etcd's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import google_crc32c

from .bbolt import Database, DatabaseWriter, Read
from .bbolt.format import Meta
from .bbolt.reader import Bucket
from .etcd_schema import Entries, EtcdState, decode_record, decode_state
from .mvcc.record import Record, make_record, make_tombstone

__all__ = ["HASH_BYTES", "DatabaseHash", "Export", "Import", "SnapshotStatus", "has_hash", "snapshot_status"]

#: Length of the hash that follows the database.
HASH_BYTES: Final = 32
_SECTOR = 512  # a database is a multiple of it, so what is left over tells whether there is a hash
_ENTRIES_PER_STEP = 1000


class Export:
    """One snapshot to be sent.

    Args:
        buckets: by ascending name (``etcd_schema.encode_state``).
    """

    def __init__(self, buckets: Sequence[tuple[bytes, Entries]]) -> None:
        self._buckets = buckets
        self._plan: Meta | None = None

    def measure(self) -> Iterator[None]:
        """First pass; every step looks at a bounded number of entries. Must be run to its end."""
        writer = DatabaseWriter(None)
        for _ in self._feed(writer):
            yield
        self._plan = writer.finish()

    @property
    def size(self) -> int:
        """Of the database in bytes, without the hash; known after ``measure``."""
        assert self._plan is not None, "measure first"
        return self._plan.page_count * self._plan.page_bytes

    def chunks(self, chunk_bytes: int) -> Iterator[bytes]:
        """Second pass: the database in pieces of ``chunk_bytes``, the last one maybe shorter, and then its
        hash as a piece of its own.

        Raises:
            DamagedDatabase: the entries were not those that had been measured.
        """
        assert self._plan is not None, "measure first"
        writer = DatabaseWriter(self._plan)
        digest = hashlib.sha256()
        rest = b""
        for last in chain(self._feed(writer, chunk_bytes), (True,)):
            if last:
                writer.finish()
            rest += writer.take()
            while len(rest) >= chunk_bytes or (last and rest):
                piece, rest = rest[:chunk_bytes], rest[chunk_bytes:]
                digest.update(piece)
                yield piece
        yield digest.digest()

    def _feed(self, writer: DatabaseWriter, flush_bytes: int = 0) -> Iterator[bool]:
        """Give the writer every entry; stop after a number of them, or when enough bytes wait."""
        seen = 0
        for name, entries in self._buckets:
            bucket = writer.bucket(name)
            for key, value in entries():
                bucket.add(key, value)
                seen += 1
                if seen >= _ENTRIES_PER_STEP or (flush_bytes and writer.waiting >= flush_bytes):
                    seen = 0
                    yield False


class Import:
    """An etcd database that is being read.

    Args:
        read: gives the file's bytes by position.
        size: of the file.

    Raises:
        DamagedDatabase: here and in every method, when the file is not what it should be.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._database = Database(read, size)
        self._buckets = dict(self._database.buckets())

    def buckets(self) -> Iterator[tuple[bytes, Bucket]]:
        """All buckets by name, as they are."""
        yield from self._buckets.items()

    def state(self) -> EtcdState:
        """Everything but the keys."""
        buckets = self._buckets.items()
        return decode_state({name: bucket.items() for name, bucket in buckets if name != b"key"})

    def records(self) -> Iterator[Record]:
        """Every record in order of revision; one at a time, so memory does not depend on their number."""
        bucket = self._buckets.get(b"key")
        for name, value in bucket.items() if bucket is not None else ():
            revision, sub, deleted, content = decode_record(name, value)
            if deleted:
                yield make_tombstone(content.key, revision, sub)
            else:
                yield make_record(
                    content.key, content.create_revision, revision, sub, content.version, content.value,
                    content.lease,
                )  # fmt: skip


class SnapshotStatus:
    """What ``snapshot status`` tells about a file."""

    __slots__ = ("hash", "revision", "total_key", "total_size")

    def __init__(self, hash_: int, revision: int, total_key: int, total_size: int) -> None:
        self.hash = hash_  # CRC-32C over everything
        self.revision = revision  # the newest; 0 when there is no key
        self.total_key = total_key  # entries of all buckets
        self.total_size = total_size  # of the database in bytes


def snapshot_status(read: Read, size: int) -> SnapshotStatus:
    """Look through a whole file as etcd does; raises ``DamagedDatabase``."""
    database = Database(read, size)
    total = keys = revision = 0
    for name, bucket in database.buckets():
        total = google_crc32c.extend(total, name)
        for key, value in bucket.items():
            total = google_crc32c.extend(google_crc32c.extend(total, key), value)
            keys += 1
            if name == b"key":
                revision = int.from_bytes(key[:8], "big", signed=True)
    return SnapshotStatus(total, revision, keys, database.size)


class DatabaseHash:
    """The number that etcd's ``Hash`` gives for a database of these buckets: CRC-32C over the buckets'
    names and all entries, but for the applied index."""

    def __init__(self, buckets: Sequence[tuple[bytes, Entries]]) -> None:
        self._buckets = buckets
        self.value = 0  # known once ``compute`` is at its end

    def compute(self) -> Iterator[None]:
        """Every step looks at a bounded number of entries."""
        total = seen = 0
        for name, entries in self._buckets:
            total = google_crc32c.extend(total, name)
            for key, value in entries():
                if name != b"meta" or key not in (b"consistent_index", b"term"):
                    total = google_crc32c.extend(google_crc32c.extend(total, key), value)
                seen += 1
                if seen % _ENTRIES_PER_STEP == 0:
                    yield
        self.value = total


def has_hash(size: int) -> bool:
    """Whether a file of that size ends in a hash, as etcd decides it."""
    return size % _SECTOR == HASH_BYTES
