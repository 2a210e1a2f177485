"""Which wire forms of records are in memory, and how the others are read back.

A record's wire form, value included, is in memory until the record is on disk (``settle``). After that the
newest ones are kept up to a bound, and older ones are read back when somebody wants them. Without a disk
nothing is ever dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from ..errors import Corruption
from .record import Record, drop_data, restore_data
from .steps import FIRST_BATCH, next_batch

__all__ = ["RESIDENT_BYTES", "Fetch", "FetchAll", "Resident"]

#: Wire forms that are on disk, too, are kept in memory up to so many bytes.
RESIDENT_BYTES = 64 << 20

#: Reads the wire form of the record with this ``mod_revision`` and ``sub`` back from disk.
Fetch: TypeAlias = Callable[[int, int], bytes]

#: Reads the wire forms of many records back, in their order: neighbours on disk cost one look.
FetchAll: TypeAlias = Callable[[Sequence[Record]], list[bytes]]


def _no_disk(revision: int, sub: int) -> bytes:
    raise Corruption(f"the record of revision {revision}.{sub} is neither in memory nor on disk")


def _none_on_disk(records: Sequence[Record]) -> list[bytes]:
    return [_no_disk(record.mod_revision, record.sub) for record in records]


class Resident:
    """The wire forms of one store's records. ``limit`` is in bytes of those that are on disk, too."""

    __slots__ = ("_bytes", "_records", "fetch", "fetch_all", "limit")

    def __init__(self) -> None:
        self.fetch: Fetch = _no_disk
        self.fetch_all: FetchAll = _none_on_disk
        self.limit = RESIDENT_BYTES
        self._records: deque[Record] = deque()  # on disk and in memory, by age
        self._bytes = 0

    def data_of(self, record: Record, *, keep: bool = True) -> bytes:
        """See ``Store.data_of``."""
        data = record.data
        if data is None:
            data = self.fetch(record.mod_revision, record.sub)
            if keep:
                restore_data(record, data)
                self.settle((record,))
        return data

    def data_of_all(self, records: Sequence[Record]) -> list[bytes]:
        """See ``Store.data_of_all``."""
        found = [record.data for record in records]
        if None in found:
            absent = [record for record in records if record.data is None]
            read = self.fetch_all(absent)
            if len(absent) == len(found):
                return read
            rest = iter(read)
            return [next(rest) if data is None else data for data in found]
        return found  # type: ignore[return-value]  # no None in it

    def recall(self, records: Sequence[Record], limit: int) -> None:
        """Have wire forms in memory again: of so many of the first records as make about ``limit`` bytes."""
        size = place = 0
        batch = FIRST_BATCH
        while place < len(records) and size < limit:
            part = records[place : place + batch]
            place += len(part)
            forms = self.data_of_all(part)
            absent = [record for record in part if record.data is None]
            for record, data in zip(part, forms, strict=True):
                if record.data is None:
                    restore_data(record, data)
            self.settle(absent)
            read = sum(map(len, forms))
            size += read
            batch = next_batch(len(part), read)

    def settle(self, records: Iterable[Record]) -> None:
        """These records are on disk: keep them, and drop the wire forms of the oldest beyond the bound."""
        resident, size = self._records, self._bytes
        for record in records:
            resident.append(record)
            size += len(record.data or b"")
        limit = self.limit
        while size > limit:
            record = resident.popleft()
            size -= len(record.data or b"")
            drop_data(record)
        self._bytes = size
