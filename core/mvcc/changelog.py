"""Which keys each revision changed, from some revision on.

Every revision above 1 changes something, because a request that changes nothing takes no revision; so the
log is addressed by revision. It knows keys only: an event is found again in its key's history. What is
forgotten is forgotten entry by entry, and the room is given back seldom enough that moving the rest costs
nothing in the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from .history import History

__all__ = ["ChangeLog", "Keys"]

#: One key or, by ``sub``, several.
Keys: TypeAlias = bytes | tuple[bytes, ...]


class ChangeLog:
    """The keys by revision. ``first`` is the first revision that has not been forgotten."""

    __slots__ = ("_base", "_entries", "first")

    def __init__(self, first: int = 2) -> None:
        self._entries: list[Keys] = []
        self._base = first  # the revision of _entries[0]
        self.first = first

    @property
    def end(self) -> int:
        """The revision that the next ``append`` stands for."""
        return self._base + len(self._entries)

    def append(self, keys: Keys) -> None:
        """The next revision changed these keys."""
        self._entries.append(keys)

    def keys_at(self, revision: int) -> tuple[bytes, ...]:
        """The keys that a revision changed, ``first`` .. ``end - 1``, in order of their ``sub``."""
        keys = self._entries[revision - self._base]
        return keys if type(keys) is tuple else (keys,)  # type: ignore[return-value]

    def forget(self, revision: int) -> None:
        """Forget ``first``, which is ``revision``."""
        assert revision == self.first
        self._entries[revision - self._base] = ()
        self.first = revision + 1

    def give_back(self) -> None:
        """Free the room of what was forgotten, when that is most of it."""
        stale = self.first - self._base
        if stale > len(self._entries) // 2:
            del self._entries[:stale]
            self._base = self.first

    @classmethod
    def of(cls, histories: Mapping[bytes, History], first: int, newest: int) -> ChangeLog:
        """What the histories say of revisions ``first`` to ``newest``."""
        changes = cls(first)
        entries: list[Keys] = [()] * (newest + 1 - first)
        crowded: dict[int, list[tuple[int, bytes]]] = {}
        for key, history in histories.items():
            for record in history:
                place = record.mod_revision - first
                if place >= 0:
                    if entries[place]:
                        crowded[place] = []
                    entries[place] = key
        if crowded:
            _fill_crowded(histories.items(), first, entries, crowded)
        changes._entries = entries
        return changes


def _fill_crowded(
    histories: Iterable[tuple[bytes, History]], first: int, entries: list[Keys],
    crowded: dict[int, list[tuple[int, bytes]]],
) -> None:
    """The entries of revisions that changed more than one key."""
    for key, history in histories:
        for record in history:
            rows = crowded.get(record.mod_revision - first)
            if rows is not None:
                rows.append((record.sub, key))
    for place, rows in crowded.items():
        entries[place] = tuple(key for _, key in sorted(rows))
