"""Where plain calls start tasks: they run in one nursery, and end with it."""

from __future__ import annotations

import trio

__all__ = ["Tasks"]


class Tasks:
    """``nursery`` is there while ``run`` runs, and None before and after: no task may be started then."""

    __slots__ = ("nursery",)

    def __init__(self) -> None:
        self.nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until cancelled, and with it all that was started; raises what a task raises."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self.nursery = None
