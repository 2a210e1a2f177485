"""Calculations in steps, so that who does them can do other things between two of them.

A calculation over a million keys takes seconds, and a member that does nothing else meanwhile misses its
ticks and loses its leadership. So whatever may visit very many keys is a generator, each step of which visits
a page of them at most. ``begun`` tells the short ones from the long: most are done with their first step.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Final, TypeAlias, TypeVar

__all__ = ["FIRST_BATCH", "PAGE_KEYS", "Steps", "begun", "finish", "next_batch", "sorted_in_pages"]

T = TypeVar("T")

#: A calculation in steps; each ``next`` does a few milliseconds of work at most.
Steps: TypeAlias = Generator[None, None, T]

#: Keys visited in one step; what visits no more than these is done at once.
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


def begun(steps: Steps[T]) -> T | Steps[T]:
    """Do the first step; the result when that was all, else what is left."""
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    return steps


def next_batch(records: int, size: int) -> int:
    """How many records make about a page of bytes, when so many were of ``size`` bytes."""
    return max(1, min(PAGE_KEYS, records * _PAGE_BYTES // max(1, size)))


def sorted_in_pages(keys: Iterable[bytes]) -> Steps[Iterator[bytes]]:
    """The keys in order, to be read a page at a time as well; all are held at once."""
    runs: list[list[bytes]] = []
    rest = iter(keys)
    while run := sorted(islice(rest, PAGE_KEYS)):
        if runs:
            yield
        runs.append(run)
    return iter(runs[0]) if len(runs) == 1 else merge(*runs)
