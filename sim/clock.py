"""Each host's own idea of time: the ``Clock`` port with skew, rate and jumps.

All arithmetic is on integers of nanoseconds. A host's monotonic clock runs at ``rate_ppm`` millionths of
true time; its wall clock is the monotonic one plus an offset that may jump. Timers wait in local time, so
a change of rate moves every timer that is pending.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import trio

from .engine import Engine, seconds_to_ns
from .host import Host, Process, Waiter

__all__ = ["HostClock", "SimClock"]

_EPOCH = 1_700_000_000_000_000_000  # the wall clock's reading at virtual time 0, in ns
_MILLION = 1_000_000


class _Fires(Protocol):
    def fire(self) -> bool: ...


class _Timer:
    __slots__ = ("deadline", "target", "when")

    def __init__(self, deadline: int, target: _Fires) -> None:
        self.deadline = deadline  # local ns
        self.when = 0  # true ns of the entry that counts
        self.target: _Fires | None = target


class HostClock:
    """The clock chip of one host; survives its processes, starts again with the machine."""

    def __init__(self, engine: Engine, host: Host) -> None:
        self._engine = engine
        self._host = host
        self._true = 0
        self._local = 1_000_000_000 * (host.index + 1)  # readings of two hosts never mean the same
        self._rate_ppm = _MILLION
        self._offset = _EPOCH - self._local
        self._timers: dict[_Timer, None] = {}

    @property
    def rate_ppm(self) -> int:
        """Millionths of true speed; 1,000,000 is right."""
        return self._rate_ppm

    @rate_ppm.setter
    def rate_ppm(self, rate_ppm: int) -> None:
        self.set_rate(rate_ppm)

    def _now(self) -> int:
        """True time as the program sees it: the end of the call that blocks it, if one does."""
        now, stalled = self._engine.now, self._host.stalled_until
        return stalled if stalled > now else now

    def monotonic_ns(self) -> int:
        if self._rate_ppm == _MILLION:
            return self._local + self._now() - self._true
        return self._local + (self._now() - self._true) * self._rate_ppm // _MILLION

    def wall_ns(self) -> int:
        return self.monotonic_ns() + self._offset

    def set_rate(self, rate_ppm: int) -> None:
        """Run at ``rate_ppm`` > 0 from now on; pending timers follow."""
        if rate_ppm <= 0:
            raise ValueError(f"need rate_ppm > 0, got {rate_ppm}")
        self._local, self._true = self.monotonic_ns(), self._now()
        self._rate_ppm = rate_ppm
        for timer in self._timers:
            self._schedule(timer)

    def jump(self, nanoseconds: int) -> None:
        """Move the wall clock, forward or back."""
        self._offset += nanoseconds

    def advance(self, nanoseconds: int) -> None:
        """Move both clocks forward, as when the machine was suspended: timers become due."""
        self._local, self._true = self.monotonic_ns() + max(0, nanoseconds), self._now()
        for timer in self._timers:
            self._schedule(timer)

    def correct(self) -> None:
        """What a time service does in the end: right rate, right wall clock."""
        self.set_rate(_MILLION)
        self._offset = _EPOCH + self._now() - self.monotonic_ns()

    def start_timer(self, nanoseconds: int, target: _Fires) -> _Timer:
        timer = _Timer(self.monotonic_ns() + nanoseconds, target)
        self._timers[timer] = None
        self._schedule(timer)
        return timer

    def stop_timer(self, timer: _Timer) -> None:
        timer.target = None
        self._timers.pop(timer, None)

    def _schedule(self, timer: _Timer) -> None:
        left = timer.deadline - self.monotonic_ns()
        if self._rate_ppm != _MILLION:
            left = -(-left * _MILLION // self._rate_ppm)
        timer.when = self._now() + max(0, left)
        self._engine.at(timer.when, self._fire, timer)

    def _fire(self, timer: _Timer) -> bool:
        target = timer.target
        if target is None or timer.when != self._engine.now:
            return False
        self.stop_timer(timer)
        return target.fire()


class _TimeoutContext:
    __slots__ = ("_process", "_scope", "_seconds", "_timer")

    def __init__(self, process: Process, seconds: float) -> None:
        self._process = process
        self._seconds = seconds
        self._scope = trio.CancelScope()
        self._timer: _Timer | None = None

    def __enter__(self) -> trio.CancelScope:
        self._process.check()
        if self._seconds <= 0:
            self._scope.cancel()
        else:
            self._timer = self._process.host.clock.start_timer(seconds_to_ns(self._seconds), self)
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._timer is not None:
            self._process.host.clock.stop_timer(self._timer)
            self._timer = None
        return self._scope.__exit__(kind, error, traceback)

    def fire(self) -> bool:
        host = self._process.host
        if host.blocked:
            host.hold(self)
            return False
        self._scope.cancel()
        return True


class SimClock:
    """The ``Clock`` port of one process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._clock = process.host.clock

    def monotonic(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    def wall(self) -> float:
        return self._clock.wall_ns() / 1e9

    async def sleep(self, seconds: float) -> None:
        self._process.check()
        if seconds <= 0:
            await trio.lowlevel.checkpoint()
            return
        waiter = Waiter(self._process)
        timer = self._clock.start_timer(seconds_to_ns(seconds), waiter)
        try:
            await waiter.wait()
        finally:
            self._clock.stop_timer(timer)

    def timeout(self, seconds: float) -> _TimeoutContext:
        return _TimeoutContext(self._process, seconds)
