"""Plays the recorded cases against Tercet: real etcd's answers, value for value."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..e2e.processes import environment
from .recorder.diff import view

HERE = Path(__file__).parent
#: Each is one fresh server: `c3_` etcdctl is the client, `h3_` the JSON gateway is asked.
GROUPS = ("c3_kv", "c3_compact", "c3_watch", "c3_lease", "c3_misc", "c3_lock", "c3_mirror",
          "h3_watch", "h3_lease", "h3_concurrency")  # fmt: skip
AGREE_MIN = 0.95

pytestmark = pytest.mark.needs("etcdctl")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The cases in a folder of recordings, by id."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return {record["id"]: record for record in map(json.loads, lines)}


def free_ports(count: int) -> list[int]:
    """Where each of so many recorders may put its member: at a port, the next, and both of them 100 higher.

    From below the range that the system gives to outgoing connections, of which there will be thousands.
    """
    for turn in range(60):
        first = 20_000 + (os.getpid() + turn) % 60 * 200
        bases = [first + 10 * place for place in range(count)]
        with ExitStack() as bound:
            try:
                for port in (base + offset for base in bases for offset in (0, 1, 100, 101)):
                    bound.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return bases
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every group recorded against Tercet, all at once: most of their time is waiting."""
    folder = tmp_path_factory.mktemp("golden")
    server = f"{shlex.quote(sys.executable)} -m tercet"
    recorders = []
    for group, port in zip(GROUPS, free_ports(len(GROUPS)), strict=True):
        (folder / group).mkdir()
        command = [sys.executable, str(HERE / "recorder" / "record.py"), "--out", str(folder / group),
                   "--etcd", server, "--groups", group, "--port-base", str(port)]  # fmt: skip
        with open(folder / group / "log", "wb") as log:
            recorders.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment()))
    try:
        for recorder in recorders:
            recorder.wait(300)
        yield folder
    finally:
        for recorder in recorders:
            recorder.kill()
            recorder.wait()


@pytest.mark.parametrize("group", GROUPS)
def test_tercet_answers_as_etcd_does(recorded: Path, group: str) -> None:
    ours = read(recorded / group)
    theirs = {name: record for name, record in read(HERE / "recordings").items() if record["group"] == group}
    assert ours.keys() == theirs.keys(), (recorded / group / "log").read_text()
    reasons = json.loads((HERE / "disagreements.json").read_text())
    differing = {}
    for name, record in theirs.items():
        skipped = {*record.get("ignore", []), *ours[name].get("ignore", [])}
        expected, found = (
            {field: value for field, value in view(r, "semantic").items() if field not in skipped}
            for r in (record, ours[name])
        )
        if expected != found:
            differing[name] = (expected, found)
    unexplained = {name: pair for name, pair in differing.items() if name not in reasons}
    assert unexplained == {}
    assert len(differing) <= (1 - AGREE_MIN) * len(theirs)


def test_every_listed_disagreement_names_a_case_and_a_reason() -> None:
    cases = read(HERE / "recordings")
    for name, reason in json.loads((HERE / "disagreements.json").read_text()).items():
        assert name in cases
        assert len(reason) > 10
