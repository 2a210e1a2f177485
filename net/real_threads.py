"""Threads for what blocks, with a hand-off that costs little.

Every group of puts waits for one sync in a thread, so going there and back is on the path of each. Trio's own
way names the thread, copies the context and waits for a limiter, which is 60 us of CPU and several turns of
the scheduler; here a job and its waiting task go into the queue of a thread that is idle, and one call brings
the task back: 28 us. (Measured with nothing to do in the thread.)

A thread that has had nothing to do for a while ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import outcome
import trio

__all__ = ["DiskThreads"]

T = TypeVar("T")

_IDLE_SECONDS: Final = 10.0


class DiskThreads:
    """Runs jobs in threads, ``most`` at a time; the others wait for their turn. Belongs to one Trio run."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: list[_Worker] = []
        self._busy = 0
        self._waiting: deque[trio.lowlevel.Task] = deque()

    async def run(self, job: Callable[[], T]) -> T:
        """Call ``job`` in a thread, and wait for its end even when cancelled: nothing is left half-way."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._busy >= self._most:
            self._waiting.append(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(_not_now)
        self._busy += 1
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._idle)
        worker.jobs.put((job, trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()))
        try:
            result: T = await trio.lowlevel.wait_task_rescheduled(_not_now)
        finally:
            self._busy -= 1
            if self._waiting:
                trio.lowlevel.reschedule(self._waiting.popleft())
        return result


def _not_now(_: Any) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


class _Worker:
    """A thread and its queue. It puts itself into ``idle`` after each job."""

    def __init__(self, idle: list[_Worker]) -> None:
        self.jobs: SimpleQueue[
            tuple[Callable[[], Any], trio.lowlevel.Task, trio.lowlevel.TrioToken]
        ] = SimpleQueue()
        self._idle = idle
        threading.Thread(target=self._work, name="disk", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job, task, token = self.jobs.get(timeout=_IDLE_SECONDS)
            except Empty:
                try:
                    self._idle.remove(self)
                except ValueError:  # somebody has just taken this one: the job is on its way
                    continue
                return
            result = outcome.capture(job)
            self._idle.append(self)
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(trio.lowlevel.reschedule, task, result)
            del job, task, token, result  # not kept until the next job
