"""Carrying compactions out, a step at a time, and saying what that took.

A compaction takes effect at once; the records that it leaves over are dropped afterwards, in steps so small
that nobody waits for them. ``Scrubber`` makes one step when it is asked, and keeps the numbers that etcd's
metrics give of a compaction: each step's time, the time of the whole, the records dropped.
"""

from __future__ import annotations

from tercet.core.machine import Machine

from .world import World

__all__ = ["Scrubber"]

_PREFIX = "etcd_debugging_mvcc_db_compaction"


class Scrubber:
    """The steps of one member's compactions.

    Args:
        records: dropped in one step, about.
    """

    def __init__(self, world: World, records: int) -> None:
        self._world = world
        self._records = records
        self._began: float | None = None  # monotonic seconds of the first step; None: nothing is under way
        self._dropped = 0

    def step(self, machine: Machine) -> None:
        """Make one step of ``machine.scrub``; to be called while ``machine.scrubbing``."""
        clock, probe, store = self._world.clock, self._world.probe, machine.store
        started = clock.monotonic()
        if self._began is None:
            self._began, self._dropped = started, 0
        before = len(store.dropped)
        machine.scrub(self._records)
        now = clock.monotonic()
        dropped = len(store.dropped) - before
        self._dropped += dropped
        probe.count(f"{_PREFIX}_keys_total", dropped)
        probe.observe(f"{_PREFIX}_pause_duration_milliseconds", (now - started) * 1000)
        if machine.scrubbing:
            return
        took, self._began = now - self._began, None
        probe.observe(f"{_PREFIX}_total_duration_milliseconds", took * 1000)
        probe.log(
            "info", "finished scheduled compaction", compact_revision=store.compacted,
            took=f"{took * 1000:.3f}ms", dropped=self._dropped,
        )  # fmt: skip
