"""Long reads, a page at a time, so that who runs them can do other things between two pages.

A range over a million keys takes seconds, and a member that does nothing else meanwhile misses its ticks and
loses its leadership. Here such a read is a generator: each step visits a page of keys at most, or makes a
page of the answer, and the store may change between two steps. The answer is nevertheless that of one
revision: it is fixed at the first step, older records stay in their keys' histories, and a pin keeps a
compaction from dropping them before the read is done or closed.

Sorting cannot be done in one piece either: pages are sorted one by one and then merged. What is held is the
answer itself, in pages, and for a sort the records (not their values).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

from ..wire.proto import rpc_pb2 as rpc
from .ranges import (
    SORT_KEYS,
    has_bounds,
    range_end_of,
    read_revision,
    shown_field,
    sort_records,
    tail,
    within_bounds,
)
from .record import Record, value_of, without_value
from .store import Store

__all__ = [
    "FIRST_BATCH", "PAGE_KEYS", "Steps", "answer_in_pages", "finish", "next_batch", "range_is_long",
]

T = TypeVar("T")

#: A calculation in steps; each ``next`` does a few milliseconds of work at most.
Steps: TypeAlias = Generator[None, None, T]

#: Keys visited in one step; a range over no more than these is answered at once.
PAGE_KEYS: Final = 1_000
#: Bytes of wire forms that one step gathers, about.
_PAGE_BYTES: Final = 1 << 20
#: How many records a step begins with, before their size is known.
FIRST_BATCH: Final = 16


def finish(steps: Steps[T]) -> T:
    """Do all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def next_batch(records: int, size: int) -> int:
    """How many records make about a page of bytes, when so many were of ``size`` bytes."""
    return max(1, min(PAGE_KEYS, records * _PAGE_BYTES // max(1, size)))


def range_is_long(store: Store, request: rpc.RangeRequest) -> bool:
    """Whether answering at once would visit more than a page of keys; O(log n)."""
    if not request.range_end:
        return False
    if store.span(request.key, range_end_of(request.key, request.range_end)) <= PAGE_KEYS:
        return False
    if 0 < request.revision < store.revision:
        return True  # counting visits all
    if request.count_only:
        return False
    return bool(request.sort_order) or has_bounds(request) or not 0 < request.limit <= PAGE_KEYS


def answer_in_pages(store: Store, request: rpc.RangeRequest) -> Steps[list[bytes]]:
    """As ``ranges.answer_range``, in steps; the body in parts, to be joined or sent one after the other.

    Raises:
        RpcError: FUTURE_REVISION or COMPACTED, at the first step.
    """
    revision = read_revision(store, request.revision)
    store.pin(revision)
    try:
        reading = _Reading(store, request, revision)
        yield from reading.steps()
        return reading.parts
    finally:
        store.unpin(revision)


class _Reading:
    """One request at one revision. ``parts`` is complete when ``steps`` has ended."""

    def __init__(self, store: Store, request: rpc.RangeRequest, revision: int) -> None:
        self._store = store
        self._request = request
        self._revision = revision
        self._limit = max(0, request.limit)
        self._sorts = bool(request.sort_order or request.sort_target)
        # Without order and bounds the limit comes first, and a sort target alone sorts what it leaves over.
        self._limit_first = bool(self._limit) and not request.sort_order and not has_bounds(request)
        self._count = 0
        self._room = self._limit
        self.parts: list[bytes] = []

    def steps(self) -> Steps[None]:
        more = yield from (self._sorted() if self._sorts else self._in_order())
        self.parts.append(tail(self._count, more=more))

    def _pages(self) -> Iterator[list[Record]]:
        """The records of the range, page by page, and their count."""
        store, start = self._store, self._request.key
        end = range_end_of(start, self._request.range_end)
        while True:
            keys = store.keys_from(start, end, PAGE_KEYS)
            records = store.of_keys(keys, self._revision)
            self._count += len(records)
            yield records
            if len(keys) < PAGE_KEYS:
                return
            start = keys[-1] + b"\0"

    def _wanted(self, records: list[Record]) -> list[Record]:
        request = self._request
        if request.count_only:
            return []
        if has_bounds(request):
            return [record for record in records if within_bounds(record, request)]
        return records

    def _in_order(self) -> Steps[bool]:
        """Show records as they come; whether the limit cuts some off."""
        more = False
        for page in self._pages():
            records = self._wanted(page)
            if self._limit:
                more = more or len(records) > self._room
                records = records[: self._room]
                self._room -= len(records)
            if records:
                yield from self._show(iter(records))
            else:
                yield
        return more

    def _sorted(self) -> Steps[bool]:
        """Gather all, sort, show; whether the limit cuts some off."""
        request, store = self._request, self._store
        descending = request.sort_order == rpc.RangeRequest.DESCEND
        runs: list[list[Record]] = []
        total = 0
        for page in self._pages():
            records = self._wanted(page)
            if self._limit_first:
                records = records[: max(0, self._limit + 1 - total)]
            total += len(records)
            sort_records(store, records, request.sort_target, descending=descending)
            runs.append(records)
            yield
        merged = merge(*runs, key=self._sort_key(), reverse=descending)
        yield from self._show(islice(merged, self._limit) if self._limit else merged)
        return bool(self._limit) and total > self._limit

    def _sort_key(self) -> Callable[[Record], Any]:
        target = self._request.sort_target
        if target == rpc.RangeRequest.VALUE:
            data_of = partial(self._store.data_of, keep=False)
            return lambda record: value_of(data_of(record))
        return SORT_KEYS.get(target, SORT_KEYS[0])

    def _show(self, records: Iterator[Record]) -> Steps[None]:
        """Add records to the answer, as many in one step as make about a page of bytes."""
        batch = FIRST_BATCH
        while found := list(islice(records, batch)):
            part = shown_field(self._wire_forms(found))
            self.parts.append(part)
            batch = next_batch(len(found), len(part))
            yield

    def _wire_forms(self, records: list[Record]) -> Iterable[bytes]:
        return map(without_value, records) if self._request.keys_only else self._store.data_of_all(records)
