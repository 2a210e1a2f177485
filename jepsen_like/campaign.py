"""Campaigns: many seeds, each a run in a simulated world; failures are confirmed, kept and shrunk.

A failing seed is run a second time before it is reported, in the same way; unless both digests are equal
what failed is determinism. With ``twice`` every seed runs under two different hash seeds and the digests are
compared, failing or not.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path

import msgspec

from .experiment import Outcome, Plan, carry_out
from .shrinking import Shrunk, shrink_plan
from .worker import Job, Pool

__all__ = ["Summary", "confirm", "run_campaign", "shrink_run"]

_OTHER_HASH_SEED = 20_011


class Summary(msgspec.Struct, kw_only=True):
    """What a campaign came to. ``mismatches`` counts seeds whose digests differed between runs."""

    runs: int = 0
    valid: int = 0
    invalid: int = 0
    unknown: int = 0
    mismatches: int = 0
    operations: int = 0
    virtual_seconds: float = 0.0
    cpu_seconds: float = 0.0
    faults_fired: dict[str, int] = msgspec.field(default_factory=dict)
    failing: list[int] = msgspec.field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one seed."""
        self.runs += 1
        setattr(self, outcome.verdict, getattr(self, outcome.verdict) + 1)
        if outcome.checker == "determinism":
            self.mismatches += 1
        if outcome.verdict != "valid":
            self.failing.append(outcome.seed)
        self.operations += outcome.operations
        self.virtual_seconds += outcome.virtual_seconds
        self.cpu_seconds += outcome.cpu_seconds + outcome.check_seconds
        for kind, count in outcome.faults_fired.items():
            self.faults_fired[kind] = self.faults_fired.get(kind, 0) + count

    @property
    def verdict(self) -> str:
        """Of the whole campaign."""
        if self.invalid:
            return "invalid"
        return "unknown" if self.unknown or not self.runs else "valid"


def run_campaign(
    plans: Iterable[Plan], *, jobs: int = 1, folder: Path | None = None, twice: bool = False
) -> Generator[Outcome, None, None]:
    """Carry out plans in ``jobs`` processes; outcomes in the order of completion.

    Args:
        folder: where failing runs are kept, and one line for every outcome; None: nowhere.
        twice: run each plan under a second hash seed and compare.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(jobs))
        other = stack.enter_context(Pool(jobs, _OTHER_HASH_SEED)) if twice else None
        lines = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            lines = stack.enter_context((folder / "campaign.jsonl").open("wb"))
        for first, second in _run_all(plans, pool, other, jobs):
            outcome = first if second is None else _compared(first, second)
            if outcome.verdict != "valid" and outcome.checker not in ("determinism", "harness"):
                outcome = confirm(outcome, pool, folder)
            if lines is not None:
                lines.write(msgspec.json.encode(outcome) + b"\n")
                lines.flush()
            yield outcome


_Pending = dict["Future[Outcome]", tuple[int, int]]


def _run_all(
    plans: Iterable[Plan], pool: Pool, other: Pool | None, jobs: int
) -> Iterator[tuple[Outcome, Outcome | None]]:
    """Keep the pools busy without queueing a million plans."""
    source = iter(plans)
    pending: _Pending = {}
    halves: dict[int, list[Outcome | None]] = {}
    number = 0
    exhausted = False
    while True:
        while not exhausted and len(pending) < 3 * jobs:
            plan = next(source, None)
            if plan is None:
                exhausted = True
                break
            pending[pool.submit(Job(plan))] = (number, 0)
            if other is not None:
                pending[other.submit(Job(plan))] = (number, 1)
            halves[number] = [None, None]
            number += 1
        if not pending:
            return
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=pending.__getitem__):
            which, half = pending.pop(future)
            halves[which][half] = future.result()
            first, second = halves[which]
            if first is not None and (second is not None or other is None):
                del halves[which]
                yield first, second


def _compared(first: Outcome, second: Outcome) -> Outcome:
    if first.digest == second.digest and first.verdict == second.verdict:
        return first
    return msgspec.structs.replace(
        first,
        verdict="invalid",
        checker="determinism",
        reason=f"two runs differ: {first.digest} {first.verdict}, then {second.digest} {second.verdict}",
    )


def confirm(outcome: Outcome, pool: Pool, folder: Path | None) -> Outcome:
    """Run a failing plan again, keeping it; what is not the same again is a failure of determinism."""
    keep = str(folder / f"seed-{outcome.seed}") if folder is not None else ""
    return _compared(outcome, pool.submit(Job(outcome.plan, keep)).result())


def shrink_run(
    plan: Plan, *, runs: int = 200, progress: Callable[[Plan], None] | None = None
) -> tuple[Shrunk, Outcome]:
    """Shrink a failing plan to a short schedule that fails the same check; with its last outcome.

    Raises:
        ValueError: the plan does not fail.
    """
    outcome, _ = carry_out(plan)
    if outcome.verdict == "valid":
        raise ValueError(f"seed {plan.seed} does not fail: there is nothing to shrink")

    def fails(candidate: Plan) -> bool:
        found, _ = carry_out(candidate)
        return found.verdict == outcome.verdict and found.checker == outcome.checker

    shrunk = shrink_plan(outcome.plan, fails, runs=runs, progress=progress)
    final, _ = carry_out(shrunk.plan)
    return shrunk, final
