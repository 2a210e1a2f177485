"""Putting a received snapshot in place of the log, while the loop goes on with everything else.

What the member has promised so far belongs to the log that is replaced: so it is written first, and what is
owed from then on waits until the new log is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from tercet.core.raft.types import SnapshotMeta

from .persist import Persister
from .world import Clock

__all__ = ["Installing"]

#: How often is looked whether the log is at rest.
POLL_SECONDS: Final = 0.001


class Installing:
    """One installation is wanted at a time: the core asks for no other before it has heard of this one."""

    def __init__(self, clock: Clock, persister: Persister) -> None:
        self._clock = clock
        self._persister = persister
        self._wanted: SnapshotMeta | None = None
        self._due = trio.Event()

    @property
    def wanted(self) -> bool:
        """A snapshot is to be put in place, or is being put there."""
        return self._wanted is not None

    def want(self, meta: SnapshotMeta) -> None:
        """Have the snapshot that was received put in place."""
        self._wanted = meta
        self._due.set()

    async def run(self, install: Callable[[SnapshotMeta], Awaitable[None]]) -> None:
        """Call ``install`` for each snapshot that is wanted, with the log at rest; until cancelled."""
        persister = self._persister
        while True:
            await self._due.wait()
            self._due = trio.Event()
            meta = self._wanted
            assert meta is not None
            while not persister.idle:
                await self._clock.sleep(POLL_SECONDS)
            persister.held = True
            await install(meta)
            persister.held = False
            self._wanted = None
