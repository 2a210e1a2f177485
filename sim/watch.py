"""Raft's figure 3, watched at every step of a simulated run, each step at the time at which it happens."""

from __future__ import annotations

from typing import NamedTuple

from tercet.core.raft.state import RaftState
from tercet.core.raft.types import Effects

from .host import Process
from .invariants import Invariants, Violation
from .world import SimWorld

__all__ = ["Watch"]


class _Step(NamedTuple):
    """One that a program takes at ``due`` (virtual ns), after the call that blocks it."""

    due: int
    process: Process
    name: str
    event: object
    effects: object
    state: RaftState


class Watch:
    """Watches the members' cores for breaches of Raft's figure 3; the first one counts.

    A member that blocks is simulated ahead of time: what it does then counts when its time comes, and never
    if it dies before.
    """

    def __init__(self, sim: SimWorld) -> None:
        self._violations: list[str] = []
        self._invariants = Invariants()
        self._sim = sim
        self._ahead: list[_Step] = []
        self._last: dict[str, RaftState] = {}

    def __call__(self, name: str, event: object, effects: object, state: RaftState) -> None:
        if event is not None and self._last.get(name) is state:
            return  # most steps change nothing
        self._last[name] = state
        if self._ahead:
            self._catch_up(self._sim.engine.now)
        host = self._sim.hosts[name]
        if host.stalled_until > self._sim.engine.now and host.process is not None:
            self._ahead.append(_Step(host.stalled_until, host.process, name, event, effects, state))
        else:
            self._observe(name, event, effects, state)

    def finish(self) -> list[str]:
        """What was found in the whole run: at most one story."""
        self._catch_up(self._sim.engine.now)
        return self._violations

    def _catch_up(self, now: int) -> None:
        waiting, self._ahead = self._ahead, []
        for step in sorted(waiting, key=lambda step: step.due):
            ended = step.process.ended
            if ended is None and step.due > now:
                self._ahead.append(step)
            elif ended is None or step.due <= ended:
                self._observe(step.name, step.event, step.effects, step.state)

    def _observe(self, name: str, event: object, effects: object, state: RaftState) -> None:
        if self._violations:
            return
        try:
            if event is None:
                self._invariants.restarted(state.config.node_id, state)
            else:
                assert isinstance(effects, Effects)
                self._invariants.observe(state.config.node_id, state, effects)
        except Violation as violation:
            self._violations.append(f"invariant broken on {name}: {violation}")
