"""A node's disk in the explored world: what is durable, what is being written, what waits to be written.

Writes go one after another, each with everything that gathered while the one before was under way, as the
drivers do it. A crash loses what waits; of the write under way nothing, all, or its first half survives.
"""

from __future__ import annotations

from tercet.core.raft import Effects, Entry, HardState, Message

__all__ = ["Batch", "Disk"]


class Batch:
    """What one write makes durable, in the order asked, and what may be sent after it."""

    __slots__ = ("messages", "steps", "under")

    def __init__(self) -> None:
        self.steps: list[tuple[HardState | None, tuple[Entry, ...]]] = []
        self.messages: list[Message] = []
        self.under = 0  # the core's term when the write began


class Disk:
    """Durable state of one node, and its queue of writes."""

    __slots__ = ("entries", "hard_state", "under_way", "waiting", "writes")

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.entries: list[Entry] = []  # position k holds index k + 1
        self.under_way: Batch | None = None
        self.waiting: Batch | None = None
        self.writes = 0  # begun so far

    def add(self, effects: Effects) -> bool:
        """Queue an effect's duties; False when there is nothing to write or wait for: messages may go now."""
        nothing = effects.hard_state is None and not effects.entries
        if nothing and self.under_way is None and self.waiting is None:
            return False
        if self.waiting is None:
            self.waiting = Batch()
        if not nothing:
            self.waiting.steps.append((effects.hard_state, effects.entries))
        self.waiting.messages += effects.send_after_persist
        return True

    def begin(self, current_term: int) -> bool:
        """Start the next write if there is one and none is under way."""
        if self.under_way is not None or self.waiting is None:
            return False
        self.under_way, self.waiting = self.waiting, None
        self.under_way.under = current_term
        self.writes += 1
        return True

    def complete(self) -> Batch:
        """The write under way is durable."""
        batch = self.under_way
        assert batch is not None
        self.under_way = None
        for hard_state, entries in batch.steps:
            self._apply(hard_state, entries)
        return batch

    def crash(self, survives: int) -> None:
        """Lose what waits; of the write under way ``survives`` 0 nothing, 1 all, 2 the first half."""
        batch, self.under_way, self.waiting = self.under_way, None, None
        if batch is None or survives == 0:
            return
        steps = batch.steps if survives == 1 else batch.steps[: len(batch.steps) // 2 + 1]
        for position, (hard_state, entries) in enumerate(steps):
            if survives == 2 and position == len(steps) - 1:
                entries = entries[: len(entries) // 2]
            self._apply(hard_state, entries)

    def _apply(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if entries:
            del self.entries[entries[0].index - 1 :]
            self.entries += entries
