"""tercetctl in the place of etcdctl, against a real etcd: the recordings, word for word."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from .playing import RECORDINGS, compared, play, read

#: `m3_help` has every help text.
GROUPS = (
    "m3_watch", "c3_watch", "m3_misc", "c3_misc", "m3_auth", "c3_lock", "c3_mirror", "c3_lease", "m3_tls",
    "m3_mutual", "m3_variables", "m3_cluster", "c3_kv", "c3_compact", "m3_help", "m3_txn", "m3_kv",
    "m3_lease", "m3_quota", "m3_spelling",
)  # fmt: skip
#: etcd tells the keys of a lease in the order of a Go map: another one every time.
UNORDERED = "c3_lease/timetolive-keys"

pytestmark = pytest.mark.needs("etcd")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every group recorded with tercetctl."""
    folder = tmp_path_factory.mktemp("tercetctl")
    play(folder, GROUPS, "--etcdctl", f"{shlex.quote(sys.executable)} -m tercet.net.ctl")
    return folder


@pytest.mark.parametrize("group", GROUPS)
def test_tercetctl_says_what_etcdctl_says(recorded: Path, group: str) -> None:
    differing = compared(recorded, group)
    differing.pop(UNORDERED, None)
    assert differing == {}


def test_tercetctl_tells_every_key_of_a_lease(recorded: Path) -> None:
    ours, theirs = read(recorded / "c3_lease")[UNORDERED], read(RECORDINGS)[UNORDERED]
    assert sorted(ours["stdout"]) == sorted(theirs["stdout"])
