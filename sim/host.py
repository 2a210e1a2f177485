"""A simulated machine and the processes that live and die on it.

A ``Host`` is what survives a process: its disk, its clock, its address, the kernel's half of connections.
A ``Process`` is one incarnation of a program on it. Every handle that a program holds (files, connections,
listeners, timers) knows its process, and does nothing for it once it is dead but raise ``ProcessDied``; so
nothing that a dying program does in its last ``finally`` blocks can touch the world.

A paused host keeps what its kernel received, but the wake-ups of its tasks wait until it resumes. The same
happens for a moment when a program blocks its own loop, as with a sync in place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import outcome
import trio

from .engine import Engine

if TYPE_CHECKING:
    from .clock import HostClock
    from .disk import SimDisk
    from .probe import SimProbe

__all__ = ["CURRENT_PROCESS", "Held", "Host", "Process", "ProcessDied", "Socket", "Waiter"]


#: The process that the running task belongs to: for third-party code, which carries no ``World`` about.
CURRENT_PROCESS: ContextVar[Process] = ContextVar("current_process")


class ProcessDied(BaseException):
    """Raised in a program whose process is already dead; never to be caught by it."""


class Held(Protocol):
    """A wake-up that a paused host keeps for later."""

    def fire(self) -> bool:
        """Do it; False when it made nothing runnable."""


class Socket(Protocol):
    """What a process leaves behind in the kernel."""

    def cut(self, reset: bool, silent: bool = False) -> None:
        """Close it for good; ``reset`` and ``silent`` say what the other side hears."""


class Host:
    """One machine. ``index`` from 0 gives the address 10.0.0.(index + 1)."""

    def __init__(self, engine: Engine, name: str, index: int) -> None:
        self.engine = engine
        self.name = name
        self.index = index
        self.address = f"10.0.{(index + 1) >> 8}.{(index + 1) & 255}"
        self.up = True  # False: powered off, answers nothing
        self.paused = False
        self.stalled_until = 0  # virtual ns: something blocks the program's loop till then
        self.blocked = False  # paused or stalled: wake-ups wait
        self.step_ns = 0  # a throttled CPU: every wake-up of a task takes so long
        self.refuses = False  # connection attempts are answered with a reset
        self.process: Process | None = None
        self.incarnations = 0
        self.disk: SimDisk
        self.clock: HostClock
        self.next_port = 32_768
        self.disk_operations = 0
        self.network_operations = 0
        self.points: dict[str, int] = {}
        self._held: dict[Held, None] = {}
        #: Called when an armed crash point is reached; kills the present process.
        self.on_crash_point: Callable[[Host, str], None] | None = None
        self._armed: dict[str, int] = {}

    def hold(self, waiter: Held) -> None:
        """Fire ``waiter`` when the host is not blocked any more; once, however often it was held."""
        self._held[waiter] = None

    def pause(self) -> None:
        self.paused = self.blocked = True

    def resume(self) -> None:
        """Fire everything that came meanwhile, in order."""
        self.paused = False
        self._unblock(None)

    def stall(self, nanoseconds: int) -> None:
        """The running task blocks the program's loop for so long: what it does from now on happens after.

        Virtual time cannot pass inside a call, so the host is ahead of it until then: its clock shows the
        end of the stall, and what it sends leaves then.
        """
        self.blocked = True
        self.stalled_until = max(self.engine.now, self.stalled_until) + nanoseconds
        self.engine.at(self.stalled_until, self._unblock)

    def _unblock(self, _: object) -> bool:
        if self.paused or self.stalled_until > self.engine.now:
            return False
        self.blocked = False
        held, self._held = self._held, {}
        woke = False
        for waiter in held:  # one that stalls the host again sends the rest back to wait
            woke = waiter.fire() or woke
        return woke

    def forget_held(self) -> None:
        """Nobody waits any more: the program is dead."""
        self._held.clear()
        self.paused = self.blocked = False
        self.stalled_until = 0

    def arm(self, operation: str, count: int) -> None:
        """Crash at the ``count``-th (from 1, from now on) operation.

        ``disk`` or ``network``: before it takes effect; ``sync``: just before it completes; ``point``: at
        any named point of the program, or at that name only.
        """
        self._armed[operation] = count

    def is_armed(self, operation: str) -> bool:
        """A crash waits for such an operation."""
        return operation in self._armed

    def disarm(self, operation: str | None = None) -> None:
        """Take back the crash that waits for an operation; None: all of them."""
        if operation is None:
            self._armed.clear()
        else:
            self._armed.pop(operation, None)

    def reached(self, operation: str) -> None:
        """Count one operation; the armed crash happens before it takes effect."""
        if self.is_due(operation):
            self.crash_at(operation)

    def is_due(self, operation: str) -> bool:
        """Count one operation; True when it is the one that a crash was armed for."""
        left = self._armed.get(operation, 0)
        if left > 1:
            self._armed[operation] = left - 1
        elif left == 1:
            del self._armed[operation]
        return left == 1

    def crash_at(self, operation: str) -> None:
        """The armed crash happens now."""
        if self.on_crash_point is not None:
            self.on_crash_point(self, operation)


class Process:
    """One incarnation of a program on a host."""

    def __init__(self, host: Host, number: int) -> None:
        self.host = host
        self.number = number
        self.alive = True
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.error: BaseException | None = None  # what it ended with, unless it was killed
        self.ended: int | None = None  # when it was killed, virtual ns: what it would do later never happens
        self.probe: SimProbe
        #: Open handles with a ``cut(reset)`` method, by a number that only grows (a set would have no order).
        self.sockets: dict[int, Socket] = {}
        self.locks: dict[str, object] = {}
        #: Where its tasks wait now: they must all learn of its death, shielded ones, too.
        self.waiting: dict[Waiter, None] = {}
        self._handles = 0

    def die(self) -> None:
        """Make every handle inert and wake whoever waits with ``ProcessDied``."""
        self.alive = False
        for waiter in list(self.waiting):
            waiter.die()

    def next_handle(self) -> int:
        self._handles += 1
        return self._handles

    def check(self) -> None:
        """Raise ``ProcessDied`` in a dead process."""
        if not self.alive:
            raise ProcessDied(self.host.name)

    def disk_operation(self) -> None:
        """To be called before every operation on the disk."""
        host = self.host
        host.disk_operations += 1
        if host._armed:
            host.reached("disk")
        if not self.alive:
            raise ProcessDied(host.name)

    def network_operation(self) -> None:
        """To be called before every operation on the network."""
        host = self.host
        host.network_operations += 1
        if host._armed:
            host.reached("network")
        if not self.alive:
            raise ProcessDied(host.name)


class Waiter:
    """One place where a task of a process waits for the world. Wake-ups may be spurious: wait in a loop."""

    __slots__ = ("_process", "_task")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Sleep until ``fire``; to be cancelled freely. Raises ``ProcessDied`` when the process dies."""
        self._task = trio.lowlevel.current_task()
        waiting = self._process.waiting
        waiting[self] = None
        try:
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        finally:
            waiting.pop(self, None)

    def fire(self) -> bool:
        """Wake the task, or keep that for later while the host is paused; False when nobody waits."""
        task = self._task
        if task is None:
            return False
        host = self._process.host
        if host.blocked:
            host.hold(self)
            return False
        if host.step_ns:
            host.stall(host.step_ns)
        self._task = None
        trio.lowlevel.reschedule(task)
        return True

    def die(self) -> None:
        """Make ``wait`` raise: its process is dead."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Error(ProcessDied(self._process.host.name)))

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None  # touches nothing but itself: the order of aborts is not ours
        return trio.lowlevel.Abort.SUCCEEDED
