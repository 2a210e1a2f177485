"""Every transcript prints what it printed when somebody last read it (``pytest --rewrite`` regenerates)."""

from __future__ import annotations

from pathlib import Path

import pytest

from .raft_transcript import run_file

_HERE = Path(__file__).parent
_FILES = sorted((_HERE / "transcripts").glob("raft_*.txt"))


def test_there_are_transcripts() -> None:
    assert len(_FILES) >= 40


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_a_transcript_prints_what_it_always_did(path: Path, request: pytest.FixtureRequest) -> None:
    before = path.read_text()
    after = run_file(before)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(after)
        return
    assert after == before
