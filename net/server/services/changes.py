"""Waiting until something happens to a key, from inside the member.

Nothing is missed: between a look at the store and the wait that follows it there is no checkpoint, so the
waiter is registered before the next entry is applied. While nobody waits, applying costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from tercet.core import rpc_errors
from tercet.core.mvcc.record import Event, Record
from tercet.core.mvcc.watch_index import WatchIndex

from .member import Member

__all__ = ["Changes", "Range"]

#: Start and exclusive end; None: unbounded.
Range = tuple[bytes, "bytes | None"]


class Changes:
    """The tasks of one member that wait for changes of its store."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._index: WatchIndex[int] = WatchIndex()
        self._waiting: dict[int, trio.Event] = {}
        self._next = 0
        self._unsubscribe: Callable[[], None] | None = None
        self._stopped = False

    async def wait(self, *ranges: Range) -> None:
        """Wait until a key in one of the ranges is put or deleted.

        Raises:
            RpcError: STOPPED, the member stops.
        """
        if self._stopped:
            raise rpc_errors.STOPPED.with_traceback(None)
        self._next += 1
        number = self._next
        happened = self._waiting[number] = trio.Event()
        for start, end in ranges:
            self._index.add(start, end, number)
        if self._unsubscribe is None:
            self._unsubscribe = self._member.subscribe(self._publish)
        try:
            await happened.wait()
        finally:
            self._leave(number, ranges)
        if self._stopped:
            raise rpc_errors.STOPPED.with_traceback(None)

    async def events(self, start: bytes, end: bytes | None, revision: int) -> tuple[list[Event], int]:
        """The next events in [start, end) from ``revision`` on; waits until there is one.

        Returns:
            Some events, whole revisions of them, and the revision to go on from.

        Raises:
            RpcError: COMPACTED, the past from ``revision`` on is gone; STOPPED, the member stops.
        """
        while True:
            store = self._member.machine.store
            if revision < store.compacted:
                raise rpc_errors.COMPACTED.with_traceback(None)
            if revision > store.revision:
                await self.wait((start, end))
                continue
            found, revision = store.events_since(revision, start, end, 1000)
            if found:
                return found, revision
            await trio.lowlevel.checkpoint()

    def look_again(self) -> None:
        """Anything may have changed: a snapshot has replaced the store."""
        for happened in self._waiting.values():
            happened.set()

    def data_of(self, record: Record) -> bytes:
        """The wire form of a record of an event."""
        return self._member.machine.store.data_of(record)

    def stop(self) -> None:
        """The member stops: nobody waits any longer."""
        self._stopped = True
        for happened in self._waiting.values():
            happened.set()

    def _leave(self, number: int, ranges: Sequence[Range]) -> None:
        del self._waiting[number]
        for start, end in ranges:
            self._index.remove(start, end, number)
        if not self._waiting and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _publish(self, events: Sequence[Event], revision: int) -> None:
        for event in events:
            for number in self._index.matching(event.record.key):
                self._waiting[number].set()
