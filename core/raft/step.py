"""``step``: one event in, a new state and its effects out. The only way a Raft node ever changes.

Which function handles what is a table. Terms are compared before a message is handled: a newer term makes
anybody a follower, an older one is refused with the newer term. What follows from comparing the states
before and after (what must be durable, what may be applied, whether the role changed) is derived once,
here.

Source: Ongaro and Ousterhout 2014, section 5.1 and figure 2, "Rules for Servers".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ..errors import Corruption
from . import election, following, proposals, reads, reconfigure, replication, snapshot, transfer
from .state import Duty, RaftState, Transition
from .types import (
    AppendReply,
    AppendRequest,
    Applied,
    Effects,
    Event,
    HardState,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    Persisted,
    Propose,
    ProposeConfChange,
    ProposeRequest,
    ReadIndex,
    ReadIndexReply,
    ReadIndexRequest,
    Receive,
    Role,
    SnapshotInstalled,
    SnapshotReady,
    SnapshotRequest,
    SnapshotSent,
    SoftState,
    Tick,
    TimeoutNow,
    TransferLeader,
    TransferRequest,
    Unreachable,
    VoteReply,
    VoteRequest,
)

__all__ = ["NO_EFFECTS", "step"]

NO_EFFECTS = Effects()
_NO_DUTY = Duty()
_new = tuple.__new__  # half the price of the named tuple's own constructor


def step(state: RaftState, event: Event) -> Transition:
    """Let ``event`` happen to ``state``. A function of its arguments; the old state stays valid.

    Returns:
        The new state and what is owed to the world, in order of duty (see ``Effects``).

    Raises:
        Corruption: a message proves that durable entries were lost or that a committed entry would be
            replaced. The state is as before; the node must stop.
    """
    duty = Duty()
    after: RaftState = _EVENTS[type(event)](state, event, duty)
    # What is committed is handed out once the own disk has it, too, whichever of the two came last.
    if after.released_index < after.commit_index and after.released_index < after.persisted_index:
        after = replace(after, released_index=min(after.commit_index, after.persisted_index))
    if after is state and duty == _NO_DUTY:
        return _new(Transition, (state, NO_EFFECTS))
    return _new(Transition, (after, _effects(state, after, duty)))


def _effects(before: RaftState, after: RaftState, duty: Duty) -> Effects:
    """Complete the duties of a step by what the two states tell."""
    hard_state = soft_state = None
    term = after.current_term
    if duty.entries or term != before.current_term or after.voted_for != before.voted_for:
        # Only what is durable already: were the hint ahead, a write torn between it and the entries it
        # speaks of would restart this node with a commit index over older, conflicting entries.
        hard_state = HardState(term, after.voted_for, after.released_index)
    if after.role != before.role or after.leader_id != before.leader_id or term != before.current_term:
        soft_state = SoftState(Role(after.role), after.leader_id, term)
    if after.released_index != before.released_index:
        first = before.released_index
        if first < after.log.base_index:  # a snapshot stands for the rest
            first = after.log.base_index
        committed = after.log.entries(first + 1, after.released_index)
    elif hard_state is None and soft_state is None and duty == _NO_DUTY:
        return NO_EFFECTS
    else:
        committed = ()
    return Effects(
        hard_state,
        duty.entries,
        duty.send,
        duty.send_after_persist,
        committed,
        duty.reads,
        duty.dropped_reads,
        duty.dropped,
        soft_state,
        duty.refusals,
        duty.install,
        duty.dropped_conf_changes,
        duty.configuration,
    )


def _receive(state: RaftState, event: Receive, duty: Duty) -> RaftState:
    message = event.message
    if message.to != state.config.node_id:
        duty.refuse("message/stranger", f"for {message.to}")
        return state
    kind = type(message)
    if kind in _VOTES:
        state = election.hear_commit(state, message, duty)  # type: ignore[arg-type]  # one of the two
    if message.term > state.current_term:  # 5.1, and figure 2, "All Servers"
        newer = _newer_term(state, message, duty)
        if newer is None:
            return state
        state = newer
    elif message.term < state.current_term and kind not in _ANY_TERM:
        _older_term(state, message, duty)
        return state
    if kind in _FROM_LEADER:
        if state.leader_id != message.sender or state.role:  # a follower's role is 0
            if state.leadership is not None:
                raise Corruption(
                    f"node {message.sender} leads term {state.current_term}, and so does this node"
                )
            state = election.become_follower(state, state.current_term, message.sender, duty)
        if state.config.read_only_lease:
            state = replace(state, lease_guard=state.config.election_ticks)
    after: RaftState = _MESSAGES[kind](state, message, duty)
    return after


def _newer_term(state: RaftState, message: Message, duty: Duty) -> RaftState | None:
    """What a message of a newer term makes of us before it is handled (5.1); None: it is not handled at all.

    A request for a vote that would disturb a leader does not even bring its term (thesis 4.2.3), nor does one
    for a pre-vote (thesis 9.6).
    """
    if type(message) is VoteRequest:
        if not message.forced and election.protects_leader(state):
            election.refuse_vote(state, message, "vote/leader-alive", duty)
            return None
        if message.pre_vote:
            return state
    elif type(message) is VoteReply and message.pre_vote and message.vote_granted:
        if message.term == state.current_term + 1:
            return state
        duty.refuse("message/late-reply", f"pre-vote of {message.sender} for term {message.term}")
        return None
    leader_id = message.sender if type(message) in _FROM_LEADER else 0
    return election.become_follower(state, message.term, leader_id, duty)


def _older_term(state: RaftState, message: Message, duty: Duty) -> None:
    """Refuse a message of an older term (5.1); tell its sender the newer one if that can matter to it."""
    duty.refuse("term/stale", f"{type(message).__name__} of {message.sender} in term {message.term}")
    if type(message) is VoteRequest:
        duty.send_after_persist += (election.vote_refusal(state, message, "term/stale"),)
    elif type(message) in _FROM_LEADER and type(message) is not TimeoutNow:
        duty.send_after_persist += (
            AppendReply(
                sender=state.config.node_id,
                to=message.sender,
                term=state.current_term,
                success=False,
                refusal="term/stale",
            ),
        )


# Handlers of one kind of event or message each; the key fixes the type of the second argument.
_Handler = Callable[[RaftState, Any, Duty], RaftState]

_EVENTS: dict[type, _Handler] = {
    Tick: election.tick,
    Receive: _receive,
    Propose: proposals.propose,
    ProposeConfChange: proposals.propose_conf_change,
    ReadIndex: reads.read_index,
    Persisted: replication.persisted,
    Applied: reconfigure.applied,
    TransferLeader: transfer.transfer_leader,
    SnapshotReady: snapshot.ready,
    SnapshotInstalled: snapshot.installed,
    SnapshotSent: snapshot.sent,
    Unreachable: replication.unreachable,
}

_MESSAGES: dict[type, _Handler] = {
    VoteRequest: election.on_vote_request,
    VoteReply: election.on_vote_reply,
    AppendRequest: following.on_append_request,
    AppendReply: replication.on_append_reply,
    HeartbeatRequest: following.on_heartbeat_request,
    HeartbeatReply: replication.on_heartbeat_reply,
    ProposeRequest: proposals.on_propose_request,
    ReadIndexRequest: reads.on_read_index_request,
    ReadIndexReply: reads.on_read_index_reply,
    SnapshotRequest: snapshot.on_snapshot_request,
    TransferRequest: transfer.on_transfer_request,
    TimeoutNow: election.on_timeout_now,
}

_VOTES = (VoteRequest, VoteReply)
# Only the leader of a term sends these.
_FROM_LEADER = frozenset((AppendRequest, HeartbeatRequest, SnapshotRequest, TimeoutNow))
# True and useful whatever the term.
_ANY_TERM = (ProposeRequest, ReadIndexRequest, ReadIndexReply, TransferRequest)
