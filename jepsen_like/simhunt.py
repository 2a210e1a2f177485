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

__all__ = ["AIMS", "Aim", "Catch", "hunt_simulated"]


class Aim(msgspec.Struct, frozen=True):
    """Where to look for a bug, by its description: motifs of faults, cluster sizes taken in turn, and what
    the clients do ("" and 0: as drawn)."""

    motifs: str = "motifs"
    sizes: tuple[int, ...] = (3, 5)
    profile: str = ""
    pause_ms: int = 0
    seconds: float = 8.0
    clients: int = 0


#: What each bug needs; others get any motif.
AIMS: Final[Mapping[str, Aim]] = MappingProxyType(
    {
        "B1": Aim("motifs:split-vote,deposed"),
        "B2": Aim("motifs:split-vote,falling-in-turn"),
        "B3": Aim("motifs:lonely-tail,deposed"),
        "B4": Aim("motifs:deposed,lonely-tail"),
        "B5": Aim("motifs:lonely-tail"),
        "B6": Aim("motifs:lonely-tail"),
        "B8": Aim("motifs:lonely-tail,late-messages"),
        "B22": Aim("motifs:all-fall", (1,), "register", 100),
        "B23": Aim("motifs:falling-between,all-fall", (3,), "", 200),
        "B24": Aim("motifs:trusted-page-cache", (3,), "register", 50, clients=1),
        "B25": Aim("motifs:locking-up", (3,), "", 200),
        "B26": Aim("motifs:left-behind", (3,), "watch", 60, 15.0),
        "B27": Aim("motifs:slow-ears,compacting", (3,), "watch", 100),
        "B28": Aim("motifs:compacting,slow-ears", (3,), "watch", 100),
        "B28-starved": Aim("motifs:slow-ears", (3,), "watch", 60),
        "B29": Aim("motifs:compacting", (3,), "", 100),
        "B30-receiver": Aim("motifs:two-snapshots", (3,), "mix", 60, 15.0),
        "B31": Aim("motifs:two-minds,deposed,moved", (3,), "lease"),
        "B32": Aim("motifs:moved", (3,), "checkpoint", 0, 24.0),
        "B34": Aim("motifs:falling-between,deposed,slow-ears", (3,), "watch", 100),
        "B35": Aim("motifs:deposed,falling-between", (3,), "append", 100),
        "B36": Aim("motifs:all-fall,falling-in-turn", (3,), "append", 100),
        "ack-before-fsync": Aim("motifs:unsynced-majority"),
    }
)


class Catch(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one planted bug. ``faults`` counts those of the schedule that found it."""

    mutation: str
    found: bool
    seeds_tried: int
    seconds: float  # of wall clock until found
    cpu_seconds: float = 0.0  # of the runs until then
    checker: str = ""
    reason: str = ""
    faults: int = 0
    shrunk_to: int = 0
    shrink_runs: int = 0
    replays: int = 0
    replayed: bool = False  # the shrunk plan gives the same digest and verdict in each of ``replays`` runs
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
    seconds: float | None = None,
    replays: int = 1,
) -> Catch:
    """Hunt one planted bug for so many seeds and minutes at most, in runs of ``seconds`` (None: its aim's).

    What was found is shrunk, and the short plan carried out ``replays`` >= 1 times more.
    The motifs of faults are those that its description asks for; their times and victims are chance.
    """
    started = time.monotonic()
    tried, used = 0, 0.0
    found: Outcome | None = None
    outcomes = run_campaign(_plans(mutation, first_seed, seeds, seconds), jobs=jobs)
    for outcome in outcomes:
        tried += 1
        used += outcome.cpu_seconds + outcome.check_seconds
        if outcome.verdict == "invalid" and _shipped_stands(outcome.plan):
            found = outcome
            break
        if time.monotonic() - started > minutes * 60:
            break
    outcomes.close()
    spent = round(time.monotonic() - started, 1)
    if found is None:
        return Catch(
            mutation=mutation, found=False, seeds_tried=tried, seconds=spent, cpu_seconds=round(used, 1)
        )
    shrunk, last = shrink_run(found.plan, runs=shrink_runs)
    again = [carry_out(shrunk.plan)[0] for _ in range(replays)]
    return Catch(
        mutation=mutation,
        found=True,
        seeds_tried=tried,
        seconds=spent,
        cpu_seconds=round(used, 1),
        checker=last.checker,
        reason=last.reason,
        faults=len(found.plan.schedule or ()),
        shrunk_to=len(shrunk.plan.schedule or ()),
        shrink_runs=shrunk.runs,
        replays=replays,
        replayed=all((one.digest, one.verdict) == (last.digest, last.verdict) for one in again),
        shipped_valid=_shipped_stands(shrunk.plan),
        plan=shrunk.plan,
    )


def _shipped_stands(plan: Plan) -> bool:
    """Whether it is the planted bug that fails, and not what it was planted in."""
    outcome, _ = carry_out(msgspec.structs.replace(plan, mutation=""))
    return outcome.verdict == "valid"


def _plans(mutation: str, first_seed: int, seeds: int, seconds: float | None) -> Iterator[Plan]:
    aim = AIMS.get(mutation, Aim())
    for seed in range(first_seed, first_seed + seeds):
        yield Plan(
            seed=seed,
            nodes=aim.sizes[seed % len(aim.sizes)],
            seconds=seconds or aim.seconds,
            profile=aim.profile,
            pause_ms=aim.pause_ms,
            clients=aim.clients,
            faults=aim.motifs,
            mutation=mutation,
        )
