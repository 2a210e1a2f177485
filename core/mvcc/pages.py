"""Long reads, a page at a time (``mvcc.steps``).

Each step visits a page of keys at most, or makes a page of the answer, and the store may change between two
steps. The answer is nevertheless that of one revision: it is fixed at the first step, older records stay in
their keys' histories, and a pin keeps a compaction from dropping them before the read is done or closed.

Sorting cannot be done in one piece either: pages are sorted one by one and then merged. What is held is the
answer itself, in pages, and for a sort the records (not their values).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from heapq import merge
from itertools import islice
from typing import Any, Protocol

from ..wire.proto import rpc_pb2 as rpc
from .ranges import (
    SORT_KEYS,
    Readable,
    has_bounds,
    range_end_of,
    read_revision,
    shown_field,
    sort_records,
    tail,
    within_bounds,
)
from .record import Record, value_of, without_value
from .steps import FIRST_BATCH, PAGE_KEYS, Steps, next_batch

__all__ = [
    "Pageable", "answer_in_pages", "range_is_long", "select_in_pages", "wire_forms_in_pages",
]

class Pageable(Readable, Protocol):
    """What can be read over several turns: the store itself, or a draft of a transaction."""

    @property
    def settled(self) -> bool: ...

    def span(self, start: bytes, end: bytes | None) -> int: ...

    def keys_from(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]: ...

    def of_keys(self, keys: Iterable[bytes], revision: int) -> list[Record]: ...

    def pin(self, revision: int) -> None: ...

    def unpin(self, revision: int) -> None: ...


def range_is_long(view: Pageable, request: rpc.RangeRequest) -> bool:
    """Whether answering at once would visit more than a page of keys; O(log n)."""
    if not request.range_end:
        return False
    if view.span(request.key, range_end_of(request.key, request.range_end)) <= PAGE_KEYS:
        return False
    if 0 < request.revision < view.revision or not view.settled:
        return True  # counting visits all
    if request.count_only:
        return False
    return bool(request.sort_order) or has_bounds(request) or not 0 < request.limit <= PAGE_KEYS


def select_in_pages(view: Pageable, start: bytes, end: bytes | None, revision: int) -> Iterator[list[Record]]:
    """As ``Store.select``, a page of keys at a time; who lets things happen between two has pinned it."""
    while True:
        keys = view.keys_from(start, end, PAGE_KEYS)
        yield view.of_keys(keys, revision)
        if len(keys) < PAGE_KEYS:
            return
        start = keys[-1] + b"\0"


def wire_forms_in_pages(
    view: Readable, records: Iterable[Record]
) -> Iterator[tuple[list[Record], list[bytes]]]:
    """The wire forms of records, about a page of bytes at a time, with their records."""
    rest = iter(records)
    batch = FIRST_BATCH
    while found := list(islice(rest, batch)):
        forms = view.data_of_all(found)
        yield found, forms
        batch = next_batch(len(found), sum(map(len, forms)))


def answer_in_pages(view: Pageable, request: rpc.RangeRequest) -> Steps[list[bytes]]:
    """As ``ranges.answer_range``, in steps; the body in parts, to be joined or sent one after the other.

    Raises:
        RpcError: FUTURE_REVISION or COMPACTED, at the first step.
    """
    revision = read_revision(view, request.revision)
    view.pin(revision)
    try:
        reading = _Reading(view, request, revision)
        yield from reading.steps()
        return reading.parts
    finally:
        view.unpin(revision)


class _Reading:
    """One request at one revision. ``parts`` is complete when ``steps`` has ended."""

    def __init__(self, view: Pageable, request: rpc.RangeRequest, revision: int) -> None:
        self._view = view
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
        start = self._request.key
        end = range_end_of(start, self._request.range_end)
        for records in select_in_pages(self._view, start, end, self._revision):
            self._count += len(records)
            yield records

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
        request = self._request
        descending = request.sort_order == rpc.RangeRequest.DESCEND
        runs: list[list[Record]] = []
        total = 0
        for page in self._pages():
            records = self._wanted(page)
            if self._limit_first:
                records = records[: max(0, self._limit + 1 - total)]
            total += len(records)
            sort_records(self._view, records, request.sort_target, descending=descending)
            runs.append(records)
            yield
        merged = merge(*runs, key=self._sort_key(), reverse=descending)
        yield from self._show(islice(merged, self._limit) if self._limit else merged)
        return bool(self._limit) and total > self._limit

    def _sort_key(self) -> Callable[[Record], Any]:
        target = self._request.sort_target
        if target == rpc.RangeRequest.VALUE:
            data_of = partial(self._view.data_of, keep=False)
            return lambda record: value_of(data_of(record))
        return SORT_KEYS.get(target, SORT_KEYS[0])

    def _show(self, records: Iterator[Record]) -> Steps[None]:
        """Add records to the answer, as many in one step as make about a page of bytes."""
        if self._request.keys_only:
            while page := list(islice(records, PAGE_KEYS)):
                self.parts.append(shown_field(map(without_value, page)))
                yield
            return
        for _, forms in wire_forms_in_pages(self._view, records):
            self.parts.append(shown_field(forms))
            yield
