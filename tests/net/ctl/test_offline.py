"""Defragmenting a data directory that no member uses, and leaving alone one that a member uses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tercet.net.ctl.etcdutl_table import ETCDUTL
from tercet.net.ctl.run import run_program
from tercet.net.ctl.session import world

#: Opens a backend as a member does, says so, and keeps it until its input ends.
HOLDER = """
import lmdb, sys
held = lmdb.open(sys.argv[1], subdir=False)
print("open", flush=True)
sys.stdin.read()
"""


async def _fill(path: Path) -> None:
    backend = world().disk.open_backend(str(path))
    await backend.commit([("keys", b"k", b"v")])
    backend.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data directory whose log is elsewhere, in ``log``."""
    member = tmp_path / "data" / "member"
    member.mkdir(parents=True)
    trio.run(_fill, member / "backend")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "0-0.wal").touch()
    return tmp_path / "data"


@contextmanager
def held(backend: Path) -> Iterator[None]:
    command = [sys.executable, "-c", HOLDER, str(backend)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield
        holder.communicate("")


def defrag(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    return (run_program(ETCDUTL, ["defrag", *words], {}), *capfd.readouterr())


def test_a_directory_whose_log_is_elsewhere_is_defragmented_when_that_is_told(
    data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = data_dir / "member" / "wal"
    status, _, err = defrag(capfd, f"--data-dir={data_dir}")
    assert status == 1
    assert err.endswith(f"(there is no log in {log}: name the directory of the log with --wal-dir)\n")
    done = f"Finished defragmenting etcd directory[{data_dir}]\n"
    found = defrag(capfd, f"--data-dir={data_dir}", f"--wal-dir={data_dir.parent / 'log'}")
    assert found == (0, done, "")


def test_a_directory_that_a_member_uses_is_left_alone(
    data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    backend, log = data_dir / "member" / "backend", data_dir.parent / "log"
    before = backend.stat().st_ino
    lock = world().disk.lock(str(log / "lock"))
    in_use = f"(cannot open database at {backend} (the data directory is in use))\n"
    status, _, err = defrag(capfd, f"--data-dir={data_dir}", f"--wal-dir={log}")
    lock.release()
    assert (status, err.endswith(in_use), backend.stat().st_ino) == (1, True, before)


def test_a_member_is_recognized_even_when_a_wrong_log_is_named(
    data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    backend, log = data_dir / "member" / "backend", data_dir.parent / "log"
    before = backend.stat().st_ino
    with held(backend):
        status, _, err = defrag(capfd, f"--data-dir={data_dir}", f"--wal-dir={log}")
        assert (status, backend.stat().st_ino) == (1, before)
        assert "the data directory is in use" in err
    assert defrag(capfd, f"--data-dir={data_dir}", f"--wal-dir={log}")[0] == 0
    assert backend.stat().st_ino != before
