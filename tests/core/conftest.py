"""``pytest --rewrite`` writes what a transcript prints now in place of what it printed before."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="rewrite the transcripts with today's output")
