"""One run of a campaign: a plan, carried out in a simulated world, and judged.

A ``Plan`` is all that a run depends on; ``carry_out`` is a function of it. The verdict joins everything that
may be wrong: the history (etcd's revisions, watches), Raft's invariants at every step, members that ended
with an exception, a cluster that does not serve after healing, members that do not hold the same data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import msgspec

from tercet.sim.cluster import member_names
from tercet.sim.faults import Schedule, draw_schedule, kinds_named
from tercet.sim.run import Result, run_simulation
from tercet.sim.seeds import stream

from .checkers.verdict import Limits, Status, Verdict
from .checking import check_history
from .history import History
from .motifs import draw_motifs, motifs_named
from .mutations import resolve_mutation
from .workloads.mix import PROFILES, Workload

__all__ = ["Outcome", "Plan", "Record", "carry_out", "mutation_named", "written_out"]

_CHECK_SECONDS = 30.0
_GENTLE = ("move-leader", "compact", "defragment", "chunks")
#: What a new leader may give a lease anew: the time since the last checkpoint (an interval, a sweep, a
#: commit), rounded up to seconds, and an election timeout.
_HANDOVER_SECONDS = 3.5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is: everything it depends on besides the code.

    ``schedule`` None: drawn from the seed, out of the kinds that ``faults`` names; "motifs" or
    "motifs:NAME": sequences of faults that bugs are known to need; "all": now and then such a motif, else
    anything. ``profile`` "", ``clients`` 0 and ``pause_ms`` 0: drawn from the seed, too. ``mutation`` names
    a planted bug, "" for none.
    """

    seed: int
    nodes: int = 3
    seconds: float = 15.0
    clients: int = 0
    profile: str = ""
    pause_ms: int = 0  # the longest pause of a client between two calls
    faults: str = "all"
    schedule: Schedule | None = None
    mutation: str = ""


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a plan; one line of ``tercet campaign run --json``."""

    seed: int
    digest: str
    verdict: Status
    checker: str = ""
    reason: str = ""
    virtual_seconds: float
    cpu_seconds: float
    check_seconds: float
    faults_fired: dict[str, int]
    points: dict[str, int] = {}  # how often the members came by each named point
    operations: int
    unknown_operations: int
    problems: list[str]
    plan: Plan  # with everything written out that was drawn, the schedule too


class Record(msgspec.Struct, frozen=True):
    """The parts of a run that are too large for a line."""

    history: History
    verdict: Verdict
    result: Result


def mutation_named(name: str) -> Callable[[], AbstractContextManager[object]]:
    """The planted bug's switch; ``ValueError`` names those there are. "" is none."""
    if not name:
        return nullcontext
    return resolve_mutation(name).apply


def carry_out(plan: Plan, trace: Callable[[bytes], None] | None = None) -> tuple[Outcome, Record]:
    """Run and judge one plan. The same plan gives the same digest, verdict and history, anywhere.

    ``trace`` gets the bytes of a trace of all members as they come; it changes nothing else.
    """
    plan = written_out(plan)
    profile = msgspec.structs.replace(PROFILES[plan.profile], pause_ms=plan.pause_ms)
    workload = Workload(plan.seed, profile, fast_clocks=_fast_clocks(plan.schedule or ()))
    with mutation_named(plan.mutation)():
        result = run_simulation(
            plan.seed,
            workload,
            nodes=plan.nodes,
            seconds=plan.seconds,
            clients=plan.clients,
            schedule=plan.schedule,
            trace=trace,
            options=profile.options,
        )
    workload.recorder.compacting(result.compactions)
    if profile.options.get("enable_lease_checkpoint") and _is_gentle(plan.schedule or ()):
        workload.recorder.led(result.offices, _HANDOVER_SECONDS)
    history = workload.history()
    started = time.process_time()
    verdict = check_history(history, limits=Limits(seconds=_CHECK_SECONDS, clock=time.process_time))
    spent = time.process_time() - started
    status, checker, reason = _judge(verdict, result)
    outcome = Outcome(
        seed=plan.seed,
        digest=result.digest,
        verdict=status,
        checker=checker,
        reason=reason,
        virtual_seconds=round(result.virtual_seconds, 3),
        cpu_seconds=round(result.cpu_seconds, 3),
        check_seconds=round(spent, 3),
        faults_fired=result.faults_fired,
        points=result.points,
        operations=result.operations,
        unknown_operations=sum(1 for o in history.operations if o.outcome == "info"),
        problems=result.problems,
        plan=plan,
    )
    return outcome, Record(history, verdict, result)


def written_out(plan: Plan) -> Plan:
    """The plan with everything it leaves to its seed drawn, so that parts of it can be changed alone."""
    if plan.profile and plan.profile not in PROFILES:
        raise ValueError(f"no workload is called {plan.profile!r}; there are: {', '.join(PROFILES)}")
    draw = stream(plan.seed, "campaign")
    profile = draw.choice(list(PROFILES))
    clients = draw.randrange(3, 8)
    pause_ms = draw.choice((200, 500, 1000))
    schedule = plan.schedule
    if schedule is None:
        nodes = member_names(plan.nodes)
        if plan.faults.startswith("motifs"):
            schedule = draw_motifs(plan.seed, nodes, plan.seconds, motifs_named(plan.faults))
        elif plan.faults == "all" and draw.random() < 0.4:
            schedule = draw_motifs(plan.seed, nodes, plan.seconds)
        else:
            schedule = draw_schedule(plan.seed, nodes, plan.seconds, kinds_named(plan.faults))
    return msgspec.structs.replace(
        plan,
        profile=plan.profile or profile,
        clients=plan.clients or clients,
        pause_ms=plan.pause_ms or pause_ms,
        schedule=schedule,
    )


def _fast_clocks(schedule: Schedule) -> float:
    """By how much of itself a member's clock may run fast under a schedule; 1 when it may leap."""
    if any(fault.kind == "clock-leap" for fault in schedule):
        return 1.0
    rates = [fault.amount for fault in schedule if fault.kind == "clock-rate"]
    return max([0, *rates]) / 1_000_000


def _is_gentle(schedule: Schedule) -> bool:
    """Leaders change without an interval in which nobody counts leases or can note what is left of them."""
    return all(fault.kind in _GENTLE for fault in schedule)


def _judge(verdict: Verdict, result: Result) -> tuple[Status, str, str]:
    """One verdict: a wrong history weighs most, then what the run itself noticed."""
    if verdict.verdict == "invalid":
        return "invalid", verdict.checker, verdict.reason
    if result.problems:
        return "invalid", _family(result.problems[0]), "; ".join(result.problems)
    if verdict.verdict == "unknown":
        return "unknown", verdict.checker, verdict.reason
    return "valid", "", ""


def _family(problem: str) -> str:
    """Which check a problem belongs to; shrinking keeps to it, so that one bug is not traded for another."""
    if problem.startswith("invariant broken"):
        return "invariants"
    if " ended at " in problem:
        return "crash"
    if "data differ" in problem:
        return "members"
    return "liveness"
