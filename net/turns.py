"""Long calculations on the member's state, one step to a turn of the scheduler.

The state may only be looked at in the member's own thread, so a calculation that would take seconds is cut
into steps of a few milliseconds (``core.mvcc.steps``). Between two of them everything else has its turn:
ticks, peers' messages, other clients. All calculations that clients wait for do one step a turn together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import trio

from tercet.core.machine import Machine
from tercet.core.mvcc.steps import Steps
from tercet.core.rpc_errors import RpcError

from .server.call import UnaryCall

__all__ = ["Turns", "in_turns", "restarting"]

T = TypeVar("T")

_Job: TypeAlias = tuple[UnaryCall, Steps[Any], Callable[[Any], None]]


def _nothing() -> None:
    pass


async def in_turns(steps: Steps[T]) -> T:
    """Do all steps, a turn between each two; raises what they raise."""
    try:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            await trio.lowlevel.checkpoint()
    finally:
        steps.close()


def restarting(current: Callable[[], Machine], begin: Callable[[Machine], Steps[T]]) -> Steps[T]:
    """The steps of ``begin``, begun anew when a snapshot has replaced the machine meanwhile."""
    machine = current()
    steps = begin(machine)
    try:
        while True:
            if current() is not machine:
                steps.close()
                machine = current()
                steps = begin(machine)
            try:
                next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            yield
    finally:
        steps.close()


class Turns:
    """The calculations that clients of one member wait for."""

    def __init__(self) -> None:
        #: Writes the dirty client connections; set once the front door is there.
        self.flush: Callable[[], None] = _nothing
        self._jobs: deque[_Job] = deque()
        self._wake = trio.lowlevel.ParkingLot()

    def start(
        self, call: UnaryCall, steps: Steps[T], done: Callable[[T], None], *, at_once: bool = False
    ) -> None:
        """Do the steps, in ``run``; then ``done`` answers the call. An ``RpcError`` of theirs fails it.

        The first step is done at once, all of them if ``at_once``: what it refuses is refused now. When the
        client goes, the rest is left.
        """
        job = (call, steps, done)
        more = self._advance(job)
        while more and at_once:
            more = self._advance(job)
        if more:
            self._jobs.append(job)
            self._wake.unpark()

    async def run(self) -> None:
        """Do what was started, until cancelled."""
        try:
            while True:
                if not self._jobs:
                    await self._wake.park()
                    continue
                job = self._jobs.popleft()
                if self._advance(job):
                    self._jobs.append(job)
                else:
                    self.flush()
                await trio.lowlevel.checkpoint()
        finally:
            for _, steps, _ in self._jobs:
                steps.close()

    def _advance(self, job: _Job) -> bool:
        """Do one step; True when there are more."""
        call, steps, done = job
        if call.answered:
            steps.close()
            return False
        try:
            next(steps)
        except StopIteration as end:
            done(end.value)
        except RpcError as error:
            call.fail(error.code, error.message)
        else:
            return True
        return False
