"""The hunt in the simulated world, and the pool of processes under it."""

import pytest

from tercet.jepsen_like.campaign import run_campaign
from tercet.jepsen_like.experiment import Plan
from tercet.jepsen_like.motifs import MOTIFS, draw_motifs, motifs_named
from tercet.jepsen_like.mutations import MUTATIONS
from tercet.jepsen_like.simhunt import AIMS, hunt_simulated
from tercet.jepsen_like.worker import Job, Pool
from tercet.jepsen_like.workloads.mix import PROFILES


def test_a_campaign_can_be_left_in_the_middle() -> None:
    outcomes = run_campaign((Plan(seed=seed, seconds=1.0, clients=1) for seed in range(1000)), jobs=1)
    first = next(outcomes)
    outcomes.close()
    assert first.verdict == "valid", first.reason


def test_an_error_of_the_harness_is_an_outcome_that_names_it() -> None:
    with Pool(1) as pool:
        outcome = pool.submit(Job(Plan(seed=1, profile="no such workload"))).result()
    assert (outcome.verdict, outcome.checker) == ("invalid", "harness")
    assert "no workload is called" in outcome.problems[0]


def test_a_hunt_that_finds_nothing_says_so() -> None:
    catch = hunt_simulated("B4", seeds=1, seconds=1.0)
    assert not catch.found
    assert catch.seeds_tried == 1


def test_every_aim_names_a_bug_and_motifs_that_exist() -> None:
    for name, aim in AIMS.items():
        assert name in MUTATIONS
        assert motifs_named(aim.motifs)
        assert not aim.profile or aim.profile in PROFILES
    assert motifs_named("motifs") == tuple(MOTIFS)
    with pytest.raises(ValueError, match="no motif is called 'x'"):
        motifs_named("motifs:x")


def test_a_named_motif_is_the_only_one_drawn() -> None:
    kinds = {
        fault.kind
        for seed in range(20)
        for fault in draw_motifs(seed, ("n1", "n2", "n3"), 10.0, ("deposed",))
    }
    assert kinds == {"isolate-leader"}
