"""Traces that the tests of reports share."""

from __future__ import annotations

import pytest

from tercet.core.trace import Trace, read_trace

from ..core.traced_cluster import small_history


@pytest.fixture(scope="session")
def trace_bytes() -> bytes:
    """An election, writes, a leader cut off, a crash and a restart."""
    return bytes(small_history().data)


@pytest.fixture(scope="session")
def trace(trace_bytes: bytes) -> Trace:
    return read_trace(trace_bytes)
