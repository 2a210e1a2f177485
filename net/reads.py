"""Linearizable read points (ReadIndex, thesis 6.4), many readers to one round.

A reader asks; all who asked before a round starts share its context. When the core confirms the round,
its readers wait until the state machine has applied the confirmed index, and read. At most two rounds
are under way, so that under load each round carries many readers. A round that nobody confirms is
given up after ``RETRY_SECONDS`` and its readers join a new one under a new context: contexts are never
used twice (bug zoo B16), and a reader is only ever served by a round begun after it asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tercet.core.raft.types import ReadState
from tercet.core.rpc_errors import RpcError

__all__ = ["RETRY_SECONDS", "Reads"]

RETRY_SECONDS: Final = 0.5
ROUNDS_IN_FLIGHT: Final = 2

Done = Callable[[RpcError | None], None]


class _Round:
    __slots__ = ("asked_at", "readers")

    def __init__(self, readers: list[tuple[Done, float]], asked_at: float) -> None:
        self.readers = readers
        self.asked_at = asked_at


class Reads:
    """The readers of one member. ``first_context`` starts a range that no earlier incarnation has used."""

    def __init__(self, first_context: int) -> None:
        self._context = first_context
        self._waiting: list[tuple[Done, float]] = []
        self._rounds: dict[int, _Round] = {}
        self._confirmed: list[tuple[int, list[tuple[Done, float]]]] = []
        self._held = False  # a round was dropped: wait for the next tick or another leader
        self.slow = 0  # rounds given up because nobody confirmed them in time
        self.failed = 0  # readers that had to be told an error

    @property
    def has_waiting(self) -> bool:
        """Somebody waits and a round may start."""
        return bool(self._waiting) and len(self._rounds) < ROUNDS_IN_FLIGHT and not self._held

    @property
    def has_confirmed(self) -> bool:
        """Some round is confirmed and waits for the state machine."""
        return bool(self._confirmed)

    def ask(self, done: Done, deadline: float) -> None:
        """Call ``done(None)`` at a linearizable point, else ``done(error)``; ``deadline``: monotonic."""
        self._waiting.append((done, deadline))

    def start_round(self, now: float) -> int:
        """Begin a round for all who wait; the context to hand to the core."""
        self._context = context = self._context + 1
        self._rounds[context] = _Round(self._waiting, now)
        self._waiting = []
        return context

    def confirm(self, states: tuple[ReadState, ...]) -> None:
        """The core has confirmed rounds; contexts given up meanwhile are ignored."""
        for state in states:
            found = self._rounds.pop(state.context, None)
            if found is not None:
                self._confirmed.append((state.read_index, found.readers))

    def release(self, applied_index: int) -> bool:
        """Serve the confirmed readers whose index has been applied; True if there were any."""
        if not self._confirmed:
            return False
        ready = [readers for index, readers in self._confirmed if index <= applied_index]
        if not ready:
            return False
        self._confirmed = [row for row in self._confirmed if row[0] > applied_index]
        for readers in ready:
            for done, _ in readers:
                done(None)
        return True

    def drop(self, contexts: tuple[int, ...]) -> None:
        """The core has dropped rounds: nobody can confirm them now. Try again with the next tick."""
        self._give_up([c for c in contexts if c in self._rounds])
        self._held = True

    def leader_changed(self) -> None:
        """Give up every round; a new leader is asked at once."""
        self._give_up(list(self._rounds))
        self._held = False

    def _give_up(self, contexts: list[int]) -> None:
        for context in reversed(contexts):
            self._waiting = self._rounds.pop(context).readers + self._waiting

    def sweep(self, now: float, error: RpcError) -> None:
        """Once per tick: give up rounds that are too old, and answer readers that are out of time."""
        self._held = False
        old = [c for c, r in self._rounds.items() if r.asked_at + RETRY_SECONDS <= now]
        self._give_up(old)
        self.slow += len(old)
        late = [done for done, deadline in self._waiting if deadline <= now]
        self._waiting = [row for row in self._waiting if row[1] > now]
        for index, (read_index, readers) in enumerate(self._confirmed):
            late += [done for done, deadline in readers if deadline <= now]
            self._confirmed[index] = (read_index, [row for row in readers if row[1] > now])
        self.failed += len(late)
        for done in late:
            done(error)

    def fail_all(self, error: RpcError) -> None:
        """Answer everybody with ``error``: the member stops."""
        self._give_up(list(self._rounds))
        everybody = self._waiting + [row for _, readers in self._confirmed for row in readers]
        self._waiting, self._confirmed = [], []
        for done, _ in everybody:
            done(error)
