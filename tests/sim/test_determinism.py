"""One seed, one run: in this process, in others, after other runs, under any hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import toy

SEEDS = (0, 7, 123_456_789)


def _in_a_process(hash_seed: str, seeds: tuple[int, ...]) -> dict[int, str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(Path(toy.__file__)), *map(str, seeds)]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    return dict(zip(seeds, found.stdout.split(), strict=True))


@pytest.fixture(scope="module")
def here() -> dict[int, str]:
    return {seed: toy.digest(seed) for seed in SEEDS}


def test_a_second_run_in_the_same_process_is_the_same(here: dict[int, str]) -> None:
    assert {seed: toy.digest(seed) for seed in reversed(SEEDS)} == here


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_another_process_with_another_hash_seed_runs_the_same(here: dict[int, str], hash_seed: str) -> None:
    assert _in_a_process(hash_seed, SEEDS[::-1]) == here


def test_different_seeds_run_differently(here: dict[int, str]) -> None:
    assert len(set(here.values())) == len(SEEDS)


def test_the_full_log_changes_nothing(here: dict[int, str]) -> None:
    assert toy.digest(7, full_log=True) == here[7]
