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


def _left_behind(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """One misses so much that only a snapshot can help it, and perhaps falls while it takes it in."""
    victim = draw.choice(nodes)
    length = draw.randint(4000, 7000)
    kind = draw.choice(("isolate", "power-cut", "kill", "deaf"))
    faults = [Fault(at, kind, length, (victim,))]
    if draw.random() < 0.5:
        again = draw.choice(("crash-at-rare-point", "crash-at-disk", "isolate", "reset"))
        amount = draw.randint(1, 8) if again.startswith("crash") else 0
        pause = 0 if again == "reset" else draw.randint(500, 2500)
        faults.append(Fault(at + length + draw.randint(0, 400), again, pause, (victim,), amount))
    if draw.random() < 0.4:
        faults.append(Fault(at + draw.randint(0, length), "compact", draw.randint(500, 2500), (victim,),
                            draw.randint(0, 20)))  # fmt: skip
    return faults


def _two_snapshots(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """One misses much; while it puts a snapshot in place on its slow disk, another leader sends one, too."""
    victim = draw.choice(nodes)
    length = draw.randint(3000, 6000)
    back = at + length
    faults = [
        Fault(at, draw.choice(("isolate", "kill", "deaf")), length, (victim,)),
        Fault(back, "slow-disk", draw.randint(2000, 5000), (victim,), draw.choice((200, 1000, 3000))),
    ]
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(("move-leader", "isolate-leader"))
        moment = back + draw.randint(100, 3000)
        if kind == "move-leader":
            others = [name for name in nodes if name != victim]
            faults.append(Fault(moment, kind, 0, (draw.choice(others or nodes),)))
        else:
            faults.append(Fault(moment, kind, draw.randint(1200, 2500), (LEADER,)))
    return faults


def _compacting(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """Compactions in a row, while members fall, and their disks are put in order."""
    length = draw.randint(1500, 4000)
    victim = draw.choice(nodes)
    faults = [Fault(at, "compact", length, (draw.choice(nodes),), draw.choice((0, 0, 1, 5, 20)))]
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(("kill", "power-cut", "crash-at-rare-point", "defragment", "crash-at-disk"))
        amount = draw.randint(1, 20) if kind.startswith("crash") else 0
        pause = 0 if kind == "defragment" else draw.randint(200, 1200)
        faults.append(Fault(at + draw.randint(0, length), kind, pause, (victim,), amount))
    return faults


def _falling_between(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """Members fall just around the moments at which their applied state goes to disk."""
    return [
        Fault(
            at + place * draw.randint(100, 900),
            draw.choice(("crash-at-point", "crash-at-point", "crash-in-sync", "kill", "power-cut")),
            draw.randint(100, 500),
            (name,),
            draw.randint(1, 30),
        )
        for place, name in enumerate(draw.choices(list(nodes), k=draw.randint(2, 5)))
    ]


def _all_fall(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """The power goes everywhere, one after the other or at once, while the disks are slow."""
    times = draw.choice((20, 200))
    slow = [Fault(at, "slow-disk", draw.randint(500, 3000), (name,), times) for name in nodes]
    cut = at + draw.randint(100, 500)
    if draw.random() < 0.5:
        return [*slow, Fault(cut, "power-cut-all", draw.randint(100, 800))]
    falls = [Fault(cut + draw.randint(0, 300), "power-cut", draw.randint(100, 800), (n,)) for n in nodes]
    return [*slow, *falls]


def _trusted_page_cache(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """Two of three are killed in slow syncs, come back, and then lose their power; the third is cut off."""
    victims = draw.sample(list(nodes), len(nodes) // 2 + 1)
    spared = draw.choice([name for name in nodes if name not in victims])
    fall = at + draw.randint(300, 900)
    back = fall + draw.randint(40, 150)
    cut = back + draw.randint(60, 500)
    faults: list[Fault] = []
    for name in victims:
        faults += [
            Fault(at, "slow-disk", fall + 5 - at, (name,), 20_000),
            Fault(fall, "kill", back - fall, (name,)),
            Fault(back + draw.randint(1, 30), "slow-disk", 2000, (name,), 20_000),
            Fault(cut, "power-cut", draw.randint(100, 400), (name,)),
        ]
    return [*faults, Fault(cut + draw.randint(0, 30), "isolate", draw.randint(1500, 4000), (spared,))]


def _moved(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """The leader hands over, again and again, before anything lasts."""
    step = draw.randint(1500, 5000)
    times = range(at, at + step * draw.randint(2, 6), step)
    return [Fault(time, "move-leader", 0, (draw.choice(nodes),)) for time in times]


def _two_minds(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """The old leader goes on for itself: it stands still for a while, or only its own kind cannot hear it."""
    kind = draw.choice(("mute", "isolate-leader", "pause", "slow-disk"))
    length = draw.randint(2500, 5000)
    return [Fault(at, kind, length, (LEADER,), 200 if kind == "slow-disk" else 0)]


def _locking_up(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """Authentication comes on while one lags, and that one falls and comes back."""
    victim = draw.choice(nodes)
    return [
        Fault(at, draw.choice(("isolate", "clog", "slow-disk", "latency")), draw.randint(500, 2500),
              (victim,), draw.randint(20, 100)),
        Fault(at + draw.randint(0, 600), "auth", draw.randint(1500, 4000)),
        Fault(at + draw.randint(600, 3000), draw.choice(("kill", "power-cut")), draw.randint(200, 900),
              (draw.choice(nodes),)),
    ]  # fmt: skip


def _slow_ears(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """What goes to a member's clients is slow, while the past is compacted."""
    victim = draw.choice(nodes)
    length = draw.randint(1500, 5000)
    kind = draw.choice(("clog", "bandwidth", "pause", "slow-cpu"))
    amount = {"bandwidth": 10, "slow-cpu": draw.randint(500, 5000)}.get(kind, 0)
    return [
        Fault(at, kind, length, (victim,), amount),
        Fault(at + draw.randint(0, 1000), "compact", length, (draw.choice(nodes),), draw.choice((0, 1, 5))),
    ]


def _come_and_go(draw: random.Random, nodes: Sequence[str], at: int) -> list[Fault]:
    """Members are added, removed and replaced while another falls."""
    return [
        Fault(at, "grow", draw.randint(1500, 4000), (), draw.randint(0, 1)),
        Fault(at + draw.randint(500, 4000), "replace", 0, (draw.choice((LEADER, *nodes)),)),
        Fault(at + draw.randint(0, 3000), draw.choice(("kill", "power-cut", "isolate")),
              draw.randint(300, 1500), (draw.choice(nodes),)),
    ]  # fmt: skip


MOTIFS: Final[Mapping[str, Motif]] = MappingProxyType(
    {
        "unsynced-majority": _unsynced_majority,
        "deposed": _deposed,
        "lonely-tail": _lonely_tail,
        "split-vote": _split_vote,
        "falling-in-turn": _falling_in_turn,
        "stale-reader": _stale_reader,
        "late-messages": _late_messages,
        "left-behind": _left_behind,
        "compacting": _compacting,
        "falling-between": _falling_between,
        "all-fall": _all_fall,
        "trusted-page-cache": _trusted_page_cache,
        "moved": _moved,
        "two-minds": _two_minds,
        "locking-up": _locking_up,
        "slow-ears": _slow_ears,
        "two-snapshots": _two_snapshots,
        "come-and-go": _come_and_go,
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
