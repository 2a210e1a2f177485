"""One simulated file: what the page cache says, and what would be there after a power cut.

Writes change the cache at once and are remembered as operations; ``commit`` applies the oldest of them to
the durable bytes. A power cut keeps what it draws of the rest: nothing, everything, a prefix whose last
write is torn at a sector, or any sectors at all, as a real disk with a volatile cache may.

Every operation has the time at which it happens. A program that blocks (a sync in place) is simulated ahead
of time; if it dies while it blocks, what it would have done afterwards is taken back.

Bytes beyond what was ever written are zeros and take no memory, so preallocated files cost nothing.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from typing import TypeAlias

__all__ = ["SECTOR", "Inode"]

SECTOR = 512

#: (offset, data) is a write; (size, None) sets the file's size.
_Operation: TypeAlias = tuple[int, bytes | None]


class Inode:
    """A file's contents. ``number`` grows with creation."""

    __slots__ = ("_committed", "_durable", "_durable_size", "_pending", "_times", "data", "number", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()  # the cache; may be shorter than ``size``
        self.size = 0
        self._durable = bytearray()
        self._durable_size = 0
        self._pending: list[_Operation] = []
        self._times: list[int] = []  # of the pending operations, never falling
        self._committed = 0  # operations ever made durable

    # -- the page cache ---------------------------------------------------------------------------

    def write(self, offset: int, data: bytes, at: int = 0) -> None:
        """Write; it happens ``at`` virtual ns, now or when the program goes on."""
        _put(self.data, offset, data)
        self.size = max(self.size, offset + len(data))
        self._pending.append((offset, bytes(data)))
        self._times.append(at)

    def resize(self, size: int, at: int = 0) -> None:
        del self.data[size:]
        self.size = size
        self._pending.append((size, None))
        self._times.append(at)

    def forget_after(self, now: int) -> None:
        """The program died at ``now``: what it would have done later has not happened."""
        happened = bisect_right(self._times, now)
        if happened == len(self._times):
            return
        del self._pending[happened:], self._times[happened:]
        self.data, self.size = bytearray(self._durable), self._durable_size
        for offset, data in self._pending:
            if data is None:
                del self.data[offset:]
                self.size = offset
            else:
                _put(self.data, offset, data)
                self.size = max(self.size, offset + len(data))

    def read(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        found = bytes(self.data[offset:end])
        return found + bytes(max(0, end - offset) - len(found))

    # -- durability -------------------------------------------------------------------------------

    @property
    def written(self) -> int:
        """A mark: the number of operations so far."""
        return self._committed + len(self._pending)

    @property
    def dirty(self) -> bool:
        return bool(self._pending)

    def commit(self, mark: int) -> None:
        """Make everything up to the ``written`` mark durable."""
        count = min(mark - self._committed, len(self._pending))
        if count <= 0:
            return
        for operation in self._pending[:count]:
            self._apply(operation)
        del self._pending[:count], self._times[:count]
        self._committed += count

    def power_cut(self, mode: str, rng: random.Random) -> str:
        """Lose what was not durable. ``mode`` is lose, keep, prefix or scatter; returns what happened."""
        pending, self._pending = self._pending, []
        self._times.clear()
        self._committed += len(pending)
        if mode == "keep":
            for operation in pending:
                self._apply(operation)
        elif mode == "prefix":
            self._keep_prefix(pending, rng)
        elif mode == "scatter":
            self._keep_sectors(pending, rng)
        self.data = bytearray(self._durable)
        self.size = self._durable_size
        return mode if pending else "clean"

    def _keep_prefix(self, pending: list[_Operation], rng: random.Random) -> None:
        count = rng.randrange(len(pending) + 1)
        for operation in pending[:count]:
            self._apply(operation)
        if count < len(pending):
            offset, data = pending[count]
            if data is not None:
                sectors = (offset + len(data) - 1) // SECTOR - offset // SECTOR + 1 if data else 0
                kept = rng.randrange(sectors + 1)
                end = (offset // SECTOR + kept) * SECTOR - offset
                if kept and end > 0:
                    self._apply((offset, data[:end]))

    def _keep_sectors(self, pending: list[_Operation], rng: random.Random) -> None:
        for offset, data in pending:
            if data is None:
                if rng.getrandbits(1):
                    self._apply((offset, None))
                continue
            for start, piece in _by_sector(offset, data):
                if rng.getrandbits(1):
                    self._apply((start, piece))

    def _apply(self, operation: _Operation) -> None:
        offset, data = operation
        if data is None:
            del self._durable[offset:]
            self._durable_size = offset
        else:
            _put(self._durable, offset, data)
            self._durable_size = max(self._durable_size, offset + len(data))

    # -- damage -----------------------------------------------------------------------------------

    def flip(self, bit: int) -> None:
        """Bit rot: flip one bit of what is stored, in the cache and on the platter."""
        for store in (self.data, self._durable):
            if bit // 8 < len(store):
                store[bit // 8] ^= 1 << bit % 8

    def cut_tail(self, count: int) -> None:
        """Lose the last ``count`` bytes of the file for good."""
        self.commit(self.written)
        self.resize(max(0, self.size - count))
        self.commit(self.written)


def _put(store: bytearray, offset: int, data: bytes) -> None:
    gap = offset - len(store)
    if gap > 0:
        store.extend(bytes(gap))
    store[offset : offset + len(data)] = data


def _by_sector(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    pieces = []
    at = 0
    while at < len(data):
        step = min(SECTOR - (offset + at) % SECTOR, len(data) - at)
        pieces.append((offset + at, data[at : at + step]))
        at += step
    return pieces
