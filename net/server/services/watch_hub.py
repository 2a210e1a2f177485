"""All watch streams of one member: who is told of which event.

The node hands over the events of each applied batch. A look-up per event finds the synced watchers it
concerns; each queues it and wakes its stream's task, which does the sending. Watchers that are catching up
are not in the index: they read the store until there is nothing left to read, and enter it then, in the same
turn, so no event falls between. Events that are more than any queue holds are not looked up one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from tercet.core.mvcc.record import Event
from tercet.core.mvcc.store import Store
from tercet.core.mvcc.watch_index import WatchIndex

from .watcher import Watcher

__all__ = ["HubStream", "WatchHub"]

_MANY_EVENTS: Final = 10_000  # at once


class HubStream(Protocol):
    """What the hub needs of a stream."""

    def wake(self, watcher: Watcher) -> None:
        """The watcher is owed something."""

    @property
    def watch_count(self) -> int:
        """Open watches of the stream."""

    def notice_quiet(self) -> None:
        """Progress is due for watchers that asked for it and were told nothing for a while."""

    def shut(self) -> None:
        """The member stops."""


class WatchHub:
    """The synced watchers of one member, and its streams.

    Args:
        store: gives the store as it is; a function, because restoring a snapshot replaces it.
        subscribe: registers for the events of applied batches, and returns the way out.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        subscribe: Callable[[Callable[[Sequence[Event], int], None]], Callable[[], None]],
    ) -> None:
        self.store = store
        self.streams: dict[int, HubStream] = {}
        self.events_sent = 0
        self._index: WatchIndex[tuple[int, int]] = WatchIndex()
        self._watchers: dict[tuple[int, int], Watcher] = {}
        self._next_stream = 0
        self.close = subscribe(self._publish)

    @property
    def watcher_count(self) -> int:
        """Synced watchers."""
        return len(self._watchers)

    @property
    def pending_events(self) -> int:
        """Events that wait to be sent to synced watchers."""
        return sum(watcher.pending for watcher in self._watchers.values())

    def add_stream(self, stream: HubStream) -> int:
        """Register a stream; its number."""
        self._next_stream += 1
        self.streams[self._next_stream] = stream
        return self._next_stream

    def drop_stream(self, number: int) -> None:
        """Forget a stream; its watchers must have been dropped."""
        self.streams.pop(number, None)

    def enter(self, number: int, watcher: Watcher) -> None:
        """A watcher of stream ``number`` is synced: tell it of new events."""
        key = (number, watcher.id)
        self._watchers[key] = watcher
        self._index.add(watcher.start, watcher.end, key)

    def leave(self, number: int, watcher: Watcher) -> None:
        """Stop telling a watcher; harmless when it is not told."""
        key = (number, watcher.id)
        if self._watchers.pop(key, None) is not None:
            self._index.remove(watcher.start, watcher.end, key)

    def catch_up(self, told: int) -> None:
        """A snapshot has replaced the store: who was told up to revision ``told`` reads on from there."""
        watchers, self._watchers, self._index = self._watchers, {}, WatchIndex()
        for (number, _), watcher in watchers.items():
            watcher.fall_behind(told + 1)
            self.streams[number].wake(watcher)

    def _publish(self, events: Sequence[Event], revision: int) -> None:
        if not self._watchers:
            return
        if len(events) > _MANY_EVENTS:
            self._leave_to_the_store(events)
            return
        for event in events:
            for key in self._index.matching(event.record.key):
                watcher = self._watchers[key]
                if watcher.wants(event):
                    if not watcher.offer(event):
                        self.leave(key[0], watcher)
                    self.streams[key[0]].wake(watcher)

    def _leave_to_the_store(self, events: Sequence[Event]) -> None:
        """Of very many events, only find out whom they concern: those watchers read them as the past."""
        keys = sorted([event.record.key for event in events])
        revision = events[0].record.mod_revision
        for (number, _), watcher in list(self._watchers.items()):
            place = bisect_left(keys, watcher.start)
            if place < len(keys) and (watcher.end is None or keys[place] < watcher.end):
                self.leave(number, watcher)
                watcher.fall_behind(revision)
                self.streams[number].wake(watcher)
