"""Replication as the leader does it: appending, sending, hearing answers, committing.

The leader sends without waiting for its own disk (thesis 10.2.1) and pipelines appends to members whose
logs are known to agree (``following`` is the other side). An entry is committed once a
majority holds it durably and it, or a later one, is of the leader's own term (figure 8 of the paper shows
why); the leader counts its own log only as far as it is durable. Committed entries are handed out only as
far as the own disk holds them, so that what is applied never runs ahead of the log.

Source: Ongaro and Ousterhout 2014, sections 5.3 and 5.4.2; thesis 10.2.1.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import progress as peers
from . import quorum, reads
from .log import Log
from .progress import Progress, ProgressState
from .state import Duty, Leadership, RaftState
from .types import (
    AppendReply,
    AppendRequest,
    Entry,
    HeartbeatReply,
    HeartbeatRequest,
    Persisted,
    Propose,
    ProposeRequest,
)

__all__ = [
    "append", "heartbeat", "may_commit", "on_append_reply", "on_heartbeat_reply", "on_propose_request",
    "persisted", "propose",
]

_REPLICATE = int(ProgressState.REPLICATE)
_PROBE = int(ProgressState.PROBE)


# --- the leader appends and sends -----------------------------------------------------------------------


def propose(state: RaftState, event: Propose, duty: Duty) -> RaftState:
    """Append as leader, hand over to the leader, or tell that there is none."""
    if state.leadership is not None:
        return append(state, event.entries, duty)
    if state.leader_id == 0:
        duty.dropped += event.entries
        duty.refuse("propose/no-leader", f"{len(event.entries)} entries")
        return state
    duty.send += (
        ProposeRequest(
            sender=state.config.node_id, to=state.leader_id, term=state.current_term, entries=event.entries
        ),
    )
    return state


def on_propose_request(state: RaftState, message: ProposeRequest, duty: Duty) -> RaftState:
    """A member's forwarded proposals: append them, or lose them (its client's deadline tells)."""
    if state.leadership is None:
        duty.refuse("propose/not-leader", f"{len(message.entries)} entries of {message.sender}")
        return state
    return append(state, message.entries, duty)


def append(state: RaftState, data: tuple[bytes, ...], duty: Duty) -> RaftState:
    """Append entries of the current term to the leader's log and send them to everybody who may get them."""
    leadership = state.leadership
    assert leadership is not None
    if not data:
        return state
    term = state.current_term
    entries = tuple([Entry(term, index, each) for index, each in enumerate(data, state.log.last_index + 1)])
    log = state.log.append(entries)
    duty.entries = entries
    config = state.config
    shared = entries
    if len(entries) > config.max_append_entries or sum(map(len, data)) > config.max_append_bytes:
        shared = ()
    node_id = config.node_id
    progress = tuple(
        [
            peer if peer.node_id == node_id else _send_append(state, log, peer, shared, duty)
            for peer in leadership.progress
        ]
    )
    return replace(state, log=log, leadership=replace(leadership, progress=progress))


def _send_append(
    state: RaftState, log: Log, peer: Progress, shared: tuple[Entry, ...], duty: Duty, *, empty: bool = False
) -> Progress:
    """Send ``peer`` what it lacks, as far as its window allows.

    Args:
        shared: the end of the log, when it fits one append: sent as it is to everybody who needs just that.
        empty: send an append even when it carries nothing, to ask where the peer is.
    """
    config = state.config
    while True:
        next_index = peer.next_index
        pipelined = peer.state == _REPLICATE
        if len(peer.inflight) >= config.max_inflight_appends if pipelined else peer.probe_wait:
            return peer
        if next_index > log.last_index:
            if not empty:
                return peer
            entries: tuple[Entry, ...] = ()
        elif shared and shared[0].index == next_index:
            entries = shared
        else:
            entries = log.batch(next_index, config.max_append_entries, config.max_append_bytes)
        duty.send += (
            AppendRequest(
                sender=config.node_id,
                to=peer.node_id,
                term=state.current_term,
                prev_log_index=next_index - 1,
                prev_log_term=log.term_at(next_index - 1),
                entries=entries,
                leader_commit=state.commit_index,
            ),
        )
        last = next_index - 1 + len(entries)
        told = last if last < state.commit_index else state.commit_index
        if not pipelined:
            return replace(peer, probe_wait=1, told_commit=told)
        peer = Progress(
            peer.node_id,
            peer.match_index,
            last + 1,
            _REPLICATE,
            (*peer.inflight, last) if entries else peer.inflight,
            0,
            told,
            peer.acked_round,
            peer.active,
            peer.tick_match,
        )
        if last >= log.last_index:
            return peer


def heartbeat(state: RaftState, leadership: Leadership, duty: Duty) -> Leadership:
    """Send everybody a heartbeat, and ask where a member is whose pipeline has stood still for a beat."""
    node_id = state.config.node_id
    context = leadership.read_round if leadership.reads else 0
    progress: list[Progress] = []
    for peer in leadership.progress:
        if peer.node_id == node_id:
            progress.append(peer)
            continue
        told = min(peer.match_index, state.commit_index)
        duty.send += (
            HeartbeatRequest(
                sender=node_id, to=peer.node_id, term=state.current_term, leader_commit=told, context=context
            ),
        )
        if peer.state == _REPLICATE:
            if peer.match_index < peer.next_index - 1 and peer.tick_match == peer.match_index:
                _ask(state, peer, duty)
            if peer.tick_match != peer.match_index:
                peer = replace(peer, tick_match=peer.match_index)
        elif peer.probe_wait == 1:
            peer = replace(peer, probe_wait=2)
        progress.append(peer)
    return replace(leadership, progress=tuple(progress))


def _ask(state: RaftState, peer: Progress, duty: Duty) -> None:
    """Send an empty append behind all that is in flight: its answer tells whether something was lost."""
    previous = peer.next_index - 1
    duty.send += (
        AppendRequest(
            sender=state.config.node_id,
            to=peer.node_id,
            term=state.current_term,
            prev_log_index=previous,
            prev_log_term=state.log.term_at(previous),
            entries=(),
            leader_commit=state.commit_index,
        ),
    )


# --- the leader hears ----------------------------------------------------------------------------------


def persisted(state: RaftState, event: Persisted, duty: Duty) -> RaftState:
    """The log is durable up to an entry, if that entry is still the one that was written."""
    index = event.index
    if state.log.term_at(index) != event.term or 0 < event.under < state.conflict_term:
        duty.refuse("persisted/replaced", f"entry {index} of term {event.term}")
        return state
    if index <= state.persisted_index:
        return state
    released = max(state.released_index, min(state.commit_index, index))
    leadership = state.leadership
    state = replace(state, persisted_index=index, released_index=released)
    if leadership is None:
        return state
    position = _member(state, state.config.node_id)
    return state if position < 0 else _hold(state, leadership, position, index, duty)


def _member(state: RaftState, node_id: int) -> int:
    """The position of a member in ``progress``; -1 for a stranger."""
    members = state.configuration.members
    return members.index(node_id) if node_id in members else -1


def on_append_reply(state: RaftState, reply: AppendReply, duty: Duty) -> RaftState:
    """A member holds more of the log, or refuses because its log does not agree there."""
    leadership = state.leadership
    if leadership is None:
        duty.refuse("message/late-reply", f"append reply of {reply.sender}")
        return state
    position = _member(state, reply.sender)
    if position < 0:
        duty.refuse("message/stranger", f"append reply of {reply.sender}")
        return state
    peer = leadership.progress[position]
    if not reply.success:
        retry = peers.refused(peer, reply, state.log)
        if retry is None:
            duty.refuse("append/stale-refusal", f"of {reply.sender} at {reply.prev_log_index}")
            return _with_peer(state, leadership, position, replace(peer, active=True))
        retry = _send_append(state, state.log, replace(retry, active=True), (), duty, empty=True)
        return _with_peer(state, leadership, position, retry)
    if reply.match_index > state.log.last_index:
        duty.refuse("append/ack-beyond-log", f"of {reply.sender} at {reply.match_index}")
        return state
    if reply.match_index > peer.match_index or peer.state == _PROBE:
        return _hold(state, leadership, position, max(reply.match_index, peer.match_index), duty)
    return state if peer.active else _with_peer(state, leadership, position, replace(peer, active=True))


def _with_peer(state: RaftState, leadership: Leadership, position: int, peer: Progress) -> RaftState:
    progress = leadership.progress
    if progress[position] is peer:
        return state
    progress = (*progress[:position], peer, *progress[position + 1 :])
    return replace(state, leadership=replace(leadership, progress=progress))


def may_commit(log: Log, index: int, current_term: int) -> bool:
    """Whether a majority holding ``index`` commits it: only an entry of the leader's own term (figure 8)."""
    return log.term_at(index) == current_term


def _hold(state: RaftState, leadership: Leadership, position: int, match_index: int, duty: Duty) -> RaftState:
    """A member's log is durable up to ``match_index``: commit what a majority holds, send what is due."""
    progress = list(leadership.progress)
    peer = progress[position] = peers.acknowledged(progress[position], match_index)
    commit = state.commit_index
    if match_index > commit:
        held = quorum.reached(state.configuration, [each.match_index for each in progress])
        if held > commit and may_commit(state.log, held, state.current_term):
            return _commit(state, leadership, progress, held, duty)
    if peer.node_id != state.config.node_id:
        progress[position] = _send_due(state, peer, duty)
    return replace(state, leadership=replace(leadership, progress=tuple(progress)))


def _commit(
    state: RaftState, leadership: Leadership, progress: list[Progress], commit: int, duty: Duty
) -> RaftState:
    reads_wait = bool(leadership.reads) and not reads.leader_is_ready(state)
    durable = commit if commit < state.persisted_index else state.persisted_index
    state = replace(state, commit_index=commit, released_index=max(state.released_index, durable))
    node_id = state.config.node_id
    for position, peer in enumerate(progress):
        if peer.node_id != node_id:
            progress[position] = _send_due(state, peer, duty)
    state = replace(state, leadership=replace(leadership, progress=tuple(progress)))
    return reads.start_waiting(state, duty) if reads_wait else state


def _send_due(state: RaftState, peer: Progress, duty: Duty) -> Progress:
    """Send entries the peer lacks; if it lacks none but does not know the commit index, a notice of that."""
    if peer.next_index <= state.log.last_index:
        peer = _send_append(state, state.log, peer, (), duty)
    told = peer.match_index if peer.match_index < state.commit_index else state.commit_index
    if told <= peer.told_commit:
        return peer
    duty.send += (
        HeartbeatRequest(
            sender=state.config.node_id,
            to=peer.node_id,
            term=state.current_term,
            leader_commit=told,
            quiet=True,
        ),
    )
    return replace(peer, told_commit=told)


def on_heartbeat_reply(state: RaftState, reply: HeartbeatReply, duty: Duty) -> RaftState:
    """A member still follows: note it, confirm read rounds, and repeat a probe that may have been lost."""
    leadership = state.leadership
    if leadership is None:
        duty.refuse("message/late-reply", f"heartbeat reply of {reply.sender}")
        return state
    position = _member(state, reply.sender)
    if position < 0:
        duty.refuse("message/stranger", f"heartbeat reply of {reply.sender}")
        return state
    peer = leadership.progress[position]
    newer = reply.context > peer.acked_round
    if newer or not peer.active:
        peer = replace(peer, active=True, acked_round=max(peer.acked_round, reply.context))
    if peer.state == _PROBE and peer.probe_wait == 2:
        peer = _send_append(state, state.log, replace(peer, probe_wait=0), (), duty, empty=True)
    state = _with_peer(state, leadership, position, peer)
    return reads.confirm(state, duty) if newer and leadership.reads else state
