"""Faults as data: what may be broken in a world, when, for how long, and how much.

A schedule is a tuple of ``Fault`` values: it can be drawn, stored as JSON, shrunk and replayed. Times are
whole milliseconds of virtual time since the fault phase began, so that a shrunk schedule reads well.
``sim.chaos`` carries schedules out; this module only says what they are.

The fault atlas: the kinds in ``KINDS`` never destroy the last good copy of anything that was acknowledged
as durable, in any number or combination, unless ``destructive`` is set; those are never drawn by default.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from .seeds import stream

__all__ = [
    "KINDS", "LEADER", "Fault", "Kind", "Schedule", "describe_schedule", "draw_schedule", "kinds_named",
]

#: As a target: whoever leads when the fault begins.
LEADER = "leader"


class Fault(msgspec.Struct, frozen=True, order=True):
    """One fault. ``amount`` has the unit that its kind says; 0 where the kind has none."""

    at: int  # ms since the fault phase began
    kind: str  # a key of KINDS
    duration: int = 0  # ms; 0 for what happens in an instant
    targets: tuple[str, ...] = ()
    amount: int = 0


Schedule: TypeAlias = tuple[Fault, ...]


class Kind(msgspec.Struct, frozen=True):
    """One row of the catalogue.

    ``targets`` says how many hosts it names: "one", "some" (a group, at least one, not all), "pair" (from,
    to), "all" (none named). ``amounts`` is the range that is drawn from, both ends included.
    """

    summary: str
    code: str  # of the fault catalogue
    family: str  # what a swarm switches off together
    targets: str
    unit: str = ""
    amounts: tuple[int, int] = (0, 0)
    durations: tuple[int, int] = (200, 4000)  # ms; (0, 0): in an instant
    destructive: bool = False  # may lose acknowledged data, or stop a member by design


_INSTANT = (0, 0)

KINDS: Mapping[str, Kind] = MappingProxyType({
    "partition": Kind("cut a group off, both ways", "N6", "partition", "some"),
    "isolate": Kind("cut one host off, both ways", "N6", "partition", "one"),
    "isolate-leader": Kind("cut the leader off, both ways", "N10", "partition", "one"),
    "one-way": Kind("drop what one host sends to another", "N7", "partition", "pair"),
    "deaf": Kind("drop all that members send to one host", "N7", "partition", "one"),
    "mute": Kind("drop all that one host sends to members", "N7", "partition", "one"),
    "bridge": Kind("two halves; one host sees both", "N8", "partition", "one"),
    "ring": Kind("each host sees another majority", "N9", "partition", "all"),
    "latency": Kind("more delay on every link of a host", "N2", "delay", "one", "ms", (1, 100)),
    "loss": Kind("lose segments on every link of a host", "N1", "loss", "one", "%", (1, 30)),
    "bandwidth": Kind("limit every link of a host", "N13", "delay", "one", "kB/s", (10, 500)),
    "clog": Kind("hold what goes to a host, then let it all out", "N12", "clog", "one"),
    "chunks": Kind("cut deliveries in two", "N14", "chunks", "all", "%", (1, 80)),
    "reset": Kind("reset every connection of a host", "N14", "reset", "one", durations=_INSTANT),
    "half-open": Kind("a host forgets its connections", "N14", "reset", "one", durations=_INSTANT),
    "refuse": Kind("refuse new connections", "N14", "reset", "one"),
    "kill": Kind("kill the process, start it again later", "P1", "crash", "one"),
    "power-cut": Kind("cut the power, losing or tearing unsynced writes", "P2", "crash", "one"),
    "power-cut-all": Kind("cut everybody's power at once", "P2", "crash", "all"),
    "crash-at-disk": Kind("cut the power at the k-th disk operation", "P3", "crash", "one", "th", (1, 200)),
    "crash-in-sync": Kind("cut the power just before the k-th sync completes", "P2", "crash", "one", "th",
                          (1, 20)),
    "crash-at-point": Kind("cut the power at the k-th named point of the program", "P3", "crash", "one", "th",
                           (1, 100)),
    "crash-at-rare-point": Kind("cut the power at the k-th point that is not passed all the time", "P3, O3",
                                "crash", "one", "th", (1, 8)),
    "crash-at-network": Kind("cut the power at the k-th network operation", "P3", "crash", "one", "th",
                             (1, 400)),
    "pause": Kind("stop the process, continue later", "P4", "pause", "one"),
    "slow-cpu": Kind("every step of one host takes longer", "P6", "pause", "one", "us", (50, 5_000)),
    "clock-rate": Kind("the clock runs fast or slow", "C4", "clock", "one", "ppm", (-50_000, 50_000)),
    "clock-skew": Kind("the wall clock is off", "C1", "clock", "one", "ms", (-60_000, 60_000)),
    "clock-jump": Kind("the wall clock jumps, and back", "C2", "clock", "one", "ms", (4, 262_000)),
    "clock-leap": Kind("both clocks leap ahead, as after a suspend", "C2", "clock", "one", "ms", (100, 5_000),
                       _INSTANT),
    "clock-strobe": Kind("the wall clock jumps to and fro", "C3", "clock", "one", "ms", (10, 5_000)),
    "slow-disk": Kind("syncs take longer", "D6", "disk", "one", "times", (2, 200)),
    "compact": Kind("compact every 100 ms, keeping so many revisions", "O1", "compaction", "one", "revisions",
                    (0, 40)),
    "defragment": Kind("defragment one member", "O2", "compaction", "one", durations=_INSTANT),
    "move-leader": Kind("hand leadership over to one member", "M3", "transfer", "one", durations=_INSTANT),
    "grow": Kind("add a member, by way of a learner or not, and remove it", "M1, M2", "members", "all",
                 "learner", (0, 1), (1000, 6000)),
    "replace": Kind("remove a member; a new one takes its place", "P7", "members", "one", durations=_INSTANT),
    "auth": Kind("turn authentication on, and off", "O5", "auth", "all"),
    "disk-full": Kind("no space left", "D4", "full", "one", "kB", (0, 64), destructive=True),
    "disk-errors": Kind("reads, writes and syncs fail", "D5", "errors", "one", "%", (1, 10),
                        destructive=True),
    "lying-disk": Kind("syncs do nothing", "D3", "lies", "one", destructive=True),
})  # fmt: skip


def kinds_named(text: str) -> tuple[str, ...]:
    """The kinds that an option names: ``all``, ``none``, or a list of kinds and families with commas.

    Raises:
        ValueError: a name is neither; it lists what there is.
    """
    if text == "none":
        return ()
    if text == "all":
        return tuple(name for name, kind in KINDS.items() if not kind.destructive)
    chosen: dict[str, None] = {}
    for part in (word.strip() for word in text.split(",")):
        found = [name for name, kind in KINDS.items() if part in (name, kind.family, *kind.code.split(", "))]
        if not found:
            raise ValueError(f"no fault is called {part!r}; there are: {', '.join(KINDS)}")
        chosen |= dict.fromkeys(found)
    return tuple(chosen)


def draw_schedule(
    seed: int, nodes: tuple[str, ...], seconds: float, kinds: tuple[str, ...] | None = None
) -> Schedule:
    """Draw a schedule for ``nodes`` over ``seconds`` of virtual time; a function of its arguments.

    Swarm: each seed switches about half of the families off, so that the others meet more often.

    Args:
        kinds: what may occur; None: everything that is not destructive.
    """
    rng = stream(seed, "schedule")
    allowed = kinds_named("all") if kinds is None else kinds
    families = list(dict.fromkeys(KINDS[name].family for name in allowed))
    active = [family for family in families if rng.random() < 0.5] or families[:1]
    menu = [name for name in allowed if KINDS[name].family in active]
    if not menu:
        return ()
    count = 1 + rng.randrange(max(1, int(seconds)))
    total = int(seconds * 1000)
    faults = [_draw_fault(rng, rng.choice(menu), nodes, total) for _ in range(count)]
    return tuple(sorted(faults))


def _draw_fault(rng: random.Random, name: str, nodes: tuple[str, ...], total: int) -> Fault:
    kind = KINDS[name]
    low, high = kind.durations
    at = rng.randrange(max(1, total - 200))
    duration = min(rng.randint(low, high), total - at) if high else 0
    return Fault(at, name, duration, _draw_targets(rng, name, nodes), rng.randint(*kind.amounts))


def _draw_targets(rng: random.Random, name: str, nodes: tuple[str, ...]) -> tuple[str, ...]:
    if name == "isolate-leader":
        return (LEADER,)
    match KINDS[name].targets:
        case "one":
            return (LEADER,) if rng.random() < 0.3 else (rng.choice(nodes),)
        case "pair":
            return tuple(rng.sample(nodes, min(2, len(nodes))))
        case "some":
            return tuple(sorted(rng.sample(nodes, rng.randint(1, max(1, len(nodes) // 2)))))
        case _:
            return ()


def describe_schedule(schedule: Schedule) -> list[str]:
    """One readable line per fault."""
    return [_describe_fault(fault) for fault in schedule]


def _describe_fault(fault: Fault) -> str:
    kind = KINDS[fault.kind]
    amount = f" {fault.amount} {kind.unit}" if kind.unit else ""
    span = f" for {fault.duration / 1000:.3f} s" if fault.duration else ""
    on = f" on {', '.join(fault.targets)}" if fault.targets else ""
    return f"{fault.at / 1000:8.3f} s  {fault.kind}{on}{amount}{span}"
