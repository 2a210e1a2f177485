"""One key's history: its records, oldest first, as an immutable sequence while it is short.

Most keys have few records. Those are a tuple, of which the garbage collector loses sight once it has seen
that nothing in it can be part of a cycle; lists it would visit every time, and with a million keys nothing
else happened for a third of a second then. A longer history is a list, because adding to a tuple copies it.

Generations (put, put, delete, put ...) need no structure of their own: a tombstone is a record of version 0,
and a put after it starts at version 1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import Final, TypeAlias

from .record import Event, Record

__all__ = [
    "LONG", "History", "event_at", "extended", "first_kept", "place_of_record", "record_at", "without_first",
]

#: Never empty.
History: TypeAlias = tuple[Record, ...] | list[Record]

#: From so many records on a history is a list.
LONG: Final = 32

_by_revision = attrgetter("mod_revision")


def extended(history: History, record: Record) -> History:
    """The history with a newer record; a list is changed in place."""
    if type(history) is list:
        history.append(record)
        return history
    if len(history) < LONG:
        return (*history, record)
    return [*history, record]


def without_first(history: History, count: int) -> History:
    """The history without its first records; a list that stays one is changed in place."""
    if type(history) is list and len(history) - count >= LONG:
        del history[:count]
        return history
    return tuple(history[count:])


def record_at(history: History, revision: int) -> Record | None:
    """The record of the key as of ``revision``; None when it did not exist then."""
    record = history[-1]
    if record.mod_revision > revision:
        place = bisect_right(history, revision, key=_by_revision)
        if not place:
            return None
        record = history[place - 1]
    return record if record.version else None


def place_of_record(history: History, mod_revision: int, sub: int) -> int:
    """Where a record stands in the history; -1 when it is not there."""
    place = bisect_left(history, mod_revision, key=_by_revision)
    while place < len(history) and history[place].mod_revision == mod_revision:
        if history[place].sub == sub:
            return place
        place += 1
    return -1


def event_at(history: History, place: int) -> Event:
    """The event that the record at ``place`` was."""
    before = history[place - 1] if place else None
    return Event(history[place], before if before is not None and before.version else None)


def first_kept(history: History, compacted: int) -> int:
    """Where the part of a key's history begins that must outlive a compaction.

    All records of the compacted revision itself stay, tombstones included, because a watch may begin there;
    otherwise the newest record before it stays, unless that is a tombstone.
    """
    place = bisect_right(history, compacted, key=_by_revision) - 1
    if place < 0:
        return 0
    if history[place].mod_revision == compacted:
        return bisect_left(history, compacted, key=_by_revision)
    return place if history[place].version else place + 1
