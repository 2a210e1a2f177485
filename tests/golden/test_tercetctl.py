"""tercetctl in the place of etcdctl, against a real etcd: the recordings, word for word."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.processes import environment
from .recorder.diff import view
from .test_golden import HERE, free_ports, read

GROUPS = ("c3_kv", "c3_compact", "c3_watch", "c3_lease", "c3_misc", "c3_lock", "c3_mirror")
#: etcd tells the keys of a lease in the order of a Go map: another one every time.
UNORDERED = {"c3_lease/timetolive-keys"}

pytestmark = pytest.mark.needs("etcd")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every group recorded with tercetctl, all at once."""
    folder = tmp_path_factory.mktemp("tercetctl")
    client = f"{shlex.quote(sys.executable)} -m tercet.net.ctl"
    recorders = []
    for group, port in zip(GROUPS, free_ports(len(GROUPS)), strict=True):
        (folder / group).mkdir()
        command = [sys.executable, str(HERE / "recorder" / "record.py"), "--out", str(folder / group),
                   "--etcdctl", client, "--groups", group, "--port-base", str(port)]  # fmt: skip
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
def test_tercetctl_says_what_etcdctl_says(recorded: Path, group: str) -> None:
    ours = read(recorded / group)
    theirs = {name: record for name, record in read(HERE / "recordings").items() if record["group"] == group}
    assert ours.keys() == theirs.keys(), (recorded / group / "log").read_text()
    differing = {}
    for name, record in theirs.items():
        if name in UNORDERED:
            assert sorted(ours[name]["stdout"]) == sorted(record["stdout"])
            continue
        skipped = {*record.get("ignore", []), *ours[name].get("ignore", [])}
        expected, found = (
            {field: value for field, value in view(one, "strict").items() if field not in skipped}
            for one in (record, ours[name])
        )
        if expected != found:
            differing[name] = (expected, found)
    assert differing == {}
