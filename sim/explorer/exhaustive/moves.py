"""Which events a node allows, and how a move is carried out on it."""

from __future__ import annotations

from msgspec.structs import replace

from tercet.core.raft import Event, Propose, RaftState, ReadIndex, Receive, Role, Tick
from tercet.core.raft.types import (
    Change,
    ChangeKind,
    ConfChange,
    ProposeConfChange,
    TransferLeader,
)

from .local import Local, Outcome, Steps, crashed, happen, resume, sync
from .scope import How, Kind, Move, Scope

__all__ = ["carry_out", "possible", "wants"]


def possible(scope: Scope, local: Local) -> tuple[Kind, ...]:
    """The events other than deliveries that make sense at this node, whatever the budget."""
    state = local.state
    leads = state.role == Role.LEADER
    kinds = []
    if not leads and state.current_term < scope.terms and not (scope.pre_vote and state.granted):
        kinds.append(Kind.CAMPAIGN)
    if leads:
        kinds += [Kind.PROPOSE, Kind.BEAT, Kind.READ, Kind.CHANGE, Kind.TRANSFER]
    if local.pending:
        kinds.append(Kind.SYNC)
    if local.stalled:
        kinds.append(Kind.APPLY)
    kinds.append(Kind.CRASH)
    return tuple(kinds)


def wants(kind: Kind) -> str:
    """The budget that an event of this kind uses up; "" for none."""
    return {
        Kind.PROPOSE: "entries",
        Kind.BEAT: "beats",
        Kind.CRASH: "crashes",
        Kind.READ: "reads",
        Kind.CHANGE: "changes",
        Kind.TRANSFER: "transfers",
    }.get(kind, "")


def carry_out(
    scope: Scope, local: Local, move: Move, *, steps: Steps | None = None, only: How | None = None
) -> list[Outcome]:
    """All outcomes of ``move`` at ``local`` (``move.how`` is not looked at); see ``local.happen``."""
    if move.kind == Kind.CRASH:
        return [crashed(local, steps)]
    if move.kind == Kind.SYNC:
        return [sync(local, scope.strict, steps)]
    if move.kind == Kind.APPLY:
        return [resume(local, scope.strict, steps)]
    events: tuple[Event, ...]
    if move.kind == Kind.CAMPAIGN:
        waits = max(1, local.state.election_timeout - local.state.election_elapsed)
        if steps is None:  # one tick is enough when the others have passed already
            waits = 1
            local = replace(
                local, state=replace(local.state, election_elapsed=local.state.election_timeout - 1)
            )
        events = (Tick(),) * waits
    else:
        events = (_event(scope, local.state, move),)
    return happen(local, events, strict=scope.strict, steps=steps, only=only)


def _event(scope: Scope, state: RaftState, move: Move) -> Event:
    if move.kind == Kind.DELIVER:
        assert move.message is not None
        return Receive(move.message)
    if move.kind == Kind.PROPOSE:
        return Propose((b"%d" % move.number,))
    if move.kind == Kind.READ:
        return ReadIndex(move.number)
    if move.kind == Kind.BEAT:
        return Tick()
    if move.kind == Kind.TRANSFER:
        return TransferLeader(move.number)
    assert move.kind == Kind.CHANGE
    changes = tuple([Change(ChangeKind(kind), node) for kind, node in scope.changes[move.number - 1]])
    return ProposeConfChange(ConfChange(changes))
