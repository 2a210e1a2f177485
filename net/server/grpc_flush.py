"""One write per dirty connection and turn.

Answers are given in the middle of other work: while a batch of entries is applied, while a read is taken
apart. Each only appends to its connection's output; the first one puts the connection on the ``dirty`` list.
Whoever ends a turn (a reader after its read, the node's loop after a batch) calls ``flush``. A stream's
task, of which hundreds may run in one turn, calls ``request`` instead: one flush follows them all.
"""

from __future__ import annotations

from typing import Protocol

import trio

from tercet.core.wire.http2 import ServerConnection

__all__ = ["Flusher", "OutputOwner"]


class OutputOwner(Protocol):
    """Who writes a connection's output: ``ServerConnection.owner``."""

    def flush(self) -> None:
        """Write what there is without waiting; never raises for a broken connection."""


class Flusher:
    """The dirty connections of one server."""

    __slots__ = ("_requested", "_wake", "dirty")

    def __init__(self) -> None:
        #: Connections with output; given to each ``ServerConnection``, never replaced.
        self.dirty: list[ServerConnection] = []
        self._requested = False
        self._wake = trio.lowlevel.ParkingLot()

    def flush(self) -> None:
        """Write once per dirty connection; never waits, never raises for a broken connection."""
        self._requested = False
        dirty = self.dirty
        if dirty:
            batch = dirty[:]
            dirty.clear()
            for protocol in batch:
                protocol.owner.flush()

    def request(self) -> None:
        """Have ``flush`` called before long, once for all requests until then."""
        if not self._requested and self.dirty:
            self._requested = True
            self._wake.unpark_all()

    async def run(self) -> None:
        """Serve ``request`` until cancelled."""
        while True:
            if self._requested:
                self.flush()
            if self._requested:  # by who was flushed, and has more
                await trio.lowlevel.checkpoint()
            else:
                await self._wake.park()
