"""Verdicts and limits: how every checker answers, and how much it may spend.

A verdict is valid, invalid or unknown, with the reason in words. An invalid one names the smallest failing
core that was found and how much of the history was fine before it. A checker stops at its limits, always,
and then says unknown. Time enters through a clock that the caller passes in, so a checker is a function of
its arguments when it is given none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import msgspec

from ..history import Operation

__all__ = ["EXIT_CODES", "Limits", "Meter", "Status", "Verdict", "worst"]

Status: TypeAlias = Literal["valid", "invalid", "unknown"]
EXIT_CODES: dict[str, int] = {"valid": 0, "invalid": 1, "unknown": 2}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one check may spend.

    ``steps`` bounds the work: one step is one attempt to place one operation (0.3 to 2 µs). ``states``
    bounds the memory: one remembered configuration takes 150 to 250 bytes. ``seconds`` needs a ``clock``
    (monotonic seconds) and is looked at every 512 steps; None: no limit on time.
    """

    steps: int = 20_000_000
    states: int = 1_000_000
    seconds: float | None = None
    clock: Callable[[], float] | None = None


class Meter:
    """What is left of the limits during one check."""

    __slots__ = ("_clock", "_deadline", "limits", "states", "steps")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.steps = 0
        self.states = 0
        self._clock = limits.clock
        timed = limits.clock is not None and limits.seconds is not None
        self._deadline = limits.clock() + limits.seconds if timed else None  # type: ignore[misc, operator]

    def exceeded(self) -> str | None:
        """The limit that has been reached, in words; None while there is none."""
        if self.steps > self.limits.steps:
            return f"stopped at the limit of {self.limits.steps} steps"
        if self.states > self.limits.states:
            return f"stopped at the limit of {self.limits.states} remembered states"
        if self._deadline is not None and self._clock is not None and self._clock() >= self._deadline:
            return f"stopped at the limit of {self.limits.seconds} seconds"
        return None


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The answer of one checker.

    ``core`` is a smallest sub-history found that is invalid by itself (empty when valid). ``checked`` is
    the number of operations in the largest prefix known to be valid, of ``total``.
    """

    verdict: Status
    checker: str
    reason: str = ""
    key: str | None = None  # the partition in which it failed
    core: tuple[Operation, ...] = ()
    checked: int = 0
    total: int = 0
    steps: int = 0
    states: int = 0

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def worst(verdicts: Iterable[Status]) -> Status:
    """Invalid if any is, else unknown if any is, else valid."""
    found = list(verdicts)
    if "invalid" in found:
        return "invalid"
    return "unknown" if "unknown" in found else "valid"
