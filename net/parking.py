"""A task that sleeps until another one has work for it.

Cheaper than an event or a channel, as a loop that is woken some ten thousand times a second wants it, and
nothing is remembered: who works looks for work before it sleeps.
"""

from __future__ import annotations

import trio

__all__ = ["Bed"]


class Bed:
    """Where one task sleeps. ``task`` is that task; None: nobody sleeps, and ``wake`` does nothing."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None

    def wake(self) -> None:
        """Let the sleeping task go on, if there is one."""
        task, self.task = self.task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def sleep(self) -> None:
        """Sleep until woken or cancelled; one task at a time."""
        assert self.task is None, "somebody sleeps here"
        self.task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
