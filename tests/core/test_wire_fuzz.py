"""Two thousand random and mutated sessions; ``fuzz_wire`` runs more on demand."""

from __future__ import annotations

from .fuzz_wire import fuzz


def test_no_stream_of_bytes_breaks_the_server() -> None:
    survived = fuzz(1, 2000)
    assert 300 < survived < 1900  # the sessions are neither all broken nor all harmless
