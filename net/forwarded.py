"""Other members' proposals that came to us as leader and that we cannot take, as leadership is moving.

Their members have sent them and forgotten them: nobody but us can pass them on to the next leader. They are
kept for a bounded while and in a bounded number; what is beyond that runs out of time where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tercet.core.raft.types import ConfChange, Event, Propose, ProposeConfChange

from .loop_ports import COMMAND_HEADER

__all__ = ["Forwarded", "proposer_of"]

KEPT_SECONDS: Final = 5.0
KEPT_MAX: Final = 10_000


def proposer_of(data: bytes) -> tuple[int, int]:
    """Member and sequence of a command; 0 and 0 when it has no header, as in a change that Raft makes."""
    if len(data) < COMMAND_HEADER.size:
        return 0, 0
    _, member, sequence = COMMAND_HEADER.unpack_from(data)
    return int(member), int(sequence)


class Forwarded:
    """What is kept for others by member ``member_id``."""

    def __init__(self, member_id: int) -> None:
        self._member_id = member_id
        self._proposals: list[bytes] = []
        self._changes: list[ConfChange] = []
        self._until = 0.0

    def __bool__(self) -> bool:
        return bool(self._proposals or self._changes)

    def keep(self, proposals: Iterable[bytes], changes: Iterable[ConfChange], now: float) -> None:
        """Keep those that are other members'; ``now`` in monotonic seconds."""
        if not self:
            self._until = now + KEPT_SECONDS
        mine = (self._member_id, 0)  # 0: of no member
        found = [data for data in proposals if proposer_of(data)[0] not in mine]
        asked = [change for change in changes if proposer_of(change.context)[0] not in mine]
        self._proposals += found[: KEPT_MAX - len(self._proposals)]
        self._changes += asked[: KEPT_MAX - len(self._changes)]

    def sweep(self, now: float) -> None:
        """Forget what has been kept for too long."""
        if now > self._until:
            self._proposals, self._changes = [], []

    def take(self) -> list[Event]:
        """Everything, as events for the core: there is a leader to send it to."""
        proposals, self._proposals = self._proposals, []
        changes, self._changes = self._changes, []
        events: list[Event] = [ProposeConfChange(change) for change in changes]
        return [Propose(tuple(proposals)), *events] if proposals else events
