"""Snapshots: forgetting the beginning of the log, sending it as a snapshot, and loading one.

The core never sees a snapshot's data. It knows what a snapshot stands for (``SnapshotMeta``), asks its
driver to send one (``SnapshotRequest``) or to load the one that came with such a message
(``Effects.install``), and is told how that ended. A leader sends a member nothing else meanwhile, and after
a failure waits for a heartbeat to be answered before it tries again, so that a dead member costs nothing.

A follower takes a snapshot for its log at once but counts none of it as durable before
``SnapshotInstalled``: until then it acknowledges nothing, releases nothing and does not campaign.

Source: Ongaro and Ousterhout 2014, section 7; thesis chapter 5.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import membership
from . import progress as peers
from .log import empty_log
from .progress import Progress, ProgressState
from .state import Duty, RaftState
from .types import AppendReply, SnapshotInstalled, SnapshotMeta, SnapshotReady, SnapshotRequest, SnapshotSent

__all__ = ["installed", "on_snapshot_request", "ready", "send", "sent", "snapshot_meta"]


def snapshot_meta(state: RaftState) -> SnapshotMeta:
    """What a snapshot of the state machine as it is now (at ``applied_index``) stands for."""
    index = state.applied_index
    return membership.meta_of(state.configuration, index, state.log.term_at(index))


def ready(state: RaftState, event: SnapshotReady, duty: Duty) -> RaftState:
    """The state machine is durable up to an entry: forget what may be forgotten."""
    meta, log = event.meta, state.log
    newest = log.base_index if state.snapshot is None else state.snapshot.index
    if state.installing is not None or meta.index < newest:
        duty.refuse("snapshot/stale", f"at {meta.index}")
        return state
    assert event.release <= meta.index <= state.applied_index, (event.release, meta, state.applied_index)
    assert log.term_at(meta.index) == meta.term, (log.term_at(meta.index), meta)
    if event.release > log.base_index:
        log = log.compacted(event.release)
    return replace(state, log=log, snapshot=meta)


# --- the leader sends ------------------------------------------------------------------------------------


def send(state: RaftState, peer: Progress, duty: Duty) -> Progress:
    """Have a snapshot sent to a member whose next entry is gone; one that is silent has to answer first."""
    if not peer.active:
        return replace(peers.rewound(peer, peer.match_index + 1), probe_wait=1)
    meta = state.snapshot
    assert meta is not None and meta.index >= state.log.base_index, (meta, state.log.base_index)
    duty.send += (
        SnapshotRequest(
            sender=state.config.node_id,
            to=peer.node_id,
            term=state.current_term,
            meta=meta,
            session=peer.session,
        ),
    )
    return peers.awaiting_snapshot(peer, meta.index)


def sent(state: RaftState, event: SnapshotSent, duty: Duty) -> RaftState:
    """A transfer has ended. The acknowledgement may have come before; then this says nothing new."""
    leadership = state.leadership
    if leadership is None:
        return state
    progress = tuple(
        [
            peers.snapshot_ended(peer, ok=event.ok)
            if peer.node_id == event.member and peer.state == ProgressState.SNAPSHOT
            else peer
            for peer in leadership.progress
        ]
    )
    return replace(state, leadership=replace(leadership, progress=progress))


# --- the follower loads ----------------------------------------------------------------------------------


def on_snapshot_request(state: RaftState, request: SnapshotRequest, duty: Duty) -> RaftState:
    """Load the leader's snapshot, unless the log holds all of it already (figure 13, steps 5 to 8)."""
    meta = request.meta
    state = replace(state, election_elapsed=0)
    if state.installing is not None:
        duty.refuse("snapshot/installing", f"at {meta.index}")
        return state
    if meta.index <= state.commit_index:
        duty.refuse("snapshot/stale", f"at {meta.index}")
        _acknowledge(state, request, state.commit_index, duty)
        return state
    if state.log.term_at(meta.index) == meta.term:
        # The same entry, so the same log up to it (log matching), and it is committed.
        duty.refuse("snapshot/not-needed", f"at {meta.index}")
        _acknowledge(state, request, meta.index, duty)
        return replace(state, commit_index=meta.index)
    try:
        configuration = membership.configuration_in(meta)
    except ValueError as error:
        duty.refuse("snapshot/malformed", str(error))
        return state
    duty.install = duty.configuration = meta
    return replace(
        state,
        configuration=configuration,
        log=empty_log(meta.index, meta.term),
        commit_index=meta.index,
        persisted_index=state.released_index,
        conflict_term=state.current_term,
        installing=request,
    )


def installed(state: RaftState, event: SnapshotInstalled, duty: Duty) -> RaftState:
    """The snapshot is durable and loaded: only now it may be acknowledged (7; figure 2)."""
    request = state.installing
    if request is None or event.index != request.meta.index:
        duty.refuse("snapshot/stale", f"at {event.index}")
        return state
    index = event.index
    if request.sender == state.leader_id and request.term == state.current_term:
        _acknowledge(state, request, index, duty)
    return replace(
        state,
        installing=None,
        snapshot=request.meta,
        persisted_index=index,
        released_index=index,
        applied_index=index,
    )


def _acknowledge(state: RaftState, request: SnapshotRequest, index: int, duty: Duty) -> None:
    duty.send_after_persist += (
        AppendReply(
            sender=state.config.node_id,
            to=request.sender,
            term=state.current_term,
            success=True,
            match_index=index,
            session=request.session,
        ),
    )
