"""Log files that are put aside when they have grown, and ports that are shared."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tercet.net.log_outputs import open_outputs
from tercet.net.log_rotation import RotatingFile, Rotation, read_rotation
from tercet.net.real import RealNetwork

LINE = b"x" * 1023 + b"\n"
START = datetime(2026, 1, 31, 12, 0, 0, 789_000, tzinfo=UTC)


class Clock:
    """A minute later at each question."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += timedelta(minutes=1)
        return self.now


def fill(path: Path, rotation: Rotation, mebibytes: float) -> None:
    file = RotatingFile(str(path), rotation, Clock())
    for _ in range(int(mebibytes * 1024)):
        file.write(LINE)
    file.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_put_aside_before_it_grows_beyond_its_size(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    path.write_bytes(LINE * 512)  # of an earlier life
    fill(path, Rotation(maxsize=1), 2)
    aside = ["etcd-2026-01-31T12-01-00.789.log", "etcd-2026-01-31T12-02-00.789.log"]
    assert names(tmp_path) == [*aside, "etcd.log"]
    assert [(tmp_path / name).stat().st_size for name in aside] == [1 << 20, 1 << 20]
    assert path.read_bytes() == LINE * 512


def test_only_the_newest_are_kept_and_compressed(tmp_path: Path) -> None:
    path = tmp_path / "etcd.log"
    (tmp_path / "etcd-other.log").write_bytes(b"not ours")
    fill(path, Rotation(maxsize=1, maxbackups=2, compress=True), 4.5)
    kept = ["etcd-2026-01-31T12-03-00.789.log.gz", "etcd-2026-01-31T12-04-00.789.log.gz"]
    assert names(tmp_path) == [*kept, "etcd-other.log", "etcd.log"]
    assert gzip.decompress((tmp_path / kept[0]).read_bytes()) == LINE * 1024


def test_those_of_too_many_days_ago_go(tmp_path: Path) -> None:
    old, young = tmp_path / "e-2026-01-01T00-00-00.000.log", tmp_path / "e-2026-01-30T12-00-00.000.log"
    for path, days in ((old, 8), (young, 1)):
        path.write_bytes(b"")
        stamp = (START - timedelta(days=days)).timestamp()
        os.utime(path, (stamp, stamp))
    fill(tmp_path / "e.log", Rotation(maxsize=1, maxage=7), 1.5)
    assert names(tmp_path) == [young.name, "e-2026-01-31T12-01-00.789.log", "e.log"]


def test_a_folder_that_refuses_lets_the_file_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", refuse)
    fill(tmp_path / "etcd.log", Rotation(maxsize=1), 1.5)
    assert (tmp_path / "etcd.log").stat().st_size == 3 << 19


def test_an_output_is_rotated_when_that_is_asked_for(tmp_path: Path) -> None:
    write = open_outputs([str(tmp_path / "a.log")], read_rotation('{"maxsize": 1}'))
    for _ in range(3 * 512):
        write(LINE.decode())
    assert len(names(tmp_path)) == 2


async def test_a_port_is_shared_only_by_those_who_ask_for_it() -> None:
    sharing = RealNetwork(reuse_port=True)
    first = await sharing.listen("127.0.0.1", 0)
    port = int(first.address.rpartition(":")[2])
    second = await sharing.listen("127.0.0.1", port)
    with pytest.raises(OSError, match="address already in use"):
        await RealNetwork().listen("127.0.0.1", port)
    first.close()
    second.close()
