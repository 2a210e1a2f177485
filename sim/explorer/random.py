"""Random exploration: run schedules drawn from seeds, judge them, shrink and replay those that fail.

Everything a run does follows from its ``Settings`` and ``Choices``, so the same seed gives the same digest
in any process, and a recorded schedule gives the digest of the run it was recorded from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec

from ..invariants import Violation
from .choices import Choices, FixedChoices, RandomChoices, draw_settings
from .schedule import Schedule, Settings
from .world import Recorder, World

__all__ = ["Exploration", "Outcome", "explore", "replay", "run_seed"]


class Outcome(msgspec.Struct, frozen=True):
    """What one schedule came to."""

    seed: int
    valid: bool
    rule: str  # of the violation; "" when valid
    text: str
    digest: str  # hexadecimal, of every step's visible state
    virtual_us: int
    steps: int
    schedule: Schedule


class Exploration(msgspec.Struct, frozen=True):
    """What a search came to; ``failure`` is the first failing schedule, if one was found."""

    first_seed: int
    schedules: int
    cpu_seconds: float
    virtual_seconds: float
    steps: int
    digest: str  # over the digests of all schedules, whatever their order
    failure: Outcome | None


def run_seed(
    seed: int, *, nodes: int = 5, seconds: float = 8.0, strict: bool = True, recorder: Recorder | None = None
) -> Outcome:
    """Run the random schedule of ``seed``: ``seconds`` of virtual time with faults, then the finale."""
    settings = draw_settings(seed, nodes, seconds, strict)
    return _run(settings, RandomChoices(settings), recorder)


def replay(schedule: Schedule, recorder: Recorder | None = None) -> Outcome:
    """Run a schedule given as data."""
    return _run(schedule.settings, FixedChoices(schedule), recorder)


def _run(settings: Settings, choices: Choices, recorder: Recorder | None) -> Outcome:
    world = World(settings, choices, recorder)
    rule = text = ""
    try:
        world.run()
    except Violation as violation:
        rule, text = violation.rule, violation.text
    schedule = Schedule(settings, tuple(choices.taken))
    digest = f"{world.digest:016x}"
    return Outcome(settings.seed, not rule, rule, text, digest, world.now, world.steps, schedule)


def explore(
    *,
    first_seed: int = 0,
    schedules: int | None = None,
    cpu_seconds: float | None = None,
    nodes: int = 5,
    seconds: float = 8.0,
    strict: bool = True,
    progress: Callable[[int, float], None] | None = None,
) -> Exploration:
    """Run the schedules of consecutive seeds until one fails or a limit is reached.

    Args:
        schedules: how many at most; None: no such limit.
        cpu_seconds: how long at most, in this process' CPU time; None: no such limit.
        seconds: virtual time with faults in each schedule.
        progress: called after each schedule with the number done and the CPU seconds used.
    """
    start = time.process_time()
    done = steps = virtual_us = mixed = 0
    failure = None
    for seed in _seeds(first_seed, schedules):
        outcome = run_seed(seed, nodes=nodes, seconds=seconds, strict=strict)
        done += 1
        steps += outcome.steps
        virtual_us += outcome.virtual_us
        mixed = (mixed + int(outcome.digest, 16) * (2 * seed + 1)) & (1 << 64) - 1
        used = time.process_time() - start
        if progress is not None:
            progress(done, used)
        if not outcome.valid:
            failure = outcome
            break
        if cpu_seconds is not None and used >= cpu_seconds:
            break
    used = time.process_time() - start
    return Exploration(first_seed, done, used, virtual_us / 1e6, steps, f"{mixed:016x}", failure)


def _seeds(first_seed: int, schedules: int | None) -> Iterator[int]:
    seed = first_seed
    while schedules is None or seed < first_seed + schedules:
        yield seed
        seed += 1
