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

from tercet.core.raft.state import RaftState
from tercet.core.raft.types import Effects
from tercet.sim.faults import Schedule, kinds_named
from tercet.sim.invariants import Invariants
from tercet.sim.run import Result, run_simulation

from .checkers.verdict import Limits, Status, Verdict
from .checking import check_history
from .history import History
from .workloads.mix import PROFILES, Workload

__all__ = ["Outcome", "Plan", "carry_out", "mutation_named", "watch_invariants"]

_CHECK_SECONDS = 30.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is: everything it depends on besides the code.

    ``schedule`` None: drawn from the seed, out of the kinds that ``faults`` names. ``profile`` "" and
    ``clients`` 0: drawn from the seed, too. ``mutation`` names a planted bug, "" for none.
    """

    seed: int
    nodes: int = 3
    seconds: float = 15.0
    clients: int = 0
    profile: str = ""
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
    operations: int
    unknown_operations: int
    problems: list[str]
    plan: Plan
    schedule: Schedule

    @property
    def replayable(self) -> Plan:
        """The plan with its schedule written out, so that it can be shrunk and no draw can change it."""
        return msgspec.structs.replace(self.plan, schedule=self.schedule)


class Record(msgspec.Struct, frozen=True):
    """The parts of a run that are too large for a line."""

    history: History
    verdict: Verdict
    result: Result


def mutation_named(name: str) -> Callable[[], AbstractContextManager[object]]:
    """The planted bug's switch; ``ValueError`` names those there are. "" is none."""
    if not name:
        return nullcontext
    from .mutations import MUTATIONS

    if name not in MUTATIONS:
        raise ValueError(f"no mutation is called {name!r}; there are: {', '.join(MUTATIONS)}")
    return MUTATIONS[name].apply


def watch_invariants() -> Callable[[str, object, object, RaftState], None]:
    """A listener that checks figure 3 at every step of every member; a breach ends the member."""
    invariants = Invariants()
    begun: set[str] = set()

    def listen(name: str, event: object, effects: object, state: RaftState) -> None:
        assert isinstance(effects, Effects)
        if event is None or name not in begun:
            begun.add(name)
            invariants.restarted(state.config.node_id, state)
        else:
            invariants.observe(state.config.node_id, state, effects)

    return listen


def carry_out(plan: Plan) -> tuple[Outcome, Record]:
    """Run and judge one plan. The same plan gives the same digest, verdict and history, anywhere."""
    profile, clients = _drawn(plan)
    workload = Workload(plan.seed, PROFILES[profile])
    with mutation_named(plan.mutation)():
        result = run_simulation(
            plan.seed,
            workload,
            nodes=plan.nodes,
            seconds=plan.seconds,
            clients=clients,
            schedule=plan.schedule,
            kinds=kinds_named(plan.faults),
            listeners=(watch_invariants(),),
        )
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
        operations=result.operations,
        unknown_operations=sum(1 for o in history.operations if o.outcome == "info"),
        problems=result.problems,
        plan=plan,
        schedule=result.schedule,
    )
    return outcome, Record(history, verdict, result)


def _drawn(plan: Plan) -> tuple[str, int]:
    from tercet.sim.seeds import stream

    draw = stream(plan.seed, "campaign")
    profile = draw.choice(list(PROFILES))
    clients = draw.randrange(3, 8)
    return plan.profile or profile, plan.clients or clients


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
    if "Violation" in problem:
        return "invariants"
    if " ended at " in problem:
        return "crash"
    if "data differ" in problem:
        return "members"
    return "liveness"
