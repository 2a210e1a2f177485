"""The whole cluster in the simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from tercet.core.trace import read_trace, verify
from tercet.net.node import Node
from tercet.sim.commands import make_sim_group, parse_seeds
from tercet.sim.faults import Fault
from tercet.sim.run import Experiment, run_simulation
from tercet.sim.world import SimWorld

from . import load


def test_three_members_serve_and_agree_without_faults() -> None:
    result, clients = load.run(1, schedule=())
    assert result.problems == []
    assert result.operations == clients.answered > 300
    assert result.faults_fired == {}


@pytest.mark.parametrize("nodes", [1, 5])
def test_clusters_of_other_sizes_run_too(nodes: int) -> None:
    schedule = (Fault(1000, "power-cut", 1000, ("n1",)),)
    result, clients = load.run(2, nodes=nodes, schedule=schedule)
    assert result.problems == []
    assert result.faults_fired == {"power-cut": 1}
    assert clients.answered > 100


def test_the_cluster_survives_drawn_faults_and_runs_alike_in_every_process() -> None:
    seeds = (11, 12, 13)
    here = []
    for seed in seeds:
        result, _ = load.run(seed)
        assert result.problems == []
        assert result.faults_fired
        here.append(result.digest)
    command = [sys.executable, str(Path(load.__file__)), *map(str, reversed(seeds))]
    environment = {**os.environ, "PYTHONHASHSEED": "99"}
    there = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    assert there.stdout.split()[::-1] == here


def test_an_acknowledged_write_survives_when_all_lose_power_at_once() -> None:
    schedule = (Fault(2000, "power-cut-all", 1000), Fault(4000, "power-cut-all", 500))
    result, clients = load.run(3, schedule=schedule)
    assert result.problems == []
    assert result.faults_fired == {"power-cut-all": 2}
    assert clients.answered > 100


def test_a_run_can_record_a_trace_that_the_core_confirms() -> None:
    parts: list[bytes] = []
    schedule = (Fault(1500, "kill", 500, ("leader",)), Fault(3000, "isolate-leader", 1500, ("leader",)))
    plain, _ = load.run(4, schedule=schedule)
    traced, _ = load.run(4, schedule=schedule, trace=parts.append)
    assert traced.digest == plain.digest
    trace = read_trace(b"".join(parts))
    found = verify(trace.records)
    assert found.mismatches == ()
    assert len(found.nodes) == 3
    assert found.steps > 1000
    kinds = {record.kind for record in trace.records if hasattr(record, "kind")}
    assert kinds == {"fault", "heal"}


def test_a_member_that_ends_with_an_exception_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., Any] = Node._turn

    def turn(self: Any) -> None:
        if self.applied_index > 50 and self.is_leader:
            raise ZeroDivisionError("planted")
        original(self)

    monkeypatch.setattr(Node, "_turn", turn)
    result, _ = load.run(5, schedule=())
    assert any("ZeroDivisionError: planted" in problem for problem in result.problems)


def test_a_cluster_that_does_not_serve_after_healing_is_a_problem() -> None:
    class Sabotage(load.Load):
        def cut(self, sim: SimWorld) -> bool:
            for link in sim.network.links(["n2"], ["n1", "n3"]):
                link.cut += 1
            return False

        async def client(self, setting: Any) -> None:
            if setting.number == 0:
                engine = setting._sim.engine
                engine.after(2_000_000_001, self.cut, setting._sim)  # just after everything has healed
            await super().client(setting)

    result = run_simulation(6, Sabotage(), seconds=2.0, schedule=())
    assert any("after healing: does not serve: n2" in problem for problem in result.problems)


class _Harness:
    workloads = ("load",)

    def __init__(self, verdict: str = "valid") -> None:
        self.verdict = verdict

    def experiment(self, workload: str, seed: int) -> Experiment:
        return load.Load()

    def judge(self, experiment: Experiment) -> tuple[str, str]:
        return self.verdict, "because"

    def mutation(self, name: str) -> AbstractContextManager[None]:
        if name != "B4":
            raise ValueError(f"no mutation {name}")
        return nullcontext()


def _invoke(*arguments: str, verdict: str = "valid") -> Any:
    return CliRunner().invoke(make_sim_group(_Harness(verdict)), ["run", "--seconds", "1", *arguments])


def test_the_command_prints_one_object_a_seed() -> None:
    found = _invoke("--seeds", "1..2", "--faults", "none", "--json", "--mutation", "B4")
    assert found.exit_code == 0, found.output
    rows = [msgspec.json.decode(line) for line in found.stdout.splitlines()]
    assert [row["seed"] for row in rows] == [1, 2]
    needed = {"seed", "digest", "verdict", "virtual_seconds", "cpu_seconds", "faults_fired", "operations"}
    assert needed <= set(rows[0])


@pytest.mark.parametrize(("verdict", "code"), [("invalid", 1), ("unknown", 2)])
def test_the_exit_code_is_the_verdict(verdict: str, code: int) -> None:
    found = _invoke("--seed", "1", "--faults", "kill", verdict=verdict)
    assert found.exit_code == code
    assert f"seed 1  {verdict}" in found.stdout
    assert "because" in found.stdout


def test_without_a_seed_one_is_drawn_and_printed() -> None:
    first, second = (_invoke("--faults", "none").stdout.split()[1] for _ in range(2))
    assert first != second


def test_a_schedule_can_be_given_and_a_trace_written(tmp_path: Path) -> None:
    plan = tmp_path / "schedule.json"
    plan.write_bytes(msgspec.json.encode((Fault(100, "kill", 300, ("n1",)),)))
    trace = tmp_path / "run.trace"
    found = _invoke("--seed", "1", "--schedule", str(plan), "--trace", str(trace))
    assert found.exit_code == 0, found.output
    assert "faults: kill 1" in found.stdout
    assert verify(read_trace(trace.read_bytes()).records).mismatches == ()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--seed", "1", "--seeds", "1..2"), "give --seed or --seeds"),
        (("--seeds", "2..1"), "need N <= M"),
        (("--faults", "rain"), "no fault is called 'rain'"),
        (("--mutation", "B99"), "no mutation B99"),
        (("--seeds", "1..2", "--trace", "x"), "--trace records one seed"),
    ],
)
def test_wrong_options_are_explained(arguments: tuple[str, ...], text: str) -> None:
    found = _invoke(*arguments)
    assert found.exit_code == 2
    assert text in found.output


def test_seed_ranges_include_both_ends() -> None:
    assert list(parse_seeds("3..5")) == [3, 4, 5]
    assert list(parse_seeds("7")) == [7]
