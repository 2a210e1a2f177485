"""The log as a value: a persistent view over a shared, append-only buffer.

Appending to the newest view extends the buffer in place and costs O(1); appending to an older view (after
a truncation, or when exploring from an old state) copies. A position of the buffer, once written, is never
written again, so every view ever handed out stays true, and the rolling digest of a prefix may be kept
beside it. Compaction begins a new buffer, so that memory is freed.

``base_index`` and ``base_term`` name the last entry a snapshot stands for: 0 as long as there is none.

Source: Ongaro and Ousterhout 2014, sections 5.3 and 5.4.1; the conflict search is the optimisation at the
end of 5.3 as the thesis describes it.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as Layout

import msgspec

from .types import Entry

__all__ = ["Log", "empty_log", "log_of"]

_ENTRY_HEADER = Layout(">QQQ")
_NO_TERM = -1  # answers term_at outside the log: equal to no entry's term


class Log(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Entries ``base_index + 1 .. last_index``; compare logs with ``==``, which looks at the entries."""

    buffer: list[Entry]  # shared; positions beyond this view belong to newer views
    digests: list[bytes]  # shared; digests[k] covers the first k + 1 entries of the buffer
    base_index: int
    base_term: int
    last_index: int
    last_term: int
    last_change: int = 0  # index of the last configuration change; 0: there is none

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index``; the base's own term at the base, -1 outside the log."""
        if index == self.last_index:
            return self.last_term
        if self.base_index < index < self.last_index:
            return self.buffer[index - self.base_index - 1].term
        return self.base_term if index == self.base_index else _NO_TERM

    def entry(self, index: int) -> Entry:
        """The entry at ``index``, which must be inside the log."""
        assert self.base_index < index <= self.last_index, (self.base_index, index, self.last_index)
        return self.buffer[index - self.base_index - 1]

    def entries(self, first: int, last: int) -> tuple[Entry, ...]:
        """The entries ``first .. last``, both included; empty when ``first > last``."""
        base = self.base_index
        assert base < first and last <= self.last_index, (base, first, last, self.last_index)
        return tuple(self.buffer[first - base - 1 : last - base])

    def batch(self, first: int, max_entries: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from ``first`` on that fit both limits; at least one unless there is none."""
        start = first - self.base_index - 1
        found = self.buffer[start : min(start + max_entries, self.last_index - self.base_index)]
        size_bytes = 0
        for count, entry in enumerate(found):
            size_bytes += len(entry.data)
            if size_bytes > max_bytes and count:
                return tuple(found[:count])
        return tuple(found)

    def append(self, entries: tuple[Entry, ...], *, plain: bool = False) -> Log:
        """This log with ``entries`` (at least one, contiguous, from ``last_index + 1`` on) at its end.

        Args:
            plain: it is known that there is no configuration change among them.
        """
        assert entries[0].index == self.last_index + 1, (entries[0].index, self.last_index)
        buffer, digests = self.buffer, self.digests
        length = self.last_index - self.base_index
        if len(buffer) != length:
            buffer, digests = buffer[:length], digests[:length]
        buffer.extend(entries)
        last_change = self.last_change
        if not plain:
            for entry in entries:
                if entry.kind:
                    last_change = entry.index
        last = entries[-1]
        return Log(buffer, digests, self.base_index, self.base_term, last.index, last.term, last_change)

    def truncated(self, last_index: int) -> Log:
        """This log without what comes after ``last_index``, which must not be before the base."""
        assert self.base_index <= last_index <= self.last_index, (self.base_index, last_index)
        last_term = self.term_at(last_index)
        last_change = self.last_change
        if last_change > last_index:
            last_change = last_index
            while last_change > self.base_index and not self.entry(last_change).kind:
                last_change -= 1
            if last_change == self.base_index:
                last_change = 0
        return Log(
            self.buffer, self.digests, self.base_index, self.base_term, last_index, last_term, last_change
        )

    def compacted(self, index: int) -> Log:
        """This log without the entries up to ``index``, which becomes the base; must be inside the log.

        The rest is copied, so the entries left out are freed with the last older view.
        """
        assert self.base_index <= index <= self.last_index, (self.base_index, index, self.last_index)
        rest = self.buffer[index - self.base_index : self.last_index - self.base_index]
        last_change = self.last_change if self.last_change > index else 0
        return Log(rest, [], index, self.term_at(index), self.last_index, self.last_term, last_change)

    def changes(self, first: int, last: int) -> tuple[Entry, ...]:
        """The configuration changes among the entries ``first .. last``; empty when ``first > last``."""
        base = self.base_index
        assert base < first and last <= self.last_index, (base, first, last, self.last_index)
        if self.last_change < first:
            return ()
        return tuple([entry for entry in self.buffer[first - base - 1 : last - base] if entry.kind])

    def last_not_after_term(self, index: int, term: int) -> int:
        """The greatest index <= ``index`` whose entry's term is <= ``term``; the base when there is none.

        Terms never decrease along a log, so this jumps over whole terms that cannot match.
        """
        index = min(index, self.last_index)
        while index > self.base_index and self.term_at(index) > term:
            index -= 1
        return index

    def digest(self) -> bytes:
        """A 16 byte rolling digest of all entries; costs nothing until asked for, then O(new entries)."""
        length = self.last_index - self.base_index
        digests = self.digests
        while len(digests) < length:
            entry = self.buffer[len(digests)]
            rolling = blake2b(digests[-1] if digests else b"", digest_size=16)
            rolling.update(_ENTRY_HEADER.pack(entry.term, entry.index, entry.kind))
            rolling.update(entry.data)
            digests.append(rolling.digest())
        return digests[length - 1] if length else bytes(16)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Log):
            return NotImplemented
        mine = (self.base_index, self.base_term, self.last_index, self.last_term)
        if mine != (other.base_index, other.base_term, other.last_index, other.last_term):
            return False
        length = self.last_index - self.base_index
        return self.buffer is other.buffer or self.buffer[:length] == other.buffer[:length]

    __hash__ = None  # type: ignore[assignment]


def empty_log(base_index: int = 0, base_term: int = 0) -> Log:
    """A log without entries after ``base_index`` (0: from the very beginning)."""
    return Log([], [], base_index, base_term, base_index, base_term)


def log_of(entries: tuple[Entry, ...], base_index: int = 0, base_term: int = 0) -> Log:
    """A log of ``entries``, which must follow ``base_index`` without a gap.

    Raises:
        ValueError: an index is out of order or a term decreases; nothing was built.
    """
    index, term = base_index, base_term
    for entry in entries:
        if entry.index != index + 1 or entry.term < term:
            raise ValueError(
                f"entry {entry.index} of term {entry.term} cannot follow entry {index} of term {term}"
            )
        index, term = entry.index, entry.term
    log = empty_log(base_index, base_term)
    return log.append(entries) if entries else log
