"""Making a failing schedule short: delta debugging on the list of faults, then on each fault.

A simulation is a function of its plan, so asking again is exact: a smaller schedule either fails in the same
way or it does not. First whole groups of faults go, then single ones; then durations and amounts are made
small and times round; at last the run is cut where nothing happens any more.

Source: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from tercet.sim.faults import KINDS, Fault, Schedule

from .experiment import Plan

__all__ = ["Shrunk", "shrink_plan"]

Fails = Callable[[Plan], bool]
_with = msgspec.structs.replace


class Shrunk(msgspec.Struct, frozen=True):
    """The smallest plan found that still fails, and how many runs it took."""

    plan: Plan
    runs: int


class _Asker:
    """Counts questions and never asks twice."""

    def __init__(self, fails: Fails, limit: int) -> None:
        self.fails, self.limit, self.runs = fails, limit, 0
        self._known: dict[bytes, bool] = {}

    def __call__(self, plan: Plan) -> bool:
        key = msgspec.json.encode(plan)
        if key not in self._known:
            if self.runs >= self.limit:
                return False
            self.runs += 1
            self._known[key] = self.fails(plan)
        return self._known[key]


def shrink_plan(
    plan: Plan, fails: Fails, *, runs: int = 200, progress: Callable[[Plan], None] | None = None
) -> Shrunk:
    """Shrink a failing plan whose schedule is written out.

    Args:
        fails: runs a plan and says whether it fails in the same way.
        runs: the most runs to spend, >= 1.
        progress: told every smaller plan.
    """
    if plan.schedule is None:
        raise ValueError("need a plan with its schedule written out")
    ask = _Asker(fails, runs)
    while True:
        smaller = _round(plan, ask, progress)
        if smaller == plan or ask.runs >= runs:
            return Shrunk(smaller, ask.runs)
        plan = smaller


def _round(plan: Plan, ask: _Asker, progress: Callable[[Plan], None] | None) -> Plan:
    plan = _fewer(plan, ask, progress)
    for candidates in (_shorter, _fewer_clients, _simpler):
        changed = True
        while changed:
            changed = False
            for candidate in candidates(plan):
                if ask(candidate):
                    plan, changed = candidate, True
                    if progress is not None:
                        progress(plan)
                    break
    return plan


def _faults(plan: Plan) -> Schedule:
    return plan.schedule or ()


def _fewer(plan: Plan, ask: _Asker, progress: Callable[[Plan], None] | None) -> Plan:
    """Leave out groups of faults, halves first."""
    if ask(_with(plan, schedule=())):
        return _with(plan, schedule=())
    size = max(len(_faults(plan)) // 2, 1)
    while _faults(plan):
        position, changed = 0, False
        while position < len(_faults(plan)):
            faults = _faults(plan)
            candidate = _with(plan, schedule=faults[:position] + faults[position + size :])
            if ask(candidate):
                plan, changed = candidate, True
                if progress is not None:
                    progress(plan)
            else:
                position += size
        if size == 1 and not changed:
            break
        size = max(size // 2, 1)
    return plan


def _shorter(plan: Plan) -> Iterator[Plan]:
    """End the run soon after the last fault."""
    end = max((fault.at + fault.duration for fault in _faults(plan)), default=0) / 1000
    for seconds in (end + 1, end + 3, (plan.seconds + end) / 2):
        seconds = float(round(max(seconds, 1.0)))
        if seconds < plan.seconds:
            yield _with(plan, seconds=seconds)


def _fewer_clients(plan: Plan) -> Iterator[Plan]:
    for clients in range(1, plan.clients):
        yield _with(plan, clients=clients)


def _simpler(plan: Plan) -> Iterator[Plan]:
    """Make one fault weaker, shorter, or its time rounder."""
    faults = _faults(plan)
    for position, fault in enumerate(faults):
        for weaker in _weaker(fault):
            changed = (*faults[:position], weaker, *faults[position + 1 :])
            yield _with(plan, schedule=tuple(sorted(changed)))


def _weaker(fault: Fault) -> Iterator[Fault]:
    kind = KINDS[fault.kind]
    if kind.durations[0] < fault.duration:
        for duration in (kind.durations[0], fault.duration // 2):
            if kind.durations[0] <= duration < fault.duration:
                yield _with(fault, duration=duration)
    low, high = kind.amounts
    middle = max(low, min(high, 0))
    for amount in (middle, (fault.amount + middle) // 2):
        if abs(amount) < abs(fault.amount):
            yield _with(fault, amount=amount)
    for unit in (1000, 100):
        if fault.at % unit:
            yield _with(fault, at=fault.at // unit * unit)
            break
