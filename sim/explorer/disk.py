"""A node's disk in the explored world: what is durable, what is being written, what waits to be written.

Writes go one after another, each with everything that gathered while the one before was under way, as the
drivers do it. A crash loses what waits; of the write under way nothing, all, or its first half survives.
"""

from __future__ import annotations

from tercet.core.raft import (
    Change,
    ChangeKind,
    ConfChange,
    Effects,
    Entry,
    EntryKind,
    HardState,
    Message,
    SnapshotMeta,
    encode_conf_change,
)

__all__ = ["Batch", "Disk"]


class Batch:
    """What one write makes durable, in the order asked, and what may be sent after it."""

    __slots__ = ("messages", "steps", "under")

    def __init__(self) -> None:
        self.steps: list[tuple[HardState | None, tuple[Entry, ...], SnapshotMeta | None]] = []
        self.messages: list[Message] = []
        self.under = 0  # the core's term when the write began


class Disk:
    """Durable state of one node, and its queue of writes."""

    __slots__ = ("base_index", "base_term", "entries", "hard_state", "snapshot", "under_way", "waiting")

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.entries: list[Entry] = []  # position k holds index base_index + k + 1
        self.base_index = 0
        self.base_term = 0
        self.snapshot: SnapshotMeta | None = None  # the durable state machine
        self.under_way: Batch | None = None
        self.waiting: Batch | None = None

    def bootstrap(self, voters: int) -> None:
        """A log that begins with the first members, as a new cluster's does: nodes 1 .. ``voters``."""
        for node in range(1, voters + 1):
            change = ConfChange((Change(ChangeKind.ADD_VOTER, node),))
            self.entries.append(Entry(1, node, encode_conf_change(change), EntryKind.CONF_CHANGE))
        self.hard_state = HardState(1, 0, voters)

    def add(self, effects: Effects) -> bool:
        """Queue an effect's duties; False when there is nothing to write or wait for: messages may go now."""
        nothing = effects.hard_state is None and not effects.entries and effects.install is None
        if nothing and self.under_way is None and self.waiting is None:
            return False
        if self.waiting is None:
            self.waiting = Batch()
        if not nothing:
            self.waiting.steps.append((effects.hard_state, effects.entries, effects.install))
        self.waiting.messages += effects.send_after_persist
        return True

    def begin(self, current_term: int) -> bool:
        """Start the next write if there is one and none is under way."""
        if self.under_way is not None or self.waiting is None:
            return False
        self.under_way, self.waiting = self.waiting, None
        self.under_way.under = current_term
        return True

    def complete(self) -> Batch:
        """The write under way is durable."""
        batch = self.under_way
        assert batch is not None
        self.under_way = None
        for hard_state, entries, install in batch.steps:
            self._apply(hard_state, entries, install)
        return batch

    @property
    def last_index(self) -> int:
        """The last durable entry."""
        return self.base_index + len(self.entries)

    def term_at(self, index: int) -> int:
        """The term of a durable entry, -1 outside the log."""
        if index == self.base_index:
            return self.base_term
        held = self.base_index < index <= self.last_index
        return self.entries[index - self.base_index - 1].term if held else -1

    def save(self, meta: SnapshotMeta, release: int) -> None:
        """The state machine is durable as ``meta`` says; the log up to ``release`` is deleted."""
        self.snapshot = meta
        if release > self.base_index:
            self.base_term = self.term_at(release)
            del self.entries[: release - self.base_index]
            self.base_index = release

    def crash(self, survives: int) -> None:
        """Lose what waits; of the write under way ``survives`` 0 nothing, 1 all, 2 the first half."""
        batch, self.under_way, self.waiting = self.under_way, None, None
        if batch is None or survives == 0:
            return
        steps = batch.steps if survives == 1 else batch.steps[: len(batch.steps) // 2 + 1]
        for position, (hard_state, entries, install) in enumerate(steps):
            if survives == 2 and position == len(steps) - 1:
                entries, install = entries[: len(entries) // 2], None
            self._apply(hard_state, entries, install)

    def _apply(
        self, hard_state: HardState | None, entries: tuple[Entry, ...], install: SnapshotMeta | None
    ) -> None:
        if hard_state is not None:
            self.hard_state = hard_state
        if install is not None:  # the old log goes with it, at one moment
            self.snapshot = install
            self.entries = []
            self.base_index, self.base_term = install.index, install.term
        if entries:
            del self.entries[entries[0].index - self.base_index - 1 :]
            self.entries += entries
