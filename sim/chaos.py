"""Carry a schedule of faults out in a world, and take every fault back.

Each kind is a function that breaks something and returns how to mend it, or None when it found nothing to
break. ``Chaos`` plays a schedule on the engine's heap, resolves "leader" at the moment a fault begins,
counts what fired and remembers when and on whom: the bands of a report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from .engine import SECOND
from .faults import LEADER, Fault, Schedule
from .link import Link
from .world import SimWorld

__all__ = ["Band", "Chaos"]

_MS = 1_000_000

#: Crashes that wait for their moment.
ARMED = frozenset({"crash-at-disk", "crash-at-network", "crash-at-point", "crash-in-sync"})

Mend: TypeAlias = Callable[[], None]
Breaker: TypeAlias = Callable[["Chaos", Fault, tuple[str, ...]], Mend | None]


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
    """

    def __init__(self, sim: SimWorld, nodes: Sequence[str], leader: Callable[[], str | None]) -> None:
        self.sim = sim
        self.nodes = tuple(nodes)
        self.bands: list[Band] = []
        self.fired: dict[str, int] = {}
        #: Told of every fault that begins ("fault", "crash") or ends ("heal"), with a text.
        self.on_change: Callable[[str, str], None] | None = None
        self._leader = leader
        self._active: dict[int, tuple[Fault, Band, Mend]] = {}
        self._number = 0
        self._healed = False
        self._armed: dict[str, tuple[Fault, float]] = {}  # host -> the crash that waits for its operation
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

    def revive(self) -> None:
        """Start members that are down though nothing keeps them down (a program that stopped by itself)."""
        for name in self.nodes:
            self.sim.restart(name)

    # -- one fault --------------------------------------------------------------------------------

    def _begin(self, fault: Fault) -> bool:
        if self._healed:
            return False
        targets = self._resolve(fault)
        if targets is None:
            return False
        mend = BREAKERS[fault.kind](self, fault, targets)
        if mend is None:
            return True
        band = self.note_fired(fault, targets)
        if fault.duration == 0:
            mend()
            band.end = band.begin
            return True
        self._number += 1
        self._active[self._number] = (fault, band, mend)
        self.sim.engine.after(fault.duration * _MS, self._end, self._number)
        return True

    def note_fired(self, fault: Fault, targets: tuple[str, ...]) -> Band:
        band = Band(fault.kind, targets, self.sim.now, amount=fault.amount)
        if fault.kind not in ARMED:  # those fire when they crash
            self._count(band)
        return band

    def _count(self, band: Band) -> None:
        self.fired[band.kind] = self.fired.get(band.kind, 0) + 1
        self.bands.append(band)
        self._tell("fault", band)

    def _tell(self, what: str, band: Band) -> None:
        if self.on_change is not None:
            self.on_change(what, f"{band.kind} {' '.join(band.targets)}".strip())

    def _end(self, number: int) -> bool:
        entry = self._active.pop(number, None)
        if entry is not None:
            entry[2]()
            entry[1].end = self.sim.now
            self._tell("heal", entry[1])
        return True

    def _resolve(self, fault: Fault) -> tuple[str, ...] | None:
        """Names of hosts; None when there is no leader to name."""
        if LEADER not in fault.targets:
            return fault.targets
        leader = self._leader()
        if leader is None:
            return None
        return tuple(leader if name == LEADER else name for name in fault.targets)

    def arm(self, fault: Fault, name: str, operation: str) -> None:
        self.sim.host(name).arm(operation, fault.amount)
        self._armed[name] = (fault, self.sim.now)

    def disarm(self, name: str) -> None:
        self._armed.pop(name, None)
        self.sim.host(name).disarm()
        self.sim.restart(name)

    def _crashed_at_point(self, name: str, operation: str) -> None:
        entry = self._armed.pop(name, None)
        if entry is not None:
            self._count(Band(entry[0].kind, (name,), self.sim.now, amount=entry[0].amount))


# -- the kinds ------------------------------------------------------------------------------------


def _cut(links: list[Link]) -> Mend:
    for link in links:
        link.cut += 1

    def mend() -> None:
        for link in links:
            link.cut -= 1

    return mend


def _around(chaos: Chaos, name: str) -> list[Link]:
    """Every link of a host to and from every other host of the world, clients included."""
    everybody = list(chaos.sim.hosts)
    network = chaos.sim.network
    return network.links([name], everybody) + network.links(everybody, [name])


def _others(chaos: Chaos, names: tuple[str, ...]) -> list[str]:
    return [name for name in chaos.nodes if name not in names]


def _partition(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    others = _others(chaos, targets)
    network = chaos.sim.network
    links = network.links(targets, others) + network.links(others, targets)
    return _cut(links) if links else None


def _one_way(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    links = chaos.sim.network.links(targets[:1], targets[1:])
    return _cut(links) if links else None


def _deaf(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    links = chaos.sim.network.links(_others(chaos, targets), targets)
    return _cut(links) if links else None


def _mute(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    links = chaos.sim.network.links(targets, _others(chaos, targets))
    return _cut(links) if links else None


def _bridge(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    others = _others(chaos, targets)
    half = len(others) // 2
    network = chaos.sim.network
    links = network.links(others[:half], others[half:]) + network.links(others[half:], others[:half])
    return _cut(links) if links else None


def _ring(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    """Host i hears only itself and the hosts after it that make a majority."""
    nodes = chaos.nodes
    count = len(nodes)
    majority = count // 2 + 1
    links: list[Link] = []
    for i, name in enumerate(nodes):
        heard = [nodes[(i + step) % count] for step in range(majority)]
        links += chaos.sim.network.links([other for other in nodes if other not in heard], [name])
    return _cut(links) if links else None


def _latency(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    links = _around(chaos, targets[0])
    extra, jitter = fault.amount * _MS, fault.amount * _MS // 2
    for link in links:
        link.extra_latency += extra
        link.extra_jitter += jitter

    def mend() -> None:
        for link in links:
            link.extra_latency -= extra
            link.extra_jitter -= jitter

    return mend


def _set_on_links(links: list[Link], field: str, value: float) -> Mend:
    """Set a field of links; the last fault to end puts the links' own value back."""
    for link in links:
        setattr(link, field, value)

    def mend() -> None:
        for link in links:
            setattr(link, field, 0)

    return mend


def _loss(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    return _set_on_links(_around(chaos, targets[0]), "loss", fault.amount / 100)


def _bandwidth(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    return _set_on_links(_around(chaos, targets[0]), "bytes_per_second", max(1, fault.amount) * 1000)


def _chunks(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    everybody = list(chaos.sim.hosts)
    return _set_on_links(chaos.sim.network.links(everybody, everybody), "chunk_rate", fault.amount / 100)


def _clog(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    links = chaos.sim.network.links(list(chaos.sim.hosts), targets)
    for link in links:
        link.clogged += 1

    def mend() -> None:
        for link in links:
            link.release()

    return mend


def _reset(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    sim = chaos.sim
    host = sim.host(targets[0])
    count = sum(sim.network.reset_between(host, other) for other in list(sim.hosts.values()))
    return _nothing if count else None


def _half_open(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    sim = chaos.sim
    host = sim.host(targets[0])
    count = sum(sim.network.halve_between(host, other) for other in list(sim.hosts.values()))
    return _nothing if count else None


def _refuse(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return _on_host(chaos, targets[0], "refuses", True, False)


def _on_host(chaos: Chaos, name: str, field: str, value: bool, after: bool) -> Mend | None:
    host = chaos.sim.host(name)
    if getattr(host, field) == value:
        return None
    setattr(host, field, value)
    return lambda: setattr(host, field, after)


def _kill(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    name = targets[0]
    return (lambda: _restart(chaos, name)) if chaos.sim.kill(name) else None


def _power_cut(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    name = targets[0]
    return (lambda: _restart(chaos, name)) if chaos.sim.crash(name) else None


def _power_cut_all(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    down = [name for name in chaos.nodes if chaos.sim.crash(name)]

    def mend() -> None:
        for name in down:
            _restart(chaos, name)

    return mend if down else None


def _restart(chaos: Chaos, name: str) -> None:
    chaos.sim.restart(name)


def _crash_at_disk(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    chaos.arm(fault, targets[0], "disk")
    return lambda: chaos.disarm(targets[0])


def _crash_at_network(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    chaos.arm(fault, targets[0], "network")
    return lambda: chaos.disarm(targets[0])


def _crash_in_sync(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    chaos.arm(fault, targets[0], "sync")
    return lambda: chaos.disarm(targets[0])


def _crash_at_point(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    chaos.arm(fault, targets[0], "point")
    return lambda: chaos.disarm(targets[0])


def _pause(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    name = targets[0]
    if chaos.sim.host(name).paused or not chaos.sim.running(name):
        return None
    chaos.sim.pause(name)
    return lambda: chaos.sim.resume(name)


def _slow_cpu(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    host = chaos.sim.host(targets[0])
    host.step_ns = max(1, fault.amount) * 1000

    def mend() -> None:
        host.step_ns = 0

    return mend


def _clock_rate(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    clock = chaos.sim.host(targets[0]).clock
    clock.set_rate(1_000_000 + fault.amount)
    return lambda: clock.set_rate(1_000_000)


def _clock_skew(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    clock = chaos.sim.host(targets[0]).clock
    clock.jump(fault.amount * _MS)
    return lambda: clock.jump(-fault.amount * _MS)


def _clock_leap(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    chaos.sim.host(targets[0]).clock.advance(fault.amount * _MS)
    return _nothing


def _clock_strobe(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    clock = chaos.sim.host(targets[0]).clock
    state = {"on": True, "ahead": False}

    def flip(_: object) -> bool:
        if state["on"] or state["ahead"]:
            state["ahead"] = not state["ahead"]
            clock.jump(fault.amount * _MS if state["ahead"] else -fault.amount * _MS)
            chaos.sim.engine.after(SECOND // 50, flip)
        return False

    flip(None)

    def mend() -> None:
        state["on"] = False

    return mend


def _slow_disk(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = chaos.sim.host(targets[0]).disk
    disk.slow_factor = max(1, fault.amount)

    def mend() -> None:
        disk.slow_factor = 1

    return mend


def _disk_full(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = chaos.sim.host(targets[0]).disk
    disk.capacity = disk.used() + fault.amount * 1000

    def mend() -> None:
        disk.capacity = None
        _restart(chaos, targets[0])

    return mend


def _disk_errors(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = chaos.sim.host(targets[0]).disk
    disk.error_rate = fault.amount / 100

    def mend() -> None:
        disk.error_rate = 0.0
        _restart(chaos, targets[0])

    return mend


def _lying_disk(chaos: Chaos, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = chaos.sim.host(targets[0]).disk
    disk.lying = True

    def mend() -> None:
        disk.lying = False

    return mend


def _nothing() -> None:
    pass


BREAKERS: Mapping[str, Breaker] = MappingProxyType({
    "partition": _partition,
    "isolate": _partition,
    "isolate-leader": _partition,
    "one-way": _one_way,
    "deaf": _deaf,
    "mute": _mute,
    "bridge": _bridge,
    "ring": _ring,
    "latency": _latency,
    "loss": _loss,
    "bandwidth": _bandwidth,
    "clog": _clog,
    "chunks": _chunks,
    "reset": _reset,
    "half-open": _half_open,
    "refuse": _refuse,
    "kill": _kill,
    "power-cut": _power_cut,
    "power-cut-all": _power_cut_all,
    "crash-at-disk": _crash_at_disk,
    "crash-in-sync": _crash_in_sync,
    "crash-at-point": _crash_at_point,
    "crash-at-network": _crash_at_network,
    "pause": _pause,
    "slow-cpu": _slow_cpu,
    "clock-rate": _clock_rate,
    "clock-skew": _clock_skew,
    "clock-jump": _clock_skew,
    "clock-leap": _clock_leap,
    "clock-strobe": _clock_strobe,
    "slow-disk": _slow_disk,
    "disk-full": _disk_full,
    "disk-errors": _disk_errors,
    "lying-disk": _lying_disk,
})  # fmt: skip
