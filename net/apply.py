"""Between the log and the state machine: apply what is committed, answer who waits for it, tell watchers.

Committed entries are queued and applied in bounded chunks, so that a restart with a long log or a burst
does not keep the node from its ticks. An entry that takes long by itself (the deletion of a million keys) is
applied in steps, one a chunk; what is committed after it waits.

A proposal is answered by the entry that carries this member's id and the proposal's sequence, wherever in the
log it ended up; sequences start at a number that no earlier incarnation of the member has used, so an old
entry can never answer a new proposal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from tercet.core.machine import Machine, Outcome
from tercet.core.mvcc.steps import Steps
from tercet.core.raft.types import Entry, EntryKind
from tercet.core.rpc_errors import RpcError

__all__ = ["Applier", "Done", "Subscriber", "Waiter"]

#: Entries applied in one turn of the node's loop ...
CHUNK: Final = 1024
#: ... unless they have made so many events before.
CHUNK_EVENTS: Final = 2048

Done: TypeAlias = Callable[[Outcome | RpcError], None]
Subscriber: TypeAlias = Callable[[Sequence[Any], int], None]


#: Who waits for a proposal: whom to call, until when (monotonic seconds), and how many bytes it is.
Waiter: TypeAlias = tuple[Done, float, int]


class Applier:
    """Applies entries in order. ``applied_index`` is the last one applied, 0 before the first.

    Entries up to ``replayed`` were in the log at the start; the metrics leave them out.
    """

    def __init__(self, machine: Machine, member_id: int, replayed: int = 0) -> None:
        self.machine = machine
        self.applied_index = machine.applied_index
        self.waiters: dict[int, Waiter] = {}  # by sequence
        self.waiting_bytes = 0
        self.subscribers: list[Subscriber] = []
        self.refused: list[int] = []  # changes of the configuration that the machine refused, by index
        self._member_id = member_id
        self._replayed = replayed  # 0 once they are applied
        self._queue: deque[Entry] = deque()
        self._long: Steps[Outcome] | None = None  # what is left to do of the first entry in the queue

    @property
    def has_work(self) -> bool:
        """Committed entries wait to be applied."""
        return bool(self._queue)

    def enqueue(self, committed: tuple[Entry, ...]) -> None:
        """Take committed entries, in order."""
        self._queue.extend(committed)

    def forget_queue(self) -> None:
        """A snapshot will stand for what is committed and not applied yet."""
        self._queue.clear()
        if self._long is not None:
            self._long.close()
            self._long = None

    def replace(self, machine: Machine) -> None:
        """Go on with another machine, made of a snapshot.

        Proposals whose entries it covers have no answer: they may have happened, and run out of time.
        """
        self.machine = machine
        self.applied_index = machine.applied_index
        self._replayed = 0

    def apply_chunk(self) -> int:
        """Apply up to ``CHUNK`` entries, answer their proposals, then tell subscribers; how many."""
        queue = self._queue
        count = min(len(queue), CHUNK)
        if self._replayed:
            count = min(count, self._replayed - self.applied_index)
        begin, waiters, member_id = self.machine.begin, self.waiters, self._member_id
        events: list[Any] = []
        revision = applied = 0
        while applied < count and len(events) < CHUNK_EVENTS:
            entry = queue[0]
            result = begin(entry) if self._long is None else self._long
            if type(result) is not Outcome:
                outcome = self._go_on(result)  # type: ignore[arg-type]  # steps
                if outcome is None:
                    break
            else:
                outcome = result
            queue.popleft()
            applied += 1
            self.applied_index = entry.index
            if outcome.events:
                events += outcome.events
                revision = outcome.revision
            if outcome.error is not None and entry.kind == EntryKind.CONF_CHANGE:
                self.refused.append(entry.index)
            if outcome.member == member_id:
                waiter = waiters.pop(outcome.sequence, None)
                if waiter is not None:
                    self.waiting_bytes -= waiter[2]
                    waiter[0](outcome)
        if self._replayed and self.applied_index >= self._replayed:
            self._replayed = 0
            self.machine.tally.clear()
        if events:
            for subscriber in self.subscribers:
                subscriber(events, revision)
        return applied

    def _go_on(self, steps: Steps[Outcome]) -> Outcome | None:
        """Do a step of the first entry; its outcome when that was the last one."""
        try:
            next(steps)
        except StopIteration as end:
            self._long = None
            outcome: Outcome = end.value
            return outcome
        self._long = steps
        return None

    def sweep(self, now: float, error: RpcError) -> int:
        """Once per tick: answer proposals that are out of time, and may still happen; how many."""
        late = [sequence for sequence, waiter in self.waiters.items() if waiter[1] <= now]
        for sequence in late:
            done, _, size = self.waiters.pop(sequence)
            self.waiting_bytes -= size
            done(error)
        return len(late)

    def give_up(self, sequences: Iterable[int], now: float, error: RpcError) -> int:
        """Answer those of these proposals that are out of time; how many. They were never in any log."""
        waiters = self.waiters
        late = [number for number in sequences if number in waiters and waiters[number][1] <= now]
        return self.refuse(late, error)

    def refuse(self, sequences: Iterable[int], error: RpcError) -> int:
        """Answer these proposals, which did not happen and will not; how many somebody waited for."""
        found = [self.waiters.pop(sequence) for sequence in sequences if sequence in self.waiters]
        for done, _, size in found:
            self.waiting_bytes -= size
            done(error)
        return len(found)

    def fail_all(self, error: RpcError) -> None:
        """Answer everybody with ``error``: the member stops."""
        waiters, self.waiters, self.waiting_bytes = self.waiters, {}, 0
        for done, _, _ in waiters.values():
            done(error)
