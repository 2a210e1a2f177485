"""Sequences of faults that real bugs needed, drawn with their times and victims left to chance.

Faults drawn one by one seldom meet in the right order. Each motif is a small story whose parts belong
together; a schedule is two to five of them, overlapping as it happens, and noise now and then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tercet.sim.faults import LEADER, Fault, Schedule
from tercet.sim.seeds import stream

__all__ = ["MOTIFS", "draw_motifs", "motifs_named"]

Motif = Callable[[random.Random, Sequence[str], int], list[Fault]]


def _unsynced_majority(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """Most disks are slow; then the power goes: what was acknowledged must have been on a disk."""
    spared = draw.choice(nodes)
    times = draw.choice((20, 60, 200))
    length = draw.randint(600, 2500)
    slow = [Fault(at, "slow-disk", length, (name,), times) for name in nodes if name != spared]
    cut = at + draw.randint(200, length)
    if draw.random() < 0.5:
        return [*slow, Fault(cut, "power-cut-all", draw.randint(100, 1500))]
    others = [name for name in nodes if name != spared]
    fallen = [Fault(cut, "power-cut", draw.randint(200, 800), (name,)) for name in others]
    return [*slow, *fallen, Fault(cut + draw.randint(0, 60), "isolate", draw.randint(1500, 4000), (spared,))]


def _deposed(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """The leader is cut off again and again, long enough for another to be elected."""
    faults, time = [], at
    for _ in range(draw.randint(2, 4)):
        faults.append(Fault(time, "isolate-leader", draw.randint(1200, 3500), (LEADER,)))
        time += draw.randint(1200, 3000)
    return faults


def _lonely_tail(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """A leader writes what nobody gets, falls, and comes back beside another leader's log."""
    length = draw.randint(1500, 4000)
    fall = at + draw.randint(100, 900)
    return [
        Fault(at, "mute", length, (LEADER,)),
        Fault(
            fall,
            draw.choice(("kill", "power-cut")),
            draw.randint(300, 2500),
            (draw.choice((LEADER, *nodes)),),
        ),
        Fault(fall + draw.randint(300, 2000), "isolate-leader", draw.randint(1200, 3000), (LEADER,)),
    ]


def _split_vote(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """The leader stops while the others hear each other late, and some of them fall as they vote."""
    others = draw.sample(list(nodes), min(2, len(nodes)))
    return [
        Fault(at, "pause", draw.randint(1500, 4000), (LEADER,)),
        *(Fault(at, "latency", 3000, (name,), draw.randint(20, 100)) for name in others),
        Fault(at + draw.randint(900, 2200), "power-cut", draw.randint(100, 700), (draw.choice(others),)),
    ]


def _falling_in_turn(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """One after the other falls at some operation of its disk and is back soon."""
    order = draw.sample(list(nodes), len(nodes))
    return [
        Fault(
            at + place * draw.randint(100, 700),
            "crash-at-disk",
            draw.randint(100, 600),
            (name,),
            draw.randint(1, 40),
        )
        for place, name in enumerate(order)
    ]


def _stale_reader(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """A leader that does not hear that it was replaced, with a clock of its own."""
    length = draw.randint(2000, 5000)
    return [
        Fault(at, "clock-rate", length, (LEADER,), draw.choice((-50_000, 50_000))),
        Fault(at, draw.choice(("isolate-leader", "deaf", "pause")), length, (LEADER,)),
    ]


def _late_messages(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """What was sent long ago arrives in a burst under another leader."""
    victim = draw.choice(nodes)
    length = draw.randint(1500, 3500)
    return [
        Fault(at, "clog", length, (victim,)),
        Fault(at + draw.randint(0, 500), "isolate-leader", length, (LEADER,)),
        Fault(at + length, "reset", 0, (draw.choice(nodes),)),
    ]


MOTIFS: Final[Mapping[str, Motif]] = MappingProxyType(
    {
        "unsynced-majority": _unsynced_majority,
        "deposed": _deposed,
        "lonely-tail": _lonely_tail,
        "split-vote": _split_vote,
        "falling-in-turn": _falling_in_turn,
        "stale-reader": _stale_reader,
        "late-messages": _late_messages,
    }
)


def motifs_named(text: str) -> tuple[str, ...]:
    """The motifs that ``motifs:NAME,NAME`` names, or all for ``motifs``.

    Raises:
        ValueError: one is unknown; it lists what there is.
    """
    _, _, names = text.partition(":")
    chosen = tuple(names.split(",")) if names else tuple(MOTIFS)
    for name in chosen:
        if name not in MOTIFS:
            raise ValueError(f"no motif is called {name!r}; there are: {', '.join(MOTIFS)}")
    return chosen


def draw_motifs(
    seed: int, nodes: tuple[str, ...], seconds: float, names: tuple[str, ...] = tuple(MOTIFS)
) -> Schedule:
    """Draw a schedule of some of the motifs over ``seconds`` of virtual time; a function of its arguments."""
    draw = stream(seed, "motifs")
    total = int(seconds * 1000)
    menu = draw.sample(names, draw.randint(1, min(3, len(names))))
    faults: list[Fault] = []
    for _ in range(draw.randint(2, 5)):
        at = draw.randrange(max(1, total - 1500))
        faults += MOTIFS[draw.choice(menu)](draw, nodes, at)
    return tuple(sorted(fault for fault in faults if fault.at < total))
