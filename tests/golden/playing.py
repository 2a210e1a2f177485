"""Playing the recorded cases with our programs in the place of etcd's, and comparing what comes out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tercet.jepsen_like.ports import hold_port
from tercet.net.config import member_id

from ..e2e.processes import environment
from .recorder.diff import view

HERE = Path(__file__).parent
RECORDER = HERE / "recorder" / "record.py"
#: Real etcd's answers.
RECORDINGS = HERE / "recordings"
MOST_SECONDS = 1200
#: More would make each other late: what happens meanwhile happens at its time.
AT_ONCE = 8

Record = dict[str, Any]


def read(folder: Path, group: str = "") -> dict[str, Record]:
    """The cases in a folder of recordings, by id; those of one group, or all."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        with open(path) as lines:  # which end at line feeds alone: a record may hold other ends of lines
            for record in map(json.loads, lines):
                if group in ("", record["group"]):
                    found[record["id"]] = record
    return found


def play(folder: Path, groups: Sequence[str], *programs: str) -> None:
    """Record each group into a folder of its own, several at once: most of their time is waiting.

    Args:
        folder: Where to.
        groups: Which; those that take long had better come first.
        programs: Options of the recorder that name ours.
    """

    running: list[subprocess.Popen[bytes]] = []

    def record(group: str, port: int) -> None:
        (folder / group).mkdir()
        command = [sys.executable, str(RECORDER), "--out", str(folder / group), "--groups", group,
                   "--port-base", str(port), "--slow", *programs]  # fmt: skip
        with open(folder / group / "log", "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
            )
            running.append(process)
            try:
                process.wait(MOST_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()

    with ExitStack() as held, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            list(pool.map(record, groups, free_ports(len(groups), held)))
        except BaseException:  # the tests are ended: so are the recorders, which end their servers
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise


def compared(folder: Path, group: str) -> dict[str, tuple[Record, Record]]:
    """The cases of a group that differ from real etcd's: what was expected, and what was found."""
    ours, theirs = read(folder / group), read(RECORDINGS, group)
    assert ours.keys() == theirs.keys(), (folder / group / "log").read_text()
    found = {}
    for name, record in theirs.items():
        skipped = {*record.get("ignore", []), *ours[name].get("ignore", [])}
        expected, got = (
            {field: _unpadded(value) for field, value in view(one, "strict").items() if field not in skipped}
            for one in (record, ours[name])
        )
        if expected != got:
            found[name] = (expected, got)
    return found


def _unpadded(value: Any) -> Any:
    """Without the spaces that etcdctl fills up a short member id with: one in sixteen is short."""
    return re.sub(r" +(?=<MEMBER_ID_)", " ", value) if isinstance(value, str) else value


def free_ports(count: int, held: ExitStack) -> list[int]:
    """Where each of so many recorders may put its members: from a port on, ten ports a member.

    From below the range that the system gives to outgoing connections, of which there will be thousands.
    Others who look for free ports, too, do not get these before ``held`` ends; servers do: see ``hold_port``.
    """
    found: list[int] = []
    start = 20_000 + os.getpid() % 40 * 100
    for base in range(start, 32_000):
        if _has_recorded_order(base) and (not found or base >= found[-1] + 140) and _take(base, held):
            found.append(base)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")


def _has_recorded_order(base: int) -> bool:
    """The members' ids, which follow from their ports and by which they are listed, are in recorded order."""
    peers = (f"http://127.0.0.1:{base + place}" for place in (21, 11, 1))
    third, second, first = (member_id((peer,), "golden") for peer in peers)
    return third < second < first


def _take(base: int, held: ExitStack) -> bool:
    """Hold the ports of a recorder, if nobody else has one of them."""
    with ExitStack() as taken:
        try:
            for offset in (0, 1, 10, 11, 20, 21, 30, 31, 100, 101):
                taken.enter_context(hold_port(base + offset))
        except OSError:
            return False
        held.enter_context(taken.pop_all())
    return True
