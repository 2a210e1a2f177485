"""Snapshot commands on files and directories that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.net.ctl.etcdctl_table import ETCDCTL
from tercet.net.ctl.failures import INTERRUPTED, Failure
from tercet.net.ctl.files import PartFile
from tercet.net.ctl.run import run_program


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a file without sense and a folder in it; the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk").write_bytes(b"junk" * 3000)
    (tmp_path / "folder").mkdir()
    return tmp_path


LOCAL = "default=http://localhost:2380"
NO_SCHEME = "URL scheme must be http, https, unix, or unixs: "


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("status folder", "open folder: is a directory"),
        ("status nowhere", "stat nowhere: no such file or directory"),
        ("status junk", "invalid database"),
        ("restore folder", "read folder: is a directory"),
        ("restore nowhere", "open nowhere: no such file or directory"),
        ("restore junk", "snapshot missing hash but --skip-hash-check=false"),
        ("restore junk --skip-hash-check", "invalid database"),
        ("restore junk --data-dir=folder", 'data-dir "folder" exists'),
        ("restore junk --wal-dir=folder", 'wal-dir "folder" exists'),
        (f"restore junk --initial-cluster={LOCAL},b=ftp://x:1", NO_SCHEME + "ftp://x:1"),
        ("restore junk --initial-cluster=default=h:1", NO_SCHEME + "h:1"),
        ("restore junk --initial-cluster=x", NO_SCHEME),
        ("restore junk --initial-advertise-peer-urls=x", NO_SCHEME + "x"),
        ("restore junk --initial-advertise-peer-urls=", NO_SCHEME),
        ("restore junk --initial-cluster=",
         'couldn\'t find local name "default" in the initial cluster configuration'),
        (f"restore junk --initial-cluster={LOCAL},b=http://localhost:2380",
         f"initial cluster b=http://localhost:2380,{LOCAL} has duplicate url"),
        (f"restore junk --initial-cluster={LOCAL},{LOCAL}"
         " --initial-advertise-peer-urls=http://localhost:2380,http://localhost:2380",
         f"initial cluster {LOCAL},{LOCAL} has duplicate url"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_and_nothing_is_made(
    here: Path, words: str, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_program(ETCDCTL, ["snapshot", *words.split()], {}) == 1
    told = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("{")]
    assert told == [f"Error: {problem}"]
    if "skip" not in words:  # which is about to be restored when it turns out to be none
        assert sorted(path.name for path in here.iterdir()) == ["folder", "junk"]


def test_a_folder_is_not_replaced_by_a_file(here: Path) -> None:
    file = PartFile("folder")
    with pytest.raises(Failure) as failed:
        file.finish()
    file.close()
    text = "could not rename folder.part to folder (rename folder.part folder: file exists)"
    assert (failed.value.status, failed.value.text) == (INTERRUPTED, text)
    assert not (here / "folder.part").exists()
