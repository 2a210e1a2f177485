"""What waits to be proposed: clients' writes and changes of members of this member, and what came back.

The core takes proposals only when it knows a leader, and drops what it cannot take just then (leadership is
being handed over; another change of members is under way). What it dropped did not happen and will not, so
it waits here for the next try: the next tick or another leader. It is forgotten when its client has been
answered, at its deadline at the latest. Other members' proposals that come back are kept in ``Forwarded``.
What the core drops because too much waits for a majority already is refused at once (``refuse``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tercet.core.raft.types import ConfChange, Event, Propose, ProposeConfChange
from tercet.core.rpc_errors import RpcError

from .apply import Applier
from .forwarded import Forwarded, proposer_of

__all__ = ["Proposing"]


class Proposing:
    """The proposals of member ``member_id``, whose clients wait in ``applier``.

    Args:
        batch_bytes: Bound of the proposals in one ``Propose``; a single one may be larger.
    """

    def __init__(self, member_id: int, applier: Applier, batch_bytes: int) -> None:
        self.entries: list[bytes] = []  # the data of entries, in the order in which they were asked for
        self.changes: list[ConfChange] = []
        self.held = False  # the core dropped some: try again at the next tick or with another leader
        self._member_id = member_id
        self._applier = applier
        self._batch_bytes: Final = batch_bytes
        self._forwarded = Forwarded(member_id)

    @property
    def ready(self) -> bool:
        """There is something to try now, if there is a leader."""
        return not self.held and bool(self.entries or self.changes or self._forwarded)

    def take(self) -> list[Event]:
        """Everything, as events for the core."""
        events: list[Event] = []
        if self.entries:
            entries, self.entries = self.entries, []
            events += self._batches(entries)
        if self.changes:
            changes, self.changes = self.changes, []
            events += map(ProposeConfChange, changes)
        if self._forwarded:
            events += self._forwarded.take()
        return events

    def _batches(self, entries: list[bytes]) -> Iterator[Propose]:
        if sum(map(len, entries)) <= self._batch_bytes:
            yield Propose(tuple(entries))
            return
        batch: list[bytes] = []
        size = 0
        for data in entries:
            if batch and size + len(data) > self._batch_bytes:
                yield Propose(tuple(batch))
                batch, size = [], 0
            batch.append(data)
            size += len(data)
        yield Propose(tuple(batch))

    def hold(self, entries: Sequence[bytes], changes: Sequence[ConfChange], now: float) -> None:
        """Take back what the core dropped, or what has not left for the leader; ``now``: monotonic seconds.

        Other members' come back while leadership is handed over. They sent them and forgot them, so they are
        passed on to the next leader from here.
        """
        self.held = True
        self.entries = [data for data in entries if self._awaited(data)] + self.entries
        self.changes = [change for change in changes if self._awaited(change.context)] + self.changes
        self._forwarded.keep(entries, changes, now)

    def refuse(self, entries: Sequence[bytes], error: RpcError) -> int:
        """Answer the clients of what the core dropped for good; how many.

        Other members' are forgotten: nothing tells their members, so their clients run out of time.
        """
        return self._applier.refuse(map(self._sequence_of, entries), error)

    def forget_answered(self) -> None:
        """Drop those whose clients have been answered while they waited."""
        if self.entries:
            self.entries = [data for data in self.entries if self._awaited(data)]
        if self.changes:
            self.changes = [change for change in self.changes if self._awaited(change.context)]

    def sweep(self, now: float) -> None:
        """Once per tick: a new try is due, and other members' proposals are not kept for ever."""
        self.held = False
        self._forwarded.sweep(now)
        self.forget_answered()

    def sequences(self) -> Iterator[int]:
        """The numbers under which the clients of the waiting writes are registered."""
        return map(self._sequence_of, self.entries)

    def _awaited(self, data: bytes) -> bool:
        return self._sequence_of(data) in self._applier.waiters

    def _sequence_of(self, data: bytes) -> int:
        """The sequence of a proposal of ours; 0 for those of others."""
        member, sequence = proposer_of(data)
        return sequence if member == self._member_id else 0
