"""Recording a trace of a running member, through its own disk port.

``Tracer`` gives a world whose probe has a ``step`` hook; the node calls it for every step of its core.
Records are written (not synced) at once when they are few; in a burst they gather in memory for some
milliseconds, so a killed member leaves all but the end of a burst. A disk that refuses ends the trace,
never the member.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tercet.core.raft.state import RaftState
from tercet.core.raft.types import Effects, Tick
from tercet.core.trace import Header, TraceEncoder

from .world import Probe, World

__all__ = ["Tracer"]

_FLUSH_BYTES = 256 << 10
_FLUSH_NS = 5_000_000


class _TracedProbe:
    """The member's own probe, with a ``step`` hook added."""

    __slots__ = ("_inner", "count", "gauge", "log", "observe", "point", "step")

    def __init__(self, inner: Probe, step: Callable[[object, object, object], None]) -> None:
        self._inner = inner
        self.log = inner.log
        self.count = inner.count
        self.gauge = inner.gauge
        self.observe = inner.observe
        self.point = inner.point
        before = inner.step

        def both(event: object, effects: object, state: object) -> None:
            if before is not None:
                before(event, effects, state)
            step(event, effects, state)

        self.step: Callable[[object, object, object], None] | None = both

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)  # what a real or simulated probe has besides


class Tracer:
    """Writes one member's trace to a file.

    Use ``world`` instead of the world given. An older file of the name is kept as ``<path>.<n>``.

    Args:
        world: the member's machine.
        path: of the file.
        header: the trace's header.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, world: World, path: str, header: Header) -> None:
        disk = world.disk
        if disk.exists(path):
            number = 1
            while disk.exists(f"{path}.{number}"):
                number += 1
            disk.rename(path, f"{path}.{number}")
        self.world = replace(world, probe=_TracedProbe(world.probe, self._step))
        self._probe = world.probe
        self._clock = world.clock
        self._path = path
        self._file = disk.open(path, create=True)
        self._encoder = TraceEncoder()
        self._parts = [self._encoder.begin(header)]
        self._waiting = 0
        self._flushed_ns = 0
        self._offset = 0
        self._ended = False
        self.flush()

    def _step(self, event: object, effects: object, state: object) -> None:
        if self._ended:
            return
        assert isinstance(effects, Effects) and isinstance(state, RaftState)
        time_ns = int(self._clock.wall() * 1e9)
        data = self._encoder.record(time_ns, event, effects, state)  # type: ignore[arg-type]
        self._parts.append(data)
        self._waiting += len(data)
        quiet = not 0 <= time_ns - self._flushed_ns < _FLUSH_NS
        if quiet or self._waiting > _FLUSH_BYTES or type(event) is Tick:
            self._flushed_ns = time_ns
            self.flush()

    def flush(self) -> None:
        """Write what has gathered into the page cache."""
        data = b"".join(self._parts)
        self._parts.clear()
        self._waiting = 0
        try:
            self._file.write_at(self._offset, data)
        except OSError as problem:
            self._ended = True
            self._probe.log("warn", "the trace ends here: its file refuses", path=self._path, error=problem)
            return
        self._offset += len(data)

    def close(self) -> None:
        """Write the rest and close the file; idempotent."""
        if not self._ended:
            self.flush()
        self._ended = True
        self._file.close()
