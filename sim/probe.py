"""The ``Probe`` port of a simulated process: keeps what it is told, and crashes at named points."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from .host import Process

__all__ = ["LogLine", "SimProbe"]

_KEPT_LINES = 1000
#: What a member comes by all the time; the other points are rare.
_COMMON = frozenset({"wal.append.before", "wal.append.after", "keeper.commit.before", "keeper.commit.after"})

#: virtual time in ns, level, message, fields
LogLine = tuple[int, str, str, dict[str, object]]


class SimProbe:
    """Records log lines (the newest thousand), counters and gauges; a point may be armed to crash the host.

    ``step`` may be set by the harness before the program starts, to record a trace.
    """

    def __init__(
        self, process: Process, step: Callable[[object, object, object], None] | None = None
    ) -> None:
        self._process = process
        self._step = step
        self.lines: deque[LogLine] = deque(maxlen=_KEPT_LINES)
        self.counts: dict[str, float] = {}
        self.gauges: dict[str, float] = {}

    @property
    def step(self) -> Callable[[object, object, object], None] | None:
        return self._step

    def log(self, level: str, message: str, /, **fields: object) -> None:
        if self._process.alive and level != "debug":
            self.lines.append((self._process.host.engine.now, level, message, fields))

    def count(self, metric: str, amount: float = 1.0, /, **labels: str) -> None:
        self.counts[metric] = self.counts.get(metric, 0.0) + amount

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        self.gauges[metric] = value

    def observe(self, metric: str, value: float, /, **labels: str) -> None:
        pass

    def point(self, name: str) -> None:
        process = self._process
        host = process.host
        host.points[name] = host.points.get(name, 0) + 1
        if host._armed:
            host.reached("point")
            if name not in _COMMON:
                host.reached("rare-point")
            host.reached(name)
        process.check()
