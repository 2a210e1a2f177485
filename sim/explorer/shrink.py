"""Shrinking: which few deviations does a failure really need?

Delta debugging over the list of deviations: leave out ever smaller groups as long as the run still breaks
the same rule, until no single deviation can be left out. A run that violates stops at once, so the tries
are cheap and become cheaper as the schedule shrinks. Afterwards settings that were drawn away from the
shipped ones go back to them where the failure allows it.

Source: Zeller and Hildebrandt 2002, "Simplifying and isolating failure-inducing input".
"""

from __future__ import annotations

from msgspec.structs import replace

from .random import Outcome, replay
from .schedule import Deviation, Schedule, Settings

__all__ = ["shrink"]


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
    _leave_out(search)
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
    for name in ("pre_vote", "check_quorum", "election_ticks", "latency_us", "write_us",
                 "max_append_entries", "max_inflight_appends"):
        schedule = search.best.schedule
        value = getattr(plain, name)
        if getattr(schedule.settings, name) != value:
            search.accepts(replace(schedule.settings, **{name: value}), schedule.deviations)
