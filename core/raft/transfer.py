"""Leadership transfer, as the leader does it.

The leader takes no more proposals, brings the target's log up to date with its own, and then tells it to
campaign at once (``TimeoutNow``); ``election.on_timeout_now`` is the other side. The campaign is marked as
forced, so that voters who still hear the old leader may help. When no election timeout later the old leader
still leads, it goes on as before.

Source: thesis 3.10.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import leases
from .state import Duty, Leadership, RaftState
from .types import TimeoutNow, TransferLeader, TransferRequest

__all__ = ["hand_over", "on_transfer_request", "tick", "transfer_leader"]


def transfer_leader(state: RaftState, event: TransferLeader, duty: Duty) -> RaftState:
    """Hand over as leader, or tell the leader to."""
    if state.leadership is not None:
        return _start(state, state.leadership, event.target, duty)
    if state.leader_id == 0:
        duty.refuse("transfer/no-leader", f"to {event.target}")
        return state
    duty.send += (
        TransferRequest(
            sender=state.config.node_id, to=state.leader_id, term=state.current_term, target=event.target
        ),
    )
    return state


def on_transfer_request(state: RaftState, message: TransferRequest, duty: Duty) -> RaftState:
    """Another member asks the leader to hand over; a node that does not lead ignores it."""
    if state.leadership is None:
        duty.refuse("transfer/not-leader", f"to {message.target}")
        return state
    return _start(state, state.leadership, message.target, duty)


def _start(state: RaftState, leadership: Leadership, target: int, duty: Duty) -> RaftState:
    target = target or _most_up_to_date(state, leadership)
    rule = ""
    if target == state.config.node_id:  # thesis 3.10, here and below
        rule = "transfer/already-leader"
    elif target not in state.configuration.voters:
        rule = "transfer/not-a-voter"
    elif target == leadership.transfer_target:
        rule = "transfer/under-way"
    if rule:
        duty.refuse(rule, f"to {target}")
        return state
    if leadership.transfer_target:
        duty.refuse("transfer/replaced", f"to {leadership.transfer_target}")
    leadership = replace(leadership, transfer_target=target, transfer_elapsed=0)
    state = replace(state, leadership=leases.broken(leadership))
    hand_over(state, duty)
    return state


def _most_up_to_date(state: RaftState, leadership: Leadership) -> int:
    """The voter with the longest log, one that was heard lately if there is any; 0 when there is no other."""
    others = [
        peer
        for peer in leadership.progress
        if peer.node_id in state.configuration.voters and peer.node_id != state.config.node_id
    ]
    best = max(others, key=lambda peer: (peer.active, peer.match_index), default=None)
    return 0 if best is None else best.node_id


def hand_over(state: RaftState, duty: Duty) -> None:
    """Tell the target to campaign if it holds the whole log; if not yet, its answers lead here (3.10)."""
    leadership = state.leadership
    assert leadership is not None
    target = leadership.transfer_target
    for peer in leadership.progress:
        if peer.node_id == target and peer.match_index == state.log.last_index:
            duty.send += (TimeoutNow(sender=state.config.node_id, to=target, term=state.current_term),)


def tick(state: RaftState, leadership: Leadership, duty: Duty) -> Leadership:
    """Let one tick pass while a transfer is under way; give it up after an election timeout."""
    elapsed = leadership.transfer_elapsed + 1
    if elapsed < state.config.election_ticks:
        return replace(leadership, transfer_elapsed=elapsed)
    duty.refuse("transfer/timed-out", f"to {leadership.transfer_target}")
    return replace(leadership, transfer_target=0, transfer_elapsed=0)
