"""Which watchers does a key concern? An index of watched keys and ranges.

Nearly all watched ranges are single keys or prefixes. Single keys are found by a dictionary look-up;
prefixes by one look-up for each length of prefix in use; whatever ranges are left are tried one by one.
Watchers of one range are kept and returned in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["WatchIndex"]

W = TypeVar("W", bound=Hashable)


class WatchIndex(Generic[W]):
    """Watchers by range. Ranges are (start, end): end None is unbounded, ``start + b"\\0"`` one key."""

    __slots__ = ("_keys", "_prefixes", "_ranges", "_sizes")

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[W, None]] = {}
        self._prefixes: dict[bytes, dict[W, None]] = {}
        self._ranges: dict[tuple[bytes, bytes | None], dict[W, None]] = {}
        self._sizes: dict[int, int] = {}  # length of prefix -> how many prefixes

    def add(self, start: bytes, end: bytes | None, watcher: W) -> None:
        """Watch [start, end); a watcher may be added once for one range."""
        if end == start + b"\0":
            self._keys.setdefault(start, {})[watcher] = None
        elif end is not None and end == _end_of_prefix(start):
            if start not in self._prefixes:
                self._prefixes[start] = {}
                self._sizes[len(start)] = self._sizes.get(len(start), 0) + 1
            self._prefixes[start][watcher] = None
        else:
            self._ranges.setdefault((start, end), {})[watcher] = None

    def remove(self, start: bytes, end: bytes | None, watcher: W) -> None:
        """Stop watching; nothing happens when the watcher was not added for this range."""
        if end == start + b"\0":
            _drop(self._keys, start, watcher)
        elif end is not None and end == _end_of_prefix(start):
            if _drop(self._prefixes, start, watcher):
                self._sizes[len(start)] -= 1
                if not self._sizes[len(start)]:
                    del self._sizes[len(start)]
        else:
            _drop(self._ranges, (start, end), watcher)

    def matching(self, key: bytes) -> list[W]:
        """The watchers whose range holds ``key``."""
        found = list(self._keys.get(key, ()))
        for size in self._sizes:
            watchers = self._prefixes.get(key[:size])
            if watchers is not None and len(key) >= size:
                found += watchers
        for (start, end), others in self._ranges.items():
            if start <= key and (end is None or key < end):
                found += others
        return found

    def __bool__(self) -> bool:
        return bool(self._keys or self._prefixes or self._ranges)


K = TypeVar("K", bound=Hashable)


def _drop(table: dict[K, dict[W, None]], place: K, watcher: W) -> bool:
    """Remove a watcher; True when it was the last of its range."""
    watchers = table.get(place)
    if watchers is None or watcher not in watchers:
        return False
    del watchers[watcher]
    if watchers:
        return False
    del table[place]
    return True


def _end_of_prefix(prefix: bytes) -> bytes | None:
    """The first key after all keys with this prefix; None when there is no such key."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None
