"""``tercet trace`` on files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from tercet.core.trace import Step, Trace, TraceEncoder
from tercet.reports import commands


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands.trace, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path, trace_bytes: bytes) -> Path:
    path = tmp_path / "run.trace"
    path.write_bytes(trace_bytes)
    return path


def test_a_good_trace_is_valid(file: Path, trace: Trace) -> None:
    result = run("verify", file)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"valid: {len(trace.records)} records of 3 nodes (n1, n2, n3)")
    row = json.loads(run("verify", "--json", file).output)
    assert (row["verdict"], row["mismatches"], row["seed"], row["truncated"]) == ("valid", [], 1, False)


def test_a_changed_trace_is_invalid_and_says_where(file: Path, trace: Trace) -> None:
    data = bytearray(file.read_bytes())
    step = next(record for record in trace.records if isinstance(record, Step) and record.effects.entries)
    at = data.index(step.digest)
    data[at] ^= 1
    file.write_bytes(data)
    result = run("verify", file)
    assert result.exit_code == 1
    place = trace.records.index(step)
    assert f"mismatch at record {place}, n1 step {step.sequence}: digest" in result.output
    (mismatch,) = json.loads(run("verify", "--json", file).output)["mismatches"]
    assert (mismatch["record"], mismatch["what"]) == (place, "digest")


def test_a_trace_without_steps_is_unknown(file: Path, trace: Trace) -> None:
    file.write_bytes(TraceEncoder().begin(trace.header))
    assert run("verify", file).exit_code == 2


def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    for path, text in ((junk, "not a trace"), (tmp_path / "none", "No such file or directory")):
        result = run("verify", path)
        assert result.exit_code == 2
        assert text in result.output
        assert len(result.output.splitlines()) == 1


def test_a_trace_cut_short_is_still_verified(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])
    result = run("verify", file)
    assert result.exit_code == 0
    assert "ends inside a record" in result.output


def test_show_tells_the_story(file: Path) -> None:
    lines = run("show", file).output.splitlines()
    story = "n1  hears from n2: vote granted · becomes leader in term 1 · writes entry 1"
    assert any(story in line for line in lines)
    assert any("cut off: n1" in line for line in lines)
    why = "The reply answers a question this node no longer asks. (vote of 3 in term 1) [Raft 5.2]"
    assert any(line.endswith(why) for line in lines)
    some = run("show", file, "--node", "n2", "--count", "5").output.splitlines()
    assert len(some) == 5
    assert all("n2" in line for line in some)
    assert len(run("show", file, "--all").output.splitlines()) > 2 * len(lines)


def test_export_writes_the_player_and_the_picture(file: Path) -> None:
    result = run("export", file, "--title", "a lesson")
    assert result.exit_code == 0
    assert "a lesson" in file.with_suffix(".html").read_text()
    target = file.with_name("picture.svg")
    assert run("export", file, "--svg", "--at", "100", "-o", target).output.strip() == str(target)
    assert target.read_text().startswith("<svg")
    assert run("export", file, "-o", file / "impossible").exit_code == 2


def test_the_traces_of_single_members_are_taken_together(tmp_path: Path, trace: Trace) -> None:
    from tercet.core.trace import _frame

    files = []
    for node in trace.nodes:
        path = tmp_path / f"n{node}.trace"
        header = TraceEncoder().begin(replace(trace.header, members=((node, f"n{node}"),)))
        path.write_bytes(header + b"".join(_frame(record) for record in trace.records if record.node == node))
        files.append(path)
    result = run("verify", *files)
    assert result.exit_code == 0
    assert "3 nodes (n1, n2, n3)" in result.output
