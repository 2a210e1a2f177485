"""What each kind of fault does to a world, and how it is mended.

A breaker takes the stage, the fault and the hosts it is aimed at. It breaks something and returns the
function that mends exactly that, or None when there was nothing to break.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeAlias

from .engine import SECOND
from .faults import Fault
from .layers import Layers
from .link import Link
from .world import SimWorld

__all__ = ["ARMED", "BREAKERS", "Breaker", "Mend", "Stage"]

_MS = 1_000_000

#: Crashes that wait for their moment.
ARMED = frozenset(
    {"crash-at-disk", "crash-at-network", "crash-at-point", "crash-at-rare-point", "crash-in-sync"}
)

Mend: TypeAlias = Callable[[], None]


class Stage(Protocol):
    """Where faults are carried out."""

    @property
    def sim(self) -> SimWorld: ...

    @property
    def nodes(self) -> tuple[str, ...]:
        """The hosts that faults may hit."""

    @property
    def layers(self) -> Layers:
        """The values that faults have set."""

    def arm(self, fault: Fault, name: str, operation: str) -> Mend | None:
        """Let a host crash at its ``fault.amount``-th operation of a kind; the mend takes that back, and
        starts the host again if it crashed there. None when such a crash waits already."""

    def operate(self, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
        """Let the operator do something; None without an operator, or when there is nothing to do."""


Breaker: TypeAlias = Callable[[Stage, Fault, tuple[str, ...]], Mend | None]


def _cut(links: list[Link]) -> Mend:
    for link in links:
        link.cut += 1

    def mend() -> None:
        for link in links:
            link.cut -= 1

    return mend


def _around(stage: Stage, name: str) -> list[Link]:
    """Every link of a host to and from every other host of the world, clients included."""
    everybody = list(stage.sim.hosts)
    network = stage.sim.network
    return network.links([name], everybody) + network.links(everybody, [name])


def _others(stage: Stage, names: tuple[str, ...]) -> list[str]:
    return [name for name in stage.nodes if name not in names]


def _partition(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    others = _others(stage, targets)
    network = stage.sim.network
    links = network.links(targets, others) + network.links(others, targets)
    return _cut(links) if links else None


def _one_way(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    links = stage.sim.network.links(targets[:1], targets[1:])
    return _cut(links) if links else None


def _deaf(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    links = stage.sim.network.links(_others(stage, targets), targets)
    return _cut(links) if links else None


def _mute(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    links = stage.sim.network.links(targets, _others(stage, targets))
    return _cut(links) if links else None


def _bridge(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    others = _others(stage, targets)
    half = len(others) // 2
    network = stage.sim.network
    links = network.links(others[:half], others[half:]) + network.links(others[half:], others[:half])
    return _cut(links) if links else None


def _ring(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    """Host i hears only itself and the hosts after it that make a majority."""
    nodes = stage.nodes
    count = len(nodes)
    majority = count // 2 + 1
    links: list[Link] = []
    for i, name in enumerate(nodes):
        heard = [nodes[(i + step) % count] for step in range(majority)]
        links += stage.sim.network.links([other for other in nodes if other not in heard], [name])
    return _cut(links) if links else None


def _latency(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    links = _around(stage, targets[0])
    extra, jitter = fault.amount * _MS, fault.amount * _MS // 2
    for link in links:
        link.extra_latency += extra
        link.extra_jitter += jitter

    def mend() -> None:
        for link in links:
            link.extra_latency -= extra
            link.extra_jitter -= jitter

    return mend


def _set_on_links(stage: Stage, links: list[Link], field: str, value: float) -> Mend:
    """Set a field of links whose own value is 0."""
    mends = [stage.layers.put(link, field, value, 0) for link in links]

    def mend() -> None:
        for one in mends:
            one()

    return mend


def _loss(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    return _set_on_links(stage, _around(stage, targets[0]), "loss", fault.amount / 100)


def _bandwidth(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    rate = max(1, fault.amount) * 1000
    return _set_on_links(stage, _around(stage, targets[0]), "bytes_per_second", rate)


def _chunks(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    everybody = list(stage.sim.hosts)
    links = stage.sim.network.links(everybody, everybody)
    return _set_on_links(stage, links, "chunk_rate", fault.amount / 100)


def _clog(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    links = stage.sim.network.links(list(stage.sim.hosts), targets)
    for link in links:
        link.clogged += 1

    def mend() -> None:
        for link in links:
            link.release()

    return mend


def _reset(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    sim = stage.sim
    host = sim.host(targets[0])
    count = sum(sim.network.reset_between(host, other) for other in list(sim.hosts.values()))
    return _nothing if count else None


def _half_open(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    sim = stage.sim
    host = sim.host(targets[0])
    count = sum(sim.network.halve_between(host, other) for other in list(sim.hosts.values()))
    return _nothing if count else None


def _refuse(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return _on_host(stage, targets[0], "refuses", True, False)


def _on_host(stage: Stage, name: str, field: str, value: bool, after: bool) -> Mend | None:
    host = stage.sim.host(name)
    if getattr(host, field) == value:
        return None
    setattr(host, field, value)
    return lambda: setattr(host, field, after)


def _kill(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    name = targets[0]
    return (lambda: _restart(stage, name)) if stage.sim.kill(name) else None


def _power_cut(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    name = targets[0]
    return (lambda: _restart(stage, name)) if stage.sim.crash(name) else None


def _power_cut_all(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    down = [name for name in stage.nodes if stage.sim.crash(name)]

    def mend() -> None:
        for name in down:
            _restart(stage, name)

    return mend if down else None


def _restart(stage: Stage, name: str) -> None:
    stage.sim.restart(name)


def _crash_at_disk(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return stage.arm(fault, targets[0], "disk")


def _crash_at_network(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return stage.arm(fault, targets[0], "network")


def _crash_in_sync(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return stage.arm(fault, targets[0], "sync")


def _crash_at_point(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return stage.arm(fault, targets[0], "point")


def _crash_at_rare_point(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return stage.arm(fault, targets[0], "rare-point")


def _pause(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    name = targets[0]
    if stage.sim.host(name).paused or not stage.sim.running(name):
        return None
    stage.sim.pause(name)
    return lambda: stage.sim.resume(name)


def _slow_cpu(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    host = stage.sim.host(targets[0])
    return stage.layers.put(host, "step_ns", max(1, fault.amount) * 1000, 0)


def _clock_rate(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    clock = stage.sim.host(targets[0]).clock
    return stage.layers.put(clock, "rate_ppm", 1_000_000 + fault.amount, 1_000_000)


def _clock_skew(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    clock = stage.sim.host(targets[0]).clock
    clock.jump(fault.amount * _MS)
    return lambda: clock.jump(-fault.amount * _MS)


def _clock_leap(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    stage.sim.host(targets[0]).clock.advance(fault.amount * _MS)
    return _nothing


def _clock_strobe(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    clock = stage.sim.host(targets[0]).clock
    state = {"on": True, "ahead": False}

    def flip(_: object) -> bool:
        if state["on"] or state["ahead"]:
            state["ahead"] = not state["ahead"]
            clock.jump(fault.amount * _MS if state["ahead"] else -fault.amount * _MS)
            stage.sim.engine.after(SECOND // 50, flip)
        return False

    flip(None)

    def mend() -> None:
        state["on"] = False

    return mend


def _slow_disk(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = stage.sim.host(targets[0]).disk
    return stage.layers.put(disk, "slow_factor", max(1, fault.amount), 1)


def _disk_full(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = stage.sim.host(targets[0]).disk
    return _then_restart(
        stage, targets[0], stage.layers.put(disk, "capacity", disk.used() + fault.amount * 1000, None)
    )


def _disk_errors(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = stage.sim.host(targets[0]).disk
    return _then_restart(stage, targets[0], stage.layers.put(disk, "error_rate", fault.amount / 100, 0.0))


def _then_restart(stage: Stage, name: str, mend: Mend) -> Mend:
    def both() -> None:
        mend()
        _restart(stage, name)

    return both


def _lying_disk(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend:
    disk = stage.sim.host(targets[0]).disk
    return stage.layers.put(disk, "lying", True, False)


def _operate(stage: Stage, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
    return stage.operate(fault, targets)


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
    "crash-at-rare-point": _crash_at_rare_point,
    "crash-at-network": _crash_at_network,
    "pause": _pause,
    "slow-cpu": _slow_cpu,
    "clock-rate": _clock_rate,
    "clock-skew": _clock_skew,
    "clock-jump": _clock_skew,
    "clock-leap": _clock_leap,
    "clock-strobe": _clock_strobe,
    "slow-disk": _slow_disk,
    "compact": _operate,
    "defragment": _operate,
    "move-leader": _operate,
    "grow": _operate,
    "replace": _operate,
    "auth": _operate,
    "disk-full": _disk_full,
    "disk-errors": _disk_errors,
    "lying-disk": _lying_disk,
})  # fmt: skip
