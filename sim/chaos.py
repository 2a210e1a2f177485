"""Carry a schedule of faults out in a world, and take every fault back.

``sim.breakers`` knows what each kind does. ``Chaos`` plays a schedule on the engine's heap, resolves
"leader" at the moment a fault begins, counts what fired, and remembers when and on whom: the bands of a
report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from .breakers import ARMED, BREAKERS, Mend
from .faults import LEADER, Fault, Schedule
from .layers import Layers
from .world import SimWorld

__all__ = ["Band", "Chaos"]

_MS = 1_000_000

Breaking: TypeAlias = Callable[[Fault, tuple[str, ...]], Mend | None]


class Band(msgspec.Struct):
    """A fault that fired: on whom, from when until when (virtual seconds; None: it is still on)."""

    kind: str
    targets: tuple[str, ...]
    begin: float
    end: float | None = None
    amount: int = 0


class Chaos:
    """Plays one schedule.

    Args:
        sim: the world, running.
        nodes: the hosts that faults may hit; others (clients) only suffer from them.
        leader: names the leader now, or None.
        operator: carries out what an administrator does; None: nothing of that happens.
    """

    def __init__(
        self,
        sim: SimWorld,
        nodes: Sequence[str],
        leader: Callable[[], str | None],
        operator: Breaking | None = None,
    ) -> None:
        self.sim = sim
        self.nodes = tuple(nodes)
        self.bands: list[Band] = []
        self.fired: dict[str, int] = {}
        #: Told of every fault that begins ("fault", "crash") or ends ("heal"), with a text.
        self.on_change: Callable[[str, str], None] | None = None
        self._leader = leader
        self._operator = operator
        self._active: dict[int, tuple[Band, Mend]] = {}
        self._number = 0
        self._healed = False
        self.layers = Layers()
        self._starting: Band | None = None  # of the fault whose breaker runs
        self._armed: dict[tuple[str, str], Band] = {}  # (host, operation) -> the crash that waits for it
        sim.on_crash_point = self._crashed_at_point

    def play(self, schedule: Schedule) -> None:
        """Put the schedule on the heap, from now on."""
        start = self.sim.engine.now
        for fault in schedule:
            self.sim.engine.at(start + fault.at * _MS, self._begin, fault)

    def heal(self) -> None:
        """Stop everything: mend what is broken, start what is down; nothing more of the schedule happens."""
        self._healed = True
        for number in list(self._active):
            self._end(number)
        for name in self.nodes:
            host = self.sim.host(name)
            host.disarm()
            self.sim.restart(name)
        self._armed.clear()
        self._check_normal()

    def _check_normal(self) -> None:
        """Nothing that a fault has changed is left: a bug of a breaker must not pass for one of a member."""
        assert not self.layers, "a fault left a value behind"
        if not self.fired:
            return  # whatever is broken, no fault did it
        hosts = list(self.sim.hosts)
        for link in self.sim.network.links(hosts, hosts):
            left = (link.cut, link.clogged, link.extra_latency, link.extra_jitter)
            assert left == (0, 0, 0, 0), f"a fault left {link.source.name}>{link.target.name} with {left}"
        for name in self.nodes:
            host = self.sim.host(name)
            assert host.up and not host.paused and not host.refuses, f"a fault left {name} down or deaf"

    # -- one fault --------------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> bool:
        if self._healed:
            return False
        targets = self._resolve(fault)
        if targets is None:
            return False
        band = self._starting = Band(fault.kind, targets, self.sim.now, amount=fault.amount)
        mend = BREAKERS[fault.kind](self, fault, targets)
        if mend is None:
            return True
        if fault.kind not in ARMED:  # those fire when they crash
            self._count(band)
        if fault.duration == 0:
            mend()
            band.end = band.begin
            return True
        self._number += 1
        self._active[self._number] = (band, mend)
        self.sim.engine.after(fault.duration * _MS, self._end, self._number)
        return True

    def _count(self, band: Band) -> None:
        self.fired[band.kind] = self.fired.get(band.kind, 0) + 1
        self.bands.append(band)
        self._tell("fault", band)

    def _has_fired(self, band: Band) -> bool:
        return any(band is fired for fired in reversed(self.bands))

    def _tell(self, what: str, band: Band) -> None:
        if self.on_change is not None:
            self.on_change(what, f"{band.kind} {' '.join(band.targets)}".strip())

    def _end(self, number: int) -> bool:
        entry = self._active.pop(number, None)
        if entry is not None:
            band, mend = entry
            mend()
            if self._has_fired(band):  # not a crash that still waited
                band.end = self.sim.now
                self._tell("heal", band)
        return True

    def _resolve(self, fault: Fault) -> tuple[str, ...] | None:
        """Names of hosts; None when there is no leader to name."""
        if LEADER not in fault.targets:
            return fault.targets
        leader = self._leader()
        if leader is None:
            return None
        return tuple(leader if name == LEADER else name for name in fault.targets)

    def arm(self, fault: Fault, name: str, operation: str) -> Mend | None:
        host, key, band = self.sim.host(name), (name, operation), self._starting
        assert band is not None
        if host.is_armed(operation):
            return None
        host.arm(operation, fault.amount)
        self._armed[key] = band

        def mend() -> None:
            if self._armed.get(key) is band:
                del self._armed[key]
                host.disarm(operation)
            elif self._has_fired(band):
                self.sim.restart(name)

        return mend

    def operate(self, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
        return None if self._operator is None else self._operator(fault, targets)

    def _crashed_at_point(self, name: str, operation: str) -> None:
        band = self._armed.pop((name, operation), None)
        if band is not None:
            band.targets, band.begin = (name,), self.sim.now
            self._count(band)
