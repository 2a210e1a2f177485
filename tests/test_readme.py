"""The README is run: every command in it works as it stands, and what it promises about output holds.

A ``console`` block is read as commands (``$ ...``), each with the output that follows it. Output is
illustrative where it tells times, digests and sizes, which any change of the simulator moves; the rest must
be there for real, verdicts above all, as ``_promises`` picks them. ``exit status N`` after a command is its
expected exit status.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Run by the fixture below, and by continuous integration itself.
SPECIAL = ("make cluster", "make test")


@dataclass(frozen=True)
class Command:
    """One command of the README with the output shown for it."""

    line: str
    shown: tuple[str, ...]

    @property
    def status(self) -> int:
        """The exit status that the README says."""
        found = [int(line.split()[-1]) for line in self.shown if line.startswith("exit status ")]
        return found[0] if found else 0


def commands() -> list[Command]:
    found: list[Command] = []
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:], ()))
            else:
                found[-1] = Command(found[-1].line, (*found[-1].shown, line))
    return found


def _promises(command: Command) -> list[str]:
    """The parts of the shown output that do not depend on the machine."""
    stable = []
    for line in command.shown:
        if re.match(r"(exit status|  (member|n\d)\b)", line):
            continue
        if re.search(r"digest|\d m?s\)|CPU s|records| \d+\.\d\d ", line):  # times, or what any change moves
            stable += re.findall(r": (?:in)?valid|^(?:in)?valid|^seed \d+  valid|\d+ -> \d+  \d+/\d+", line)
        else:
            stable.append(line.rstrip())
    return [part for part in stable if part]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which the README's relative paths exist."""
    made = tmp_path_factory.mktemp("readme")
    (made / "tests").symlink_to(ROOT / "tests")
    return made


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "ETCDCTL_API": "3"}


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[None]:
    """``make cluster``, as a person would start and stop it; its data goes elsewhere."""
    log = folder / "cluster.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["make", "cluster", f"VENV={Path(sys.executable).parent.parent}",
             f"CLUSTER_ARGS=--data-dir {folder / 'data'}"],
            cwd=ROOT, stdout=out, stderr=out, env=_environment(), start_new_session=True,
        )  # fmt: skip
    try:
        for _ in range(1800):
            if "Try:" in log.read_text():
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text())
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(90)
    assert "stopped" in log.read_text()


def _needs(line: str) -> list[str]:
    """The programs that a command needs besides ours."""
    if line.startswith("tercet bench --members"):
        return ["etcd", "h2load"]
    word = line.split()[0]
    return [] if word == "tercet" else [word]


ORDINARY = [
    pytest.param(command, id=command.line[:60], marks=pytest.mark.needs(*_needs(command.line)))
    for command in commands()
    if command.line not in SPECIAL
]


def test_the_two_commands_are_there_and_ci_runs_the_second() -> None:
    assert [c.line for c in commands() if c.line in SPECIAL] == list(SPECIAL)
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_every_link_and_picture_exists() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("command", ORDINARY)
def test_every_command_works_as_it_stands(command: Command, folder: Path) -> None:
    done = subprocess.run(
        command.line, shell=True, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == command.status, done.stdout + done.stderr
    for promise in _promises(command):
        assert promise in done.stdout, f"{promise!r} is not in:\n{done.stdout}"
