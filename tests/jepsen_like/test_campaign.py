"""Runs of the whole cluster in the simulated world: valid, reproducible, and able to fail."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings

from tercet.core.trace import read_trace
from tercet.jepsen_like.campaign import Summary, run_campaign
from tercet.jepsen_like.campaign_commands import campaign
from tercet.jepsen_like.checkers.linearizable import check_linearizable
from tercet.jepsen_like.checkers.models import MODELS
from tercet.jepsen_like.experiment import Outcome, Plan, carry_out, written_out
from tercet.jepsen_like.history import Answer
from tercet.jepsen_like.readers import read_history
from tercet.jepsen_like.store import load_outcomes, load_plan
from tercet.jepsen_like.strategies import schedules
from tercet.jepsen_like.workloads.mix import PROFILES
from tercet.sim.faults import Schedule

#: A planted bug that hardly any schedule hides.
PLANTED = "B7"


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_workload_runs_without_faults_and_is_valid(profile: str) -> None:
    outcome, record = carry_out(
        Plan(seed=5, seconds=3.0, profile=profile, clients=3, pause_ms=60, schedule=())
    )
    assert outcome.verdict == "valid", outcome.reason
    assert outcome.operations > 10
    assert outcome.faults_fired == {}
    assert {operation.process for operation in record.history.operations} == {0, 1, 2}
    assert all(o.outcome == "ok" for o in record.history.operations if o.f != "revoke")
    if PROFILES[profile].watchers:
        assert any(batch.events for watch in record.history.watches for batch in watch.batches)


def test_a_run_under_two_hash_seeds_in_two_processes_is_the_same() -> None:
    plans = [Plan(seed=seed, seconds=4.0) for seed in (11, 12)]
    outcomes = list(run_campaign(plans, jobs=1, twice=True))
    assert [outcome.verdict for outcome in outcomes] == ["valid", "valid"]
    for outcome in outcomes:
        again, _ = carry_out(Plan(seed=outcome.seed, seconds=4.0))
        assert again.digest == outcome.digest, "and here, in a third process, too"
        assert again.operations == outcome.operations


def test_a_trace_changes_nothing_and_can_be_read() -> None:
    plan = Plan(seed=11, seconds=3.0)
    parts: list[bytes] = []
    traced, _ = carry_out(plan, parts.append)
    plain, _ = carry_out(plan)
    assert traced.digest == plain.digest
    assert len(read_trace(b"".join(parts)).records) > 100


def test_a_plan_written_out_is_the_same_run() -> None:
    plan = Plan(seed=13, seconds=3.0)
    full = written_out(plan)
    assert full.schedule is not None and full.clients and full.profile
    assert written_out(full) == full
    assert carry_out(plan)[0].digest == carry_out(full)[0].digest


@given(schedule=schedules(("n1", "n2", "n3"), seconds=4, max_size=6))
@settings(
    max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow], database=None,
)  # fmt: skip
def test_the_cluster_stands_what_hypothesis_thinks_of(schedule: Schedule) -> None:
    outcome, _ = carry_out(Plan(seed=1, seconds=4.0, clients=3, profile="mix", schedule=schedule))
    assert outcome.verdict == "valid", outcome.reason


def test_a_planted_bug_is_found_kept_shrunk_replayed_and_reported(tmp_path: Path) -> None:
    invoked = CliRunner().invoke(
        campaign,
        ["run", "--seeds", "0..60", "--seconds", "6", "--faults", "motifs", "--workload", "mix",
         "--mutation", PLANTED, "--first", "--shrink", "0", "--folder", str(tmp_path)],
    )  # fmt: skip
    assert invoked.exit_code == 1, invoked.output
    outcome = load_outcomes(tmp_path)[-1]
    assert outcome.verdict == "invalid"
    kept = tmp_path / f"seed-{outcome.seed}"
    assert f"tercet campaign replay {kept}" in invoked.output
    assert load_plan(kept) == outcome.plan
    assert len(read_history((kept / "history.jsonl").read_bytes())) >= outcome.operations
    assert read_trace((kept / "run.trace").read_bytes()).records

    shrunk = CliRunner().invoke(campaign, ["shrink", str(kept), "--runs", "8"])
    assert shrunk.exit_code == 1, shrunk.output
    short = load_plan(kept / "shrunk")
    assert len(short.schedule or ()) < len(outcome.plan.schedule or ())

    again = CliRunner().invoke(campaign, ["replay", str(kept / "shrunk")])
    assert again.exit_code == 1
    assert "the same digest as the first time" in again.output
    shipped, _ = carry_out(msgspec.structs.replace(short, mutation=""))
    assert shipped.verdict == "valid", "it is the planted bug that fails, not the shipped code"

    report = CliRunner().invoke(campaign, ["report", str(tmp_path)])
    assert report.exit_code == 1
    assert "1 invalid" in report.output and f"seed {outcome.seed}" in report.output
    listed = CliRunner().invoke(campaign, ["list", str(tmp_path.parent), "--json"])
    assert outcome.seed in json.loads(listed.output.splitlines()[0])["failing"]


def test_unknown_names_are_refused_before_anything_runs() -> None:
    for wrong in (["--mutation", "B99"], ["--faults", "meteor"], ["--nodes", "three"], ["--seeds", "9..1"]):
        invoked = CliRunner().invoke(campaign, ["run", *wrong])
        assert invoked.exit_code == 2, wrong
    assert CliRunner().invoke(campaign, ["replay", "no-such-folder"]).exit_code == 2


def test_a_summary_counts_what_it_is_told() -> None:
    def outcome(seed: int, verdict: str, checker: str = "") -> Outcome:
        return Outcome(
            seed=seed, digest="", verdict=verdict, checker=checker, virtual_seconds=1, cpu_seconds=2,
            check_seconds=0, faults_fired={"kill": 2}, operations=10, unknown_operations=0, problems=[],
            plan=Plan(seed=seed),
        )  # type: ignore[arg-type]  # fmt: skip

    summary = Summary()
    assert summary.verdict == "unknown"
    summary.add(outcome(1, "valid"))
    assert summary.verdict == "valid"
    summary.add(outcome(2, "unknown"))
    assert summary.verdict == "unknown"
    summary.add(outcome(3, "invalid", "determinism"))
    assert (summary.verdict, summary.mismatches, summary.failing) == ("invalid", 1, [2, 3])
    assert (summary.operations, summary.faults_fired) == (30, {"kill": 6})


def test_the_search_agrees_with_the_revisions() -> None:
    """Two checkers that share nothing: etcd's revisions, and a search that does not look at them."""
    _, record = carry_out(Plan(seed=21, seconds=6.0, profile="register", clients=4))
    registers = []
    for operation in record.history.operations:
        answer = operation.result
        if operation.f == "put":
            registers.append(msgspec.structs.replace(operation, f="write", result=None))
        else:
            seen = answer.kvs[0].value if isinstance(answer, Answer) and answer.kvs else None
            registers.append(msgspec.structs.replace(operation, f="read", result=seen))
    assert len(registers) > 50
    found = check_linearizable(registers, MODELS["register"])
    assert found.verdict == record.verdict.verdict == "valid", found.reason
