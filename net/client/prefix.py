"""The range of all keys that begin alike."""

from __future__ import annotations

__all__ = ["prefix_end"]


def prefix_end(prefix: bytes) -> bytes:
    """The ``range_end`` for all keys that begin with ``prefix``; from-key for the empty one or only 0xff."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"
