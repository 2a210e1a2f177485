"""The speeds of our own instruments, against the budgets of the design: simulator, explorer, checkers.

Everything is measured in CPU seconds of this process, so a busy machine disturbs it little; a budget is a
promise about an idle core all the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.sim.explorer.random import explore

from ..checking import check_history
from ..experiment import Plan, carry_out
from ..readers import read_history
from ..synthetic import etcd_history

__all__ = ["Speed", "own_speeds"]

#: A client of the budget's cluster: five of them with pauses up to this (ms) make 100 operations a second.
_PAUSE_MS = 80
_SEEDS = range(1, 7)


@dataclass(frozen=True, slots=True)
class Speed:
    """One instrument's speed. ``kept``: within its budget in this run."""

    what: str
    measured: float
    unit: str
    budget: str
    kept: bool

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def _at_least(what: str, measured: float, unit: str, least: float) -> Speed:
    return Speed(what, round(measured, 1), unit, f">= {least:g}", measured >= least)


def _at_most(what: str, measured: float, unit: str, most: float) -> Speed:
    return Speed(what, round(measured, 3), unit, f"<= {most:g}", measured <= most)


def own_speeds(histories: Path | None) -> Iterator[Speed]:
    """Measure one after the other.

    Args:
        histories: a folder of recorded histories to check; None leaves that row out.
    """
    yield from _explored()
    yield from _simulated()
    yield from _campaign()
    yield _guided()
    if histories is not None:
        yield _recorded(histories)


def _explored() -> Iterator[Speed]:
    for nodes in (5, 3):
        found = explore(first_seed=1, schedules=400, nodes=nodes)
        what = f"explored world, {nodes} nodes, 8 virtual s, invariants on"
        yield _at_least(what, found.schedules / found.cpu_seconds, "schedules/s", 100)
        yield _at_least(what, found.virtual_seconds / found.cpu_seconds, "virtual s per CPU s", 700)


def _simulated() -> Iterator[Speed]:
    """Three nodes, about 100 operations a virtual second, no faults; the check is not counted."""
    virtual = cpu = operations = 0.0
    for seed in _SEEDS:
        plan = Plan(seed=seed, clients=5, pause_ms=_PAUSE_MS, profile="mix", faults="none")
        outcome, _ = carry_out(plan)
        virtual += outcome.virtual_seconds
        cpu += outcome.cpu_seconds
        operations += outcome.operations
    what = f"simulated world, 3 nodes, {operations / virtual:.0f} operations per virtual s, digest on"
    yield _at_least(what, virtual / cpu, "virtual s per CPU s", 20)


def _campaign() -> Iterator[Speed]:
    """As ``tercet campaign run`` draws them, all faults, checking counted."""
    began = time.process_time()
    for seed in _SEEDS:
        carry_out(Plan(seed=seed, nodes=3))
    spent = time.process_time() - began
    yield _at_least("campaign of 15 virtual s, 3 nodes", len(_SEEDS) / spent, "schedules/s", 5)


def _guided() -> Speed:
    history = etcd_history(100_000, seed=1)
    began = time.process_time()
    verdict = check_history(history)
    spent = time.process_time() - began
    assert verdict.verdict == "valid", verdict.reason
    return _at_most("revision-guided check, 100,000 operations", spent, "CPU s", 0.5)


def _recorded(folder: Path) -> Speed:
    logs = [path.read_bytes() for path in sorted(folder.glob("jepsen-etcd/*.log"))]
    began = time.process_time()
    for data in logs:
        check_history(read_history(data), core=False)
    return _at_most(f"{len(logs)} Jepsen etcd histories", time.process_time() - began, "CPU s", 1.0)
