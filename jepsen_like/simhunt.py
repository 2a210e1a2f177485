"""The bug zoo in the simulated world: plant each bug, find it through the whole stack, shrink, replay.

The explorer hunts in the bare core and is hundreds of times faster (``mutations.hunt``); here the same bugs
are in members with disks, sockets and clients, and what finds them is what their users would see, or the
invariants listening at every step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from .campaign import run_campaign, shrink_run
from .experiment import Outcome, Plan, carry_out

__all__ = ["AIMS", "Catch", "hunt_simulated"]

#: What each bug needs, by its description; others get any motif.
AIMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "B1": "motifs:split-vote,deposed",
        "B2": "motifs:split-vote,falling-in-turn",
        "B3": "motifs:lonely-tail,deposed",
        "B4": "motifs:deposed,lonely-tail",
        "B5": "motifs:lonely-tail",
        "B6": "motifs:lonely-tail",
        "B8": "motifs:lonely-tail,late-messages",
        "ack-before-fsync": "motifs:unsynced-majority",
    }
)


class Catch(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one planted bug. ``faults`` counts those of the schedule that found it."""

    mutation: str
    found: bool
    seeds_tried: int
    seconds: float  # of wall clock until found
    checker: str = ""
    reason: str = ""
    faults: int = 0
    shrunk_to: int = 0
    shrink_runs: int = 0
    replayed: bool = False  # the shrunk plan gives the same digest and verdict again
    shipped_valid: bool = False  # the shrunk plan finds nothing in the shipped code
    plan: Plan | None = None  # the shrunk one


def hunt_simulated(
    mutation: str,
    *,
    first_seed: int = 0,
    seeds: int = 500,
    jobs: int = 1,
    minutes: float = 5.0,
    shrink_runs: int = 80,
    seconds: float = 8.0,
) -> Catch:
    """Hunt one planted bug with three and five members in turn, for so many seeds and minutes at most.

    The motifs of faults are those that its description asks for; their times and victims are chance.
    """
    started = time.monotonic()
    tried = 0
    found: Outcome | None = None
    outcomes = run_campaign(_plans(mutation, first_seed, seeds, seconds), jobs=jobs)
    for outcome in outcomes:
        tried += 1
        if outcome.verdict == "invalid" and _shipped_stands(outcome.plan):
            found = outcome
            break
        if time.monotonic() - started > minutes * 60:
            break
    outcomes.close()
    spent = round(time.monotonic() - started, 1)
    if found is None:
        return Catch(mutation=mutation, found=False, seeds_tried=tried, seconds=spent)
    shrunk, last = shrink_run(found.plan, runs=shrink_runs)
    again, _ = carry_out(shrunk.plan)
    return Catch(
        mutation=mutation,
        found=True,
        seeds_tried=tried,
        seconds=spent,
        checker=last.checker,
        reason=last.reason,
        faults=len(found.plan.schedule or ()),
        shrunk_to=len(shrunk.plan.schedule or ()),
        shrink_runs=shrunk.runs,
        replayed=(again.digest, again.verdict) == (last.digest, last.verdict),
        shipped_valid=_shipped_stands(shrunk.plan),
        plan=shrunk.plan,
    )


def _shipped_stands(plan: Plan) -> bool:
    """Whether it is the planted bug that fails, and not what it was planted in."""
    outcome, _ = carry_out(msgspec.structs.replace(plan, mutation=""))
    return outcome.verdict == "valid"


def _plans(mutation: str, first_seed: int, seeds: int, seconds: float) -> Iterator[Plan]:
    faults = AIMS.get(mutation, "motifs")
    for seed in range(first_seed, first_seed + seeds):
        yield Plan(seed=seed, nodes=(3, 5)[seed % 2], seconds=seconds, faults=faults, mutation=mutation)
