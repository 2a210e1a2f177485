"""Histories that others recorded get the verdicts that are known for them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tercet.jepsen_like.checkers.linearizable import check_linearizable
from tercet.jepsen_like.checkers.models import MODELS
from tercet.jepsen_like.checking import check_history
from tercet.jepsen_like.commands import check
from tercet.jepsen_like.readers import read_history

FOLDER = Path(__file__).parent / "histories"
VERDICTS = json.loads((FOLDER / "verdicts.json").read_text())
WORDS = {"linearizable": "valid", "illegal": "invalid"}


def test_every_recorded_history_has_a_verdict() -> None:
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*")}
    assert files == set(VERDICTS)
    assert len(files) == 56


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_a_recorded_history_gets_its_known_verdict(name: str) -> None:
    history = read_history((FOLDER / name).read_bytes())
    found = check_history(history)
    assert found.verdict == WORDS[VERDICTS[name]]
    if found.verdict == "valid":
        assert found.checked == found.total == len(history)
        return
    assert found.core and found.checked < found.total
    model = MODELS[history.header.model]
    assert check_linearizable(found.core, model).verdict == "invalid", "the core must be invalid by itself"


def test_the_recorded_histories_cost_few_steps() -> None:
    steps = sum(check_history(read_history((FOLDER / n).read_bytes()), core=False).steps for n in VERDICTS)
    assert steps < 60_000  # at about half a microsecond


def test_the_command_ends_with_the_worst_verdict() -> None:
    def code(*names: str) -> int:
        return CliRunner().invoke(check, [str(FOLDER / name) for name in names]).exit_code

    assert code("kv/c01-ok.txt") == 0
    assert code("kv/c01-ok.txt", "kv/c01-bad.txt") == 1
    assert code("kv/c01-ok.txt", "verdicts.json") == 2
    assert code("kv/no-such-file.txt") == 2


def test_the_command_draws_the_failing_core() -> None:
    result = CliRunner().invoke(check, [str(FOLDER / "kv/c01-bad.txt")])
    assert "smallest failing core, 3 operations" in result.output
    assert "append 7 'x 0 3 y'" in result.output


def test_the_command_prints_one_object_a_line() -> None:
    result = CliRunner().invoke(check, ["--json", str(FOLDER / "kv")])
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["verdict"]["verdict"] for row in rows] == ["invalid", "valid", "invalid", "valid"]
    assert all(row["cpu_seconds"] >= 0 for row in rows)
