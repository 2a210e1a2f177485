"""Failing schedules become short, and what is left still fails."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.jepsen_like.experiment import Plan
from tercet.jepsen_like.motifs import draw_motifs
from tercet.jepsen_like.shrinking import shrink_plan
from tercet.jepsen_like.strategies import schedules
from tercet.sim.faults import KINDS, Fault, Schedule

NODES = ("n1", "n2", "n3")


@given(schedules(NODES, seconds=15, min_size=2, max_size=12), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_shrinking_keeps_the_two_faults_that_matter(schedule: Schedule, pick: int) -> None:
    first, second = schedule[pick % len(schedule)], schedule[(pick // 7) % len(schedule)]
    kinds = {first.kind, second.kind}
    runs = 0

    def fails(plan: Plan) -> bool:
        nonlocal runs
        runs += 1
        return kinds <= {fault.kind for fault in plan.schedule or ()}

    plan = Plan(seed=1, schedule=schedule, clients=5)
    shrunk = shrink_plan(plan, fails, runs=500)
    assert fails(shrunk.plan)
    assert len(shrunk.plan.schedule or ()) == len(kinds)
    assert shrunk.plan.clients == 1
    assert shrunk.plan.seconds <= plan.seconds
    assert shrunk.runs <= 500


def test_shrinking_stops_at_its_limit() -> None:
    schedule = tuple(Fault(at, "isolate", 1000, ("n1",)) for at in range(100, 5000, 100))
    asked = 0

    def fails(plan: Plan) -> bool:
        nonlocal asked
        asked += 1
        return len(plan.schedule or ()) > 20

    shrunk = shrink_plan(Plan(seed=1, schedule=schedule, clients=1), fails, runs=10)
    assert asked == shrunk.runs == 10
    assert len(shrunk.plan.schedule or ()) > 20


def test_a_plan_without_a_schedule_cannot_be_shrunk() -> None:
    with pytest.raises(ValueError, match="written out"):
        shrink_plan(Plan(seed=1), lambda plan: True)


@given(schedules(NODES, seconds=15))
@settings(max_examples=100, deadline=None)
def test_drawn_schedules_are_within_the_catalogue(schedule: Schedule) -> None:
    assert list(schedule) == sorted(schedule)
    for fault in schedule:
        kind = KINDS[fault.kind]
        assert not kind.destructive
        assert 0 <= fault.at < 15_000
        assert kind.amounts[0] <= fault.amount <= kind.amounts[1]
        assert kind.durations[0] <= fault.duration <= kind.durations[1]
        assert (len(fault.targets) == 0) == (kind.targets == "all")


@pytest.mark.parametrize("seed", range(30))
def test_motifs_are_within_the_catalogue_and_a_function_of_their_seed(seed: int) -> None:
    schedule = draw_motifs(seed, NODES, 15.0)
    assert schedule == draw_motifs(seed, NODES, 15.0)
    assert schedule and list(schedule) == sorted(schedule)
    assert all(fault.kind in KINDS and not KINDS[fault.kind].destructive for fault in schedule)
    assert all(0 <= fault.at < 15_000 for fault in schedule)
