"""The scope of an exhaustive search, and the events that can happen in it.

A scope bounds what is countable: terms, proposals, crashes, duplicated messages. Everything else is free:
messages arrive in any order or never, and any node's timeout may pass at any moment. ``Move`` names one
event; a list of moves is a run, which replays through the shipped core.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from tercet.core.raft import Message

__all__ = ["BUDGETS", "How", "Kind", "Move", "Scope", "budget_unit", "describe_move", "full_budget"]


class Kind(IntEnum):
    """What happens to a node."""

    DELIVER = 0
    CAMPAIGN = 1  # its election timeout passes
    PROPOSE = 2  # a client proposes
    BEAT = 3  # a leader's heartbeat is due
    CRASH = 4  # the power fails between two events; it restarts at once
    READ = 5  # a client reads
    SYNC = 6  # a slow write becomes durable
    CHANGE = 7  # the next of the scope's configuration changes is proposed
    APPLY = 8  # a state machine that stood still goes on
    TRANSFER = 9  # the leader is asked to hand over


class How(IntEnum):
    """How the disk and the state machine of the node answer the event."""

    DONE = 0  # written and applied at once
    SLOW = 1  # the write is under way
    LOST = 2  # the power fails during the write and nothing of it survives
    TORN = 3  # the power fails and the first half survives
    STALL = 4  # written; the state machine stands still


class Scope(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Bounds of the search. Every bound is for the whole run, 0 .. 15.

    Raises:
        ValueError: a bound is out of its range.
    """

    nodes: int = 3  # voters, 1 .. 5
    joining: int = 0  # further nodes, members of nothing until a configuration change brings them in
    terms: int = 2  # nobody campaigns beyond this term
    entries: int = 2  # clients' proposals
    crashes: int = 0  # each followed by a restart
    duplicates: int = 0  # deliveries after which the message is still under way
    beats: int = 0  # heartbeats
    reads: int = 0
    slow_writes: int = 0  # writes during which other things happen
    stalls: int = 0  # times that a state machine stands still
    transfers: int = 0
    changes: tuple[tuple[tuple[int, int], ...], ...] = ()  # of the configuration: (ChangeKind, node) ...
    batch: int = 0  # entries in one append at most; 0: as many as there are
    pre_vote: bool = False
    strict: bool = True  # compare promises with the disk when they are sent
    lasting: bool = True  # what was once sent may arrive at any time, any number of times; else once

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= 5 or not 0 <= self.joining <= 2:
            raise ValueError(f"need 1 <= nodes <= 5 and joining <= 2, got {self.nodes} and {self.joining}")
        for name in ("terms", "batch", *BUDGETS):
            if not 0 <= _bound(self, name) <= 15:
                raise ValueError(f"need 0 <= {name} <= 15, got {_bound(self, name)}")


#: Everything that can be used up, each in four bits of one integer.
BUDGETS = (
    "entries", "crashes", "duplicates", "beats", "reads", "slow_writes", "stalls", "transfers", "changes",
)


def _bound(scope: Scope, name: str) -> int:
    value = getattr(scope, name)
    return len(value) if isinstance(value, tuple) else int(value)


def full_budget(scope: Scope) -> int:
    """All that may still happen at the beginning."""
    return sum(_bound(scope, name) << 4 * place for place, name in enumerate(BUDGETS))


def budget_unit(name: str) -> int:
    """What one use of ``name`` takes from the budget."""
    return 1 << 4 * BUDGETS.index(name)


class Move(msgspec.Struct, frozen=True, array_like=True):
    """One event of a run. ``node`` counts from 1."""

    kind: Kind
    node: int
    message: Message | None = None
    how: How = How.DONE
    number: int = 0  # of the proposal, read or change, from 1
    again: bool = False  # the message stays under way, to be delivered once more


_DISK = {
    How.DONE: "",
    How.SLOW: "; its write is slow",
    How.LOST: "; the power fails before anything is written, and it restarts",
    How.TORN: "; the power fails in the middle of the write, and it restarts",
    How.STALL: "; its state machine stands still",
}


def describe_move(move: Move) -> str:
    """One line in words."""
    node = move.node
    if move.kind == Kind.DELIVER:
        assert move.message is not None
        twice = " (and is still under way)" if move.again else ""
        words = f"{type(move.message).__name__} of node {move.message.sender} arrives at node {node}{twice}"
    else:
        words = {
            Kind.CAMPAIGN: f"node {node}'s election timeout passes",
            Kind.PROPOSE: f"a client proposes entry {move.number} at node {node}",
            Kind.BEAT: f"node {node} sends heartbeats",
            Kind.CRASH: f"node {node} crashes and restarts",
            Kind.READ: f"a client reads at node {node}",
            Kind.SYNC: f"node {node}'s slow write is durable",
            Kind.CHANGE: f"configuration change {move.number} is proposed at node {node}",
            Kind.APPLY: f"node {node}'s state machine goes on",
            Kind.TRANSFER: f"node {node} is asked to hand over to node {move.number}",
        }[move.kind]
    return words + _DISK[move.how]
