"""What an administrator does during a run happens in the cluster, and is put right again."""

from __future__ import annotations

import pytest

from tercet.sim.faults import Fault
from tercet.sim.operator import OPERATIONS
from tercet.sim.run import Result

from .load import run

A_WHILE = 2500


def run_with(kind: str, *, targets: tuple[str, ...] = ("n2",), amount: int = 0, size: int = 3) -> Result:
    duration = A_WHILE if kind in ("compact", "grow", "auth") else 0
    fault = Fault(1000, kind, duration, () if kind in ("grow", "auth") else targets, amount)
    result, _ = run(3, nodes=size, schedule=(fault,))
    assert result.problems == []
    assert result.faults_fired == {kind: 1}
    return result


@pytest.mark.parametrize("kind", sorted(OPERATIONS))
def test_every_job_is_done_and_leaves_a_healthy_cluster(kind: str) -> None:
    run_with(kind)


def test_compactions_go_on_as_long_as_their_fault() -> None:
    compactions = run_with("compact", amount=1).compactions
    assert len(compactions) > 5
    assert [revision for _, revision in compactions] == sorted(revision for _, revision in compactions)


def test_a_member_that_was_moved_to_leads_next() -> None:
    assert len(run_with("move-leader", targets=("n2",)).offices) + len(
        run_with("move-leader", targets=("n3",)).offices
    ) >= 3


@pytest.mark.parametrize("amount", [0, 1])
def test_a_cluster_grows_with_and_without_a_learner_and_shrinks_again(amount: int) -> None:
    assert run_with("grow", amount=amount).problems == []


def test_whoever_is_replaced_leaves_for_good() -> None:
    faults = (Fault(500, "replace", 0, ("n1",)), Fault(4000, "kill", 500, ("n1",)))
    result, load = run(4, schedule=faults)
    assert result.problems == []
    assert load.answered > 50


def test_a_job_on_a_member_that_is_gone_does_not_fire() -> None:
    faults = (Fault(500, "replace", 0, ("n1",)), Fault(4500, "defragment", 0, ("n1",)))
    result, _ = run(4, schedule=faults)
    assert result.faults_fired == {"replace": 1}


def test_what_members_hold_and_what_their_disks_hold_is_compared() -> None:
    result, _ = run(5, schedule=(Fault(500, "compact", 3000, ("n1",), 0), Fault(2000, "kill", 500, ("n3",))))
    assert result.problems == []
    assert result.points["keeper.commit.after"] > 10
