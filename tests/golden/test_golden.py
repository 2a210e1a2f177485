"""Plays the recorded cases against Tercet: real etcd's answers, byte for byte."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tercet.net.config import member_id

from ..e2e.processes import environment
from .recorder.diff import view

HERE = Path(__file__).parent
#: Each is one fresh server or cluster: `c3_` etcdctl is the client, `h3_` the JSON gateway is asked, `x_`
#: what real etcd dies of.
GROUPS = (
    "c3_kv", "c3_compact", "c3_watch", "c3_lease", "c3_misc", "c3_lock", "c3_mirror", "c3_auth_enable",
    "c3_cluster", "c3_member_life", "c3_snapshot", "c3_tls", "c3_migrate", "h3_watch", "h3_lease",
    "h3_cluster", "h3_concurrency", "h3_swagger", "x_crash_grant", "x_crash_sort",
)  # fmt: skip
DISAGREE_MAX = 0.03

pytestmark = pytest.mark.needs("etcdctl")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The cases in a folder of recordings, by id."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return {record["id"]: record for record in map(json.loads, lines)}


def free_ports(count: int) -> list[int]:
    """Where each of so many recorders may put its members: from a port on, ten ports a member.

    From below the range that the system gives to outgoing connections, of which there will be thousands.
    """
    found: list[int] = []
    start = 20_000 + os.getpid() % 40 * 100
    for base in range(start, 32_000):
        if _has_recorded_order(base) and (not found or base >= found[-1] + 140) and _is_free(base):
            found.append(base)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


def _has_recorded_order(base: int) -> bool:
    """The members' ids, which follow from their ports and by which they are listed, are in recorded order."""
    peers = (f"http://127.0.0.1:{base + place}" for place in (21, 11, 1))
    third, second, first = (member_id((peer,), "golden") for peer in peers)
    return third < second < first


def _is_free(base: int) -> bool:
    with ExitStack() as bound:
        try:
            for offset in (0, 1, 10, 11, 20, 21, 30, 31, 100, 101):
                bound.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every group recorded against Tercet, all at once: most of their time is waiting."""
    folder = tmp_path_factory.mktemp("golden")
    server = f"{shlex.quote(sys.executable)} -m tercet"
    recorders = []
    for group, port in zip(GROUPS, free_ports(len(GROUPS)), strict=True):
        (folder / group).mkdir()
        command = [sys.executable, str(HERE / "recorder" / "record.py"), "--out", str(folder / group),
                   "--etcd", server, "--groups", group, "--port-base", str(port), "--slow"]  # fmt: skip
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


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The cases whose recordings differ: what was expected, and what was found."""
    found = {}
    for name, record in theirs.items():
        skipped = {*record.get("ignore", []), *ours[name].get("ignore", [])}
        pair = [
            {field: _unpadded(value) for field, value in view(one, "strict").items() if field not in skipped}
            for one in (record, ours[name])
        ]
        if pair[0] != pair[1]:
            found[name] = pair
    return found


def _unpadded(value: Any) -> Any:
    """Without the spaces that etcdctl fills up a short member id with: one in sixteen is short."""
    return re.sub(r" +(?=<MEMBER_ID_)", " ", value) if isinstance(value, str) else value


def disagreements() -> dict[str, str]:
    """The cases in which we differ on purpose, and why."""
    found: dict[str, str] = json.loads((HERE / "disagreements.json").read_text())
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_tercet_answers_as_etcd_does(recorded: Path, group: str) -> None:
    ours = read(recorded / group)
    theirs = {name: record for name, record in read(HERE / "recordings").items() if record["group"] == group}
    assert ours.keys() == theirs.keys(), (recorded / group / "log").read_text()
    differing, listed = differences(ours, theirs), disagreements()
    assert {name: pair for name, pair in differing.items() if name not in listed} == {}
    assert [name for name in theirs if name in listed and name not in differing] == []


def test_every_listed_disagreement_names_a_case_and_a_reason_and_they_are_few() -> None:
    cases, listed = read(HERE / "recordings"), disagreements()
    assert [name for name in listed if name not in cases] == []
    assert min(map(len, listed.values())) > 10
    assert len(listed) <= DISAGREE_MAX * len(cases)
