"""Chance of a simulated process: named streams of the simulation's seed."""

from __future__ import annotations

import random

from .host import Process
from .seeds import stream

__all__ = ["SimRng"]


class SimRng:
    """The ``Rng`` port: one stream per purpose, host and incarnation (a restarted program draws anew)."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._streams: dict[str, random.Random] = {}

    def stream(self, purpose: str) -> random.Random:
        found = self._streams.get(purpose)
        if found is None:
            process = self._process
            host = process.host
            found = stream(host.engine.seed, f"program/{purpose}", f"{host.name}/{process.number}")
            self._streams[purpose] = found
        return found
