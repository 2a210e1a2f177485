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

from . import leases, quorum, reads, snapshot, transfer
from . import progress as peers
from .heartbeats import heartbeat_to, known_commit
from .log import Log
from .progress import Progress, ProgressState
from .state import Config, Duty, Leadership, RaftState
from .types import (
    AppendReply,
    AppendRequest,
    Entry,
    HeartbeatReply,
    Persisted,
    Unreachable,
)

__all__ = [
    "append", "heartbeat", "may_commit", "on_append_reply", "on_heartbeat_reply", "persisted", "recount",
    "unreachable",
]

_REPLICATE = int(ProgressState.REPLICATE)
_PROBE = int(ProgressState.PROBE)
_SNAPSHOT = int(ProgressState.SNAPSHOT)


# --- the leader appends and sends -----------------------------------------------------------------------


def append(state: RaftState, data: tuple[bytes, ...], duty: Duty, kind: int = 0) -> RaftState:
    """Append entries of the current term to the leader's log and send them to everybody who may get them."""
    leadership = state.leadership
    assert leadership is not None
    if not data:
        return state
    term = state.current_term
    before = state.log
    first = before.last_index + 1
    entries = tuple([Entry(term, index, each, kind) for index, each in enumerate(data, first)])
    log = before.append(entries, plain=not kind)
    duty.entries += entries
    config = state.config
    size = sum(map(len, data))
    fits = len(entries) <= config.max_append_entries and size <= config.max_append_bytes
    node_id = config.node_id
    progress: list[Progress] = []
    for peer in leadership.progress:
        if peer.node_id == node_id:
            progress.append(peer)
        elif fits and peer.next_index == first and peer.state == _REPLICATE and _has_room(config, peer):
            # Just these entries: the usual case, made cheap. Everybody is sent the same tuple.
            duty.send += (
                AppendRequest(
                    sender=node_id,
                    to=peer.node_id,
                    term=term,
                    prev_log_index=first - 1,
                    prev_log_term=before.last_term,
                    entries=entries,
                    leader_commit=state.commit_index,
                    session=peer.session,
                ),
            )
            in_bytes = (*peer.inflight_bytes, size) if config.max_inflight_bytes else ()
            progress.append(peers.sent(peer, log.last_index, state.commit_index, in_bytes))
        else:
            progress.append(_send_append(state, log, peer, duty))
    return replace(state, log=log, leadership=replace(leadership, progress=tuple(progress)))


def _has_room(config: Config, peer: Progress) -> bool:
    """Whether one more append fits the window of a member in REPLICATE; one may go beyond the bytes."""
    if len(peer.inflight) >= config.max_inflight_appends:
        return False
    return not config.max_inflight_bytes or sum(peer.inflight_bytes) < config.max_inflight_bytes


def _send_append(state: RaftState, log: Log, peer: Progress, duty: Duty) -> Progress:
    """Send ``peer`` what it lacks, as far as its window allows; an empty append when it lacks nothing."""
    config = state.config
    if not _vote_is_durable(state):
        return peer
    while True:
        next_index = peer.next_index
        pipelined = peer.state == _REPLICATE
        if not _has_room(config, peer) if pipelined else peer.probe_wait:
            return peer
        if next_index <= log.base_index:
            return snapshot.send(state, peer, duty)
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
                session=peer.session,
            ),
        )
        last = next_index - 1 + len(entries)
        if not pipelined:
            return replace(peer, probe_wait=1, told_commit=min(last, state.commit_index))
        in_bytes: tuple[int, ...] = ()
        if config.max_inflight_bytes:
            in_bytes = (*peer.inflight_bytes, sum([len(entry.data) for entry in entries]))
        peer = peers.sent(peer, last, state.commit_index, in_bytes)
        if last >= log.last_index:
            return peer


def _vote_is_durable(state: RaftState) -> bool:
    """Whether this leader will remember, after a crash, that it leads this term (figure 2, "votedFor").

    Whoever asks others for votes waits until its own is durable; who wins alone, with but learners beside it,
    waits for nobody. Until its first entry is durable, a crash could let it lead this term again, with other
    entries at the same places, or vote for somebody else in it. So until then nobody hears that it leads.
    """
    if state.log.term_at(state.persisted_index) == state.current_term:
        return True
    return quorum.vote_result(state.configuration, (state.config.node_id,)) != quorum.VoteResult.WON


def heartbeat(state: RaftState, leadership: Leadership, duty: Duty) -> Leadership:
    """Send everybody a heartbeat, and ask where a member is whose pipeline has stood still for a beat."""
    if not _vote_is_durable(state):
        return leadership
    node_id = state.config.node_id
    context = leadership.read_round if leadership.reads or leadership.lease is not None else 0
    progress: list[Progress] = []
    for peer in leadership.progress:
        if peer.node_id == node_id:
            progress.append(peer)
            continue
        duty.send += (heartbeat_to(state, peer, known_commit(state, peer), context=context),)
        if peer.state == _REPLICATE:
            if peer.match_index < peer.next_index - 1 and peer.tick_match == peer.match_index:
                peer = _ask(state, peer, duty)
            if peer.tick_match != peer.match_index:
                peer = replace(peer, tick_match=peer.match_index)
        elif peer.probe_wait == 1:
            peer = replace(peer, probe_wait=2)
        progress.append(peer)
    return replace(leadership, progress=tuple(progress))


def _ask(state: RaftState, peer: Progress, duty: Duty) -> Progress:
    """Send an empty append behind all that is in flight: its answer tells whether something was lost."""
    previous = peer.next_index - 1
    if previous < state.log.base_index:
        return snapshot.send(state, peer, duty)
    duty.send += (
        AppendRequest(
            sender=state.config.node_id,
            to=peer.node_id,
            term=state.current_term,
            prev_log_index=previous,
            prev_log_term=state.log.term_at(previous),
            entries=(),
            leader_commit=state.commit_index,
            session=peer.session,
        ),
    )
    return peer


# --- the leader hears ----------------------------------------------------------------------------------


def persisted(state: RaftState, event: Persisted, duty: Duty) -> RaftState:
    """The log is durable up to an entry, if that entry is still the one that was written (thesis 10.2.1)."""
    index = event.index
    replaced = state.log.term_at(index) != event.term or 0 < event.under < state.conflict_term
    if replaced or state.installing is not None:
        duty.refuse("persisted/replaced", f"entry {index} of term {event.term}")
        return state
    if index <= state.persisted_index:
        return state
    leadership = state.leadership
    state = replace(state, persisted_index=index)
    if leadership is None:
        return state
    position = _member(state, state.config.node_id)
    return state if position < 0 else _hold(state, leadership, position, index, duty)


def _member(state: RaftState, node_id: int) -> int:
    """The position of a member in ``progress``; -1 for a stranger."""
    members = state.configuration.members
    return members.index(node_id) if node_id in members else -1


def on_append_reply(state: RaftState, reply: AppendReply, duty: Duty) -> RaftState:
    """A member holds more of the log, or refuses because its log does not agree there (5.3)."""
    leadership = state.leadership
    if leadership is None:
        duty.refuse("message/late-reply", f"append reply of {reply.sender}")
        return state
    position = _member(state, reply.sender)
    if position < 0:
        duty.refuse("message/stranger", f"append reply of {reply.sender}")
        return state
    peer = leadership.progress[position]
    if reply.session != peer.session:
        duty.refuse("append/other-session", f"of {reply.sender}: {reply.session} instead of {peer.session}")
        return state
    if not reply.success:
        retry = peers.refused(peer, reply, state.log)
        if retry is None:
            duty.refuse("append/stale-refusal", f"of {reply.sender} at {reply.prev_log_index}")
            return _with_peer(state, leadership, position, replace(peer, active=True))
        retry = _send_append(state, state.log, replace(retry, active=True), duty)
        return _with_peer(state, leadership, position, retry)
    if reply.match_index > state.log.last_index:
        duty.refuse("append/ack-beyond-log", f"of {reply.sender} at {reply.match_index}")
        return state
    if peer.state == _SNAPSHOT and reply.match_index < state.log.base_index:
        peer = replace(peer, match_index=max(reply.match_index, peer.match_index), active=True)
        return _with_peer(state, leadership, position, peer)
    if reply.match_index > peer.match_index or peer.state == _PROBE:
        state = _hold(state, leadership, position, max(reply.match_index, peer.match_index), duty)
    else:
        if reply.match_index < peer.match_index:
            duty.refuse("append/old-ack", f"of {reply.sender} at {reply.match_index}")
        if not peer.active:
            state = _with_peer(state, leadership, position, replace(peer, active=True))
    if leadership.transfer_target == reply.sender:
        transfer.hand_over(state, duty)
    return state


def _with_peer(state: RaftState, leadership: Leadership, position: int, peer: Progress) -> RaftState:
    progress = leadership.progress
    if progress[position] is peer:
        return state
    progress = (*progress[:position], peer, *progress[position + 1 :])
    return replace(state, leadership=replace(leadership, progress=progress))


def may_commit(log: Log, index: int, current_term: int) -> bool:
    """Whether a majority holding ``index`` commits it: only one of the leader's own term (5.4.2)."""
    return log.term_at(index) == current_term


def _hold(state: RaftState, leadership: Leadership, position: int, match_index: int, duty: Duty) -> RaftState:
    """A member holds the log durably up to ``match_index``: commit what a majority holds (5.3), and send."""
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
    """A majority holds the log up to ``commit``, of the own term (5.3, 5.4.2): count it off, and tell."""
    reads_wait = bool(leadership.reads) and not reads.leader_is_ready(state)
    if leadership.uncommitted_bytes:
        term = state.current_term
        committed = state.log.entries(state.commit_index + 1, commit)
        size = sum([len(entry.data) for entry in committed if entry.term == term and not entry.kind])
        leadership = replace(leadership, uncommitted_bytes=leadership.uncommitted_bytes - size)
    state = replace(state, commit_index=commit)
    node_id = state.config.node_id
    for position, peer in enumerate(progress):
        if peer.node_id != node_id:
            progress[position] = _send_due(state, peer, duty)
    state = replace(state, leadership=replace(leadership, progress=tuple(progress)))
    return reads.start_waiting(state, duty) if reads_wait else state


def _send_due(state: RaftState, peer: Progress, duty: Duty) -> Progress:
    """Send entries the peer lacks; if it lacks none but does not know the commit index, a notice of that."""
    if peer.next_index <= state.log.last_index:
        peer = _send_append(state, state.log, peer, duty)
    told = known_commit(state, peer)
    if told <= peer.told_commit:
        return peer
    duty.send += (heartbeat_to(state, peer, told, quiet=True),)
    return replace(peer, told_commit=told)


def recount(state: RaftState, duty: Duty) -> RaftState:
    """The configuration has changed: commit what its majority holds, and send everybody what is due."""
    leadership = state.leadership
    assert leadership is not None
    progress = list(leadership.progress)
    held = quorum.reached(state.configuration, [peer.match_index for peer in progress])
    if held > state.commit_index and may_commit(state.log, held, state.current_term):
        return _commit(state, leadership, progress, held, duty)
    node_id = state.config.node_id
    for position, peer in enumerate(progress):
        if peer.node_id != node_id:
            progress[position] = _send_due(state, peer, duty)
    return replace(state, leadership=replace(leadership, progress=tuple(progress)))


def unreachable(state: RaftState, event: Unreachable, duty: Duty) -> RaftState:
    """The connection to a member was lost: what was in flight is probed for, once it answers again."""
    leadership = state.leadership
    position = _member(state, event.member)
    if leadership is None or position < 0:
        return state
    return _with_peer(state, leadership, position, peers.unreachable(leadership.progress[position]))


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
    if reply.lacks:
        _tell_what_is_lost(state, peer, reply, duty)
    if leadership.reads and reply.context < leadership.read_round:
        duty.refuse("read/old-round", f"answer of {reply.sender} to round {reply.context}")
    if reply.context > leadership.read_round:
        duty.refuse("read/no-such-round", f"answer of {reply.sender} to round {reply.context}")
        return state
    newer = reply.context > peer.acked_round
    if newer or not peer.active:
        peer = replace(peer, active=True, acked_round=max(peer.acked_round, reply.context))
    if peer.state == _PROBE and peer.probe_wait == 2:
        peer = _send_append(state, state.log, replace(peer, probe_wait=0), duty)
    state = _with_peer(state, leadership, position, peer)
    if not newer:
        return state
    after = state.leadership
    if after is not None and after.lease is not None:
        state = leases.confirmed(state, after, after.lease)
    return reads.confirm(state, duty) if leadership.reads else state


def _tell_what_is_lost(state: RaftState, peer: Progress, reply: HeartbeatReply, duty: Duty) -> None:
    """A member lacks what a heartbeat told. If this life of it had confirmed that, its disk has failed.

    It had confirmed it before the heartbeat left, and answered after that, all in one session. What the
    leader itself has no more, it sends a snapshot for.
    """
    if reply.session != peer.session or reply.lacks > min(peer.match_index, state.commit_index):
        duty.refuse("append/other-session", f"of {reply.sender}: {reply.session} instead of {peer.session}")
    elif reply.lacks >= state.log.base_index:
        duty.send += (heartbeat_to(state, peer, reply.lacks, quiet=True, lost=True),)
