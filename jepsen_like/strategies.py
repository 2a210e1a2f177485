"""Hypothesis strategies for fault schedules: what a test draws, Hypothesis shrinks by itself.

Swarm: each example first draws which families of faults may occur at all, so that rare ones meet often.
Smaller examples have fewer faults, earlier, shorter and weaker ones.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tercet.sim.faults import KINDS, LEADER, Fault, Kind, Schedule, kinds_named

__all__ = ["faults", "schedules"]


@st.composite
def faults(draw: st.DrawFn, nodes: tuple[str, ...], seconds: float, names: tuple[str, ...]) -> Fault:
    """One fault of the kinds ``names`` that begins within ``seconds``."""
    name = draw(st.sampled_from(names))
    kind = KINDS[name]
    at = draw(st.integers(0, max(0, int(seconds * 1000) - 1)))
    duration = draw(st.integers(*kind.durations))
    return Fault(at, name, duration, draw(_targets(name, kind, nodes)), draw(_amounts(kind)))


def _amounts(kind: Kind) -> st.SearchStrategy[int]:
    return st.integers(*kind.amounts)


def _targets(name: str, kind: Kind, nodes: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    if name == "isolate-leader":
        return st.just((LEADER,))
    if kind.targets == "one":
        return st.sampled_from((*nodes, LEADER)).map(lambda node: (node,))
    if kind.targets == "pair":
        return st.permutations(nodes).map(lambda order: tuple(order[:2]))
    if kind.targets == "some":
        few = max(1, len(nodes) // 2)
        return st.lists(st.sampled_from(nodes), min_size=1, max_size=few, unique=True).map(
            lambda group: tuple(sorted(group))
        )
    return st.just(())


@st.composite
def schedules(
    draw: st.DrawFn,
    nodes: tuple[str, ...],
    seconds: float = 15.0,
    *,
    kinds: str = "all",
    min_size: int = 0,
    max_size: int = 12,
) -> Schedule:
    """A schedule over ``seconds`` of virtual time.

    Args:
        kinds: as in ``--faults``: all, or kinds and families with commas.
        min_size, max_size: how many faults.
    """
    allowed = kinds_named(kinds)
    families = sorted({KINDS[name].family for name in allowed})
    active = draw(st.lists(st.sampled_from(families), min_size=1, unique=True).map(sorted))
    menu = tuple(name for name in allowed if KINDS[name].family in active)
    drawn = st.lists(faults(nodes, seconds, menu), min_size=min_size, max_size=max_size)
    return tuple(sorted(draw(drawn)))
