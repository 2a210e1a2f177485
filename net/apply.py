"""Between the log and the state machine: apply what is committed, answer who waits for it, tell watchers.

Committed entries are queued and applied in bounded chunks, so that a restart with a long log or a burst
does not keep the node from its ticks. A proposal is answered by the entry that carries this member's id
and the proposal's sequence, wherever in the log it ended up; sequences start at a number that no earlier
incarnation of the member has used, so an old entry can never answer a new proposal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError

if TYPE_CHECKING:
    from tercet.core.machine import Machine, Outcome

__all__ = ["Applier", "Done", "Subscriber", "Waiter"]

#: Entries applied in one turn of the node's loop.
CHUNK: Final = 1024

Done = Callable[["Outcome | RpcError"], None]
Subscriber = Callable[[Sequence[Any], int], None]


class Waiter(NamedTuple):
    """Who waits for a proposal; ``deadline`` in monotonic seconds, ``size`` in bytes."""

    done: Done
    deadline: float
    size: int


class Applier:
    """Applies entries in order. ``applied_index`` is the last one applied, 0 before the first."""

    def __init__(self, machine: Machine, member_id: int) -> None:
        self.machine = machine
        self.applied_index = 0
        self.waiters: dict[int, Waiter] = {}
        self.waiting_bytes = 0
        self.subscribers: list[Subscriber] = []
        self._member_id = member_id
        self._queue: deque[Entry] = deque()

    @property
    def has_work(self) -> bool:
        """Committed entries wait to be applied."""
        return bool(self._queue)

    def enqueue(self, committed: tuple[Entry, ...]) -> None:
        """Take committed entries, in order."""
        self._queue.extend(committed)

    def expect(self, sequence: int, waiter: Waiter) -> None:
        """Answer ``waiter`` when the entry with ``sequence`` has been applied."""
        self.waiters[sequence] = waiter
        self.waiting_bytes += waiter.size

    def apply_chunk(self) -> int:
        """Apply up to ``CHUNK`` entries, answer their proposals, then tell subscribers; how many."""
        queue = self._queue
        count = min(len(queue), CHUNK)
        apply, waiters, member_id = self.machine.apply, self.waiters, self._member_id
        events: list[Any] = []
        revision = 0
        for _ in range(count):
            entry = queue.popleft()
            outcome = apply(entry)
            self.applied_index = entry.index
            if outcome.events:
                events += outcome.events
                revision = outcome.revision
            if outcome.member == member_id:
                waiter = waiters.pop(outcome.sequence, None)
                if waiter is not None:
                    self.waiting_bytes -= waiter.size
                    waiter.done(outcome)
        if events:
            for subscriber in self.subscribers:
                subscriber(events, revision)
        return count

    def sweep(self, now: float, error: RpcError) -> None:
        """Once per tick: answer proposals that are out of time; they may still happen."""
        late = [sequence for sequence, waiter in self.waiters.items() if waiter.deadline <= now]
        for sequence in late:
            waiter = self.waiters.pop(sequence)
            self.waiting_bytes -= waiter.size
            waiter.done(error)

    def fail_all(self, error: RpcError) -> None:
        """Answer everybody with ``error``: the member stops."""
        waiters, self.waiters, self.waiting_bytes = self.waiters, {}, 0
        for waiter in waiters.values():
            waiter.done(error)
