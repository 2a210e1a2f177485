"""Shrinking: which few deviations does a failure really need?

Delta debugging over the list of deviations: leave out ever smaller groups as long as the run still breaks
the same rule, until no single deviation can be left out. A run that violates stops at once, so the tries
are cheap and become cheaper as the schedule shrinks. Settings that were drawn away from the shipped ones go
back to them, and nodes go altogether, where the failure allows it. Then what is left becomes less by
changing it: several proposals of one node become one of several entries, two cuts become a longer one.

Source: Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input".
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from .random import Outcome, replay
from .schedule import Act, Deviation, Schedule, Settings

__all__ = ["shrink"]

_PLAIN = (
    "voters", "lease", "snapshot_every", "snapshot_keep", "drift_permille", "apply_us", "pre_vote",
    "check_quorum", "election_ticks", "latency_us", "write_us", "max_append_entries", "max_inflight_appends",
    "max_inflight_bytes", "max_uncommitted_bytes",
)
_MERGED = (Act.PROPOSE, Act.PARTITION, Act.PAUSE, Act.CRASH, Act.HURRY, Act.STALL)


class _Search:
    def __init__(self, failure: Outcome, max_runs: int) -> None:
        self.best = failure
        self.runs_left = max_runs

    def accepts(self, settings: Settings, deviations: tuple[Deviation, ...]) -> bool:
        """Whether this smaller schedule breaks the same rule; if so it is the new best."""
        if self.runs_left <= 0:
            return False
        self.runs_left -= 1
        outcome = replay(Schedule(settings, deviations))
        if outcome.rule != self.best.rule:
            return False
        self.best = outcome
        return True


def shrink(failure: Outcome, max_runs: int = 3000) -> Outcome:
    """Find a short schedule that breaks the same rule as ``failure`` (a run that was not valid).

    Planted bugs must still be planted while this runs.

    Args:
        max_runs: how many schedules to try at most.

    Returns:
        The outcome of the shortest schedule found, which replays from its ``schedule`` alone.

    Raises:
        ValueError: ``failure`` is valid, or its schedule does not fail again.
    """
    if failure.valid or replay(failure.schedule).rule != failure.rule:
        raise ValueError(f"need a run that fails again, got seed {failure.seed}: {failure.rule or 'valid'}")
    search = _Search(failure, max_runs)
    _leave_out(search)
    _plain_settings(search)
    length = len(search.best.schedule.deviations) + 1
    while len(search.best.schedule.deviations) < length and search.runs_left > 0:
        length = len(search.best.schedule.deviations)
        _leave_out(search)
        _merge(search)
    return search.best


def _leave_out(search: _Search) -> None:
    size = max(1, len(search.best.schedule.deviations) // 2)
    while True:
        removed = False
        start = 0
        while start < len(search.best.schedule.deviations):
            schedule = search.best.schedule
            rest = schedule.deviations[:start] + schedule.deviations[start + size :]
            if search.accepts(schedule.settings, rest):
                removed = True
            else:
                start += size
        if size == 1 and not removed:
            return
        if not removed or size > len(search.best.schedule.deviations):
            size = max(1, min(size // 2, len(search.best.schedule.deviations)))


def _plain_settings(search: _Search) -> None:
    plain = Settings(seed=0)
    for name in _PLAIN:
        schedule = search.best.schedule
        value = getattr(plain, name)
        if getattr(schedule.settings, name) != value:
            search.accepts(replace(schedule.settings, **{name: value}), schedule.deviations)
    while (nodes := search.best.schedule.settings.nodes) > 1:
        schedule = search.best.schedule
        rest = tuple([act for act in schedule.deviations if not _names(act, nodes)])
        settings = replace(schedule.settings, nodes=nodes - 1)
        if settings.voters >= nodes or not search.accepts(settings, rest):
            return


def _names(deviation: Deviation, node: int) -> bool:
    act = deviation.act
    if act in (Act.DROP, Act.DUPLICATE, Act.DELAY):
        return node in (deviation.node // 16, deviation.node % 16)
    if act in (Act.PARTITION, Act.FINALE):
        return bool(deviation.node >> node & 1)
    if act == Act.CHANGE and any((deviation.amount >> 8 * place & 31) == node for place in range(6)):
        return True
    return deviation.node == node or (act == Act.HURRY and deviation.extra == node)


def _merge(search: _Search) -> None:
    """Put one deviation in the place of two as long as that fails, too."""
    merged = True
    while merged and search.runs_left > 0:
        merged = False
        schedule = search.best.schedule
        for fewer in _pairs_merged(schedule.deviations):
            if search.accepts(schedule.settings, fewer):
                merged = True
                break


def _pairs_merged(acts: tuple[Deviation, ...]) -> Iterator[tuple[Deviation, ...]]:
    for first, one in enumerate(acts):
        if one.act not in _MERGED:
            continue
        for second in range(first + 1, len(acts)):
            other = acts[second]
            if other.act != one.act:
                continue
            rest = acts[:first] + acts[first + 1 : second] + acts[second + 1 :]
            for single in _merged(one, other):
                yield (*rest[:first], single, *rest[first:])


def _merged(one: Deviation, other: Deviation) -> Iterator[Deviation]:
    if one.act == Act.PROPOSE:
        count = max(1, one.amount) + max(1, other.amount)
        for place in (one, other):
            yield replace(place, amount=count)
    elif one.act == Act.HURRY:
        if one.extra == other.extra == 0:
            for at in (one.at, other.at):
                yield Deviation(Act.HURRY, at, one.node, max(one.amount, other.amount), other.node)
    else:
        lasts = max(one.at + one.amount, other.at + other.amount) - one.at
        masks = [one.node]
        if one.act == Act.PARTITION:
            masks += [one.node | other.node, other.node]
        elif one.node != other.node:
            return
        for mask in masks:
            yield replace(one, node=mask, amount=lasts)
