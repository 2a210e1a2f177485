"""Linearizable reads without a log entry: ReadIndex.

The leader notes its commit index, asks a majority by heartbeat whether it still leads, and then lets the
read be served once that index is applied. Three conditions make it safe:

- The leader must have committed an entry of its own term: before that it may not know what earlier leaders
  committed (bugs B15 and B17). Earlier reads wait.
- A heartbeat's answer confirms only rounds up to the number it carries, and rounds only grow: a late answer
  to an old heartbeat cannot confirm a newer read (bug B16). Rounds belong to a term, and answers of other
  terms are not even looked at.
- A read takes part only in a round that starts after it was asked.

While a round is under way new reads gather for the next one, so that one round confirms many reads. A
follower forwards the question; an answer that is lost is asked again by the driver, with a new context.

Source: Ongaro's thesis, section 6.4.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import leases, quorum
from .heartbeats import heartbeat_to, known_commit
from .state import Duty, Leadership, PendingRead, RaftState
from .types import ReadIndex, ReadIndexReply, ReadIndexRequest, ReadState

__all__ = [
    "confirm", "drop", "leader_is_ready", "on_read_index_reply", "on_read_index_request", "read_index",
    "start_waiting", "with_new_round",
]


def leader_is_ready(state: RaftState) -> bool:
    """Whether the leader has committed in its own term, so its commit index is the newest (thesis 6.4)."""
    return state.log.term_at(state.commit_index) == state.current_term


def read_index(state: RaftState, event: ReadIndex, duty: Duty) -> RaftState:
    """This member's own question: take part in a round, forward it, or tell that there is no leader."""
    if state.leadership is not None:
        return _enter(state, state.config.node_id, event.context, duty)
    if state.leader_id == 0:
        duty.dropped_reads += (event.context,)
        duty.refuse("read/no-leader", f"context {event.context}")
        return state
    duty.send += (
        ReadIndexRequest(
            sender=state.config.node_id, to=state.leader_id, term=state.current_term, context=event.context
        ),
    )
    return state


def on_read_index_request(state: RaftState, message: ReadIndexRequest, duty: Duty) -> RaftState:
    """Another member's question; one that reaches a node which does not lead is not answered."""
    if state.leadership is None:
        duty.refuse("read/not-leader", f"context {message.context} of {message.sender}")
        return state
    return _enter(state, message.sender, message.context, duty)


def on_read_index_reply(state: RaftState, message: ReadIndexReply, duty: Duty) -> RaftState:
    """The leader's answer. True whatever happened since: it was confirmed after the question was asked."""
    duty.reads += (ReadState(message.context, message.read_index),)
    return state


def _enter(state: RaftState, asker: int, context: int, duty: Duty) -> RaftState:
    """Take a read in at the leader: the steps of thesis 6.4, beginning with 1."""
    leadership = state.leadership
    assert leadership is not None
    pending = leadership.reads
    if not leader_is_ready(state):
        leadership = replace(leadership, reads=(*pending, PendingRead(asker, context, 0, 0)))
        return replace(state, leadership=leadership)
    if leases.valid(state):
        _answer(state, PendingRead(asker, context, state.commit_index, 0), duty)
        return state
    under_way = bool(pending) and pending[0].round <= leadership.read_round
    read = PendingRead(asker, context, state.commit_index, leadership.read_round + 1)
    leadership = replace(leadership, reads=(*pending, read))
    if under_way:
        return replace(state, leadership=leadership)
    return _start_round(replace(state, leadership=leadership), duty)


def start_waiting(state: RaftState, duty: Duty) -> RaftState:
    """The first commit of the leader's term: reads that waited for it take part in the next round."""
    leadership = state.leadership
    assert leadership is not None
    if not leadership.reads:
        return state
    following = leadership.read_round + 1
    pending = tuple(
        replace(read, read_index=state.commit_index, round=following) for read in leadership.reads
    )
    return _start_round(replace(state, leadership=replace(leadership, reads=pending)), duty)


def with_new_round(leadership: Leadership) -> Leadership:
    """Start the next round if a read waits for it (thesis 6.4, step 3); the caller sends the heartbeats."""
    pending = leadership.reads
    if pending and pending[-1].round > leadership.read_round:
        return replace(leadership, read_round=leadership.read_round + 1)
    return leadership


def _start_round(state: RaftState, duty: Duty) -> RaftState:
    leadership = state.leadership
    assert leadership is not None
    leadership = with_new_round(leadership)
    node_id = state.config.node_id
    for peer in leadership.progress:
        if peer.node_id != node_id:
            commit = known_commit(state, peer)
            duty.send += (heartbeat_to(state, peer, commit, context=leadership.read_round),)
    return confirm(replace(state, leadership=leadership), duty)


def confirm(state: RaftState, duty: Duty) -> RaftState:
    """Answer the reads whose round a majority has confirmed (thesis 6.4); start the next if reads wait."""
    leadership = state.leadership
    assert leadership is not None
    node_id = state.config.node_id
    newest = leadership.read_round
    rounds = [newest if peer.node_id == node_id else peer.acked_round for peer in leadership.progress]
    confirmed = quorum.reached(state.configuration, rounds)
    pending = leadership.reads
    answered = 0
    while answered < len(pending) and 0 < pending[answered].round <= confirmed:
        _answer(state, pending[answered], duty)
        answered += 1
    if not answered:
        return state
    state = replace(state, leadership=replace(leadership, reads=pending[answered:]))
    if answered < len(pending) and pending[answered].round > leadership.read_round:
        return _start_round(state, duty)
    return state


def _answer(state: RaftState, read: PendingRead, duty: Duty) -> None:
    if read.asker == state.config.node_id:
        duty.reads += (ReadState(read.context, read.read_index),)
        return
    duty.send += (
        ReadIndexReply(
            sender=state.config.node_id,
            to=read.asker,
            term=state.current_term,
            context=read.context,
            read_index=read.read_index,
        ),
    )


def drop(state: RaftState, leadership: Leadership, duty: Duty) -> None:
    """The leader steps down: its own unconfirmed reads are told; other members ask again by themselves."""
    if leadership.reads:
        own = [read.context for read in leadership.reads if read.asker == state.config.node_id]
        duty.dropped_reads += tuple(own)
        duty.refuse("read/leader-changed", f"{len(leadership.reads)} reads")
