"""Replication as a follower does it: accepting entries, repairing conflicts, learning what is committed.

An append is accepted when the entry before it agrees; then everything before agrees, too. What conflicts is
replaced, what is there already stays. The acknowledgement proves agreement up to the request's own last
entry, no further, and leaves only when that is durable.

Source: Ongaro and Ousterhout 2014, section 5.3.
"""

from __future__ import annotations

from msgspec.structs import replace

from ..errors import Corruption
from .log import Log
from .state import Duty, RaftState
from .types import AppendReply, AppendRequest, Entry, HeartbeatReply, HeartbeatRequest

__all__ = [
    "acknowledge", "acknowledged_index", "commit_told", "learn_commit", "on_append_request",
    "on_heartbeat_request", "reconcile",
]


def reconcile(log: Log, request: AppendRequest) -> tuple[Log, tuple[Entry, ...]]:
    """Make ``log`` agree with the request's entries; the entry before them agrees already.

    Entries we have are skipped; only a real conflict truncates, since an old request that arrives late must
    not cut off what came after it (5.3, and "delete" in figure 2; bug B7).

    Returns:
        The new log, and those entries that were appended to it.
    """
    entries = request.entries
    if not entries:
        return log, ()
    if request.prev_log_index == log.last_index:
        return log.append(entries), entries
    for position, entry in enumerate(entries):
        if log.term_at(entry.index) != entry.term:
            fresh = entries[position:]
            return log.truncated(entry.index - 1).append(fresh), fresh
    return log, ()


def acknowledged_index(request: AppendRequest, log: Log) -> int:
    """What an accepted request proves (5.3): agreement up to its own last entry, whatever ``log`` holds."""
    return request.prev_log_index + len(request.entries)


def commit_told(request: AppendRequest) -> int:
    """How far an accepted request lets a follower commit: not beyond what it proves (figure 2)."""
    return min(request.leader_commit, request.prev_log_index + len(request.entries))


def acknowledge(duty: Duty, reply: AppendReply) -> None:
    """Tell the leader that entries are held, but only once they are durable (figure 2)."""
    duty.send_after_persist += (reply,)


def on_append_request(state: RaftState, request: AppendRequest, duty: Duty) -> RaftState:
    """Accept the leader's entries if the one before them agrees; else tell where logs may agree (5.3)."""
    log = state.log
    prev = request.prev_log_index
    if state.installing is not None:
        duty.refuse("append/installing", f"entry {prev + 1}")
        return replace(state, election_elapsed=0)
    if log.term_at(prev) != request.prev_log_term:  # figure 2, AppendEntries, step 2
        if prev < log.base_index:
            duty.refuse("append/compacted", f"entry {prev} of term {request.prev_log_term}")
            _acknowledge_committed(state, request, duty)
        else:
            _refuse_append(state, request, duty)
        return replace(state, election_elapsed=0)
    new_log, fresh = reconcile(log, request)  # steps 3 and 4
    commit = commit_told(request)  # step 5
    if commit < state.commit_index:
        commit = state.commit_index
    persisted_index = state.persisted_index
    conflict_term = state.conflict_term
    if fresh:
        first = fresh[0].index
        if first <= state.commit_index:
            raise Corruption(
                f"leader {request.sender} of term {request.term} wants to replace entry {first}, but this "
                f"node has committed up to {state.commit_index}"
            )
        if first <= log.last_index:
            conflict_term = state.current_term
            persisted_index = min(persisted_index, first - 1)
        duty.entries += fresh
    acknowledge(
        duty,
        AppendReply(
            sender=state.config.node_id,
            to=request.sender,
            term=state.current_term,
            success=True,
            match_index=acknowledged_index(request, new_log),
            session=request.session,
        ),
    )
    return replace(
        state,
        log=new_log,
        election_elapsed=0,
        commit_index=commit,
        persisted_index=persisted_index,
        conflict_term=conflict_term,
    )


def learn_commit(state: RaftState, index: int, term: int) -> RaftState:
    """Somebody has committed entry ``index`` of ``term``: if this log holds it, it holds all before it, too.

    True whatever the terms of the two nodes (figure 3, log matching and leader completeness). A log without
    that entry learns nothing.
    """
    if index <= state.commit_index or state.log.term_at(index) != term:
        return state
    return replace(state, commit_index=index)


def _acknowledge_committed(state: RaftState, request: AppendRequest, duty: Duty) -> None:
    """What a snapshot stands for is committed, so the leader has it, too (figure 3, leader completeness)."""
    acknowledge(
        duty,
        AppendReply(
            sender=state.config.node_id,
            to=request.sender,
            term=state.current_term,
            success=True,
            match_index=state.commit_index,
            session=request.session,
        ),
    )


def _refuse_append(state: RaftState, request: AppendRequest, duty: Duty) -> None:
    hint = state.log.last_not_after_term(request.prev_log_index, request.prev_log_term)
    detail = f"entry {request.prev_log_index} of term {request.prev_log_term}"
    duty.refuse("append/no-match", detail)
    duty.send_after_persist += (
        AppendReply(
            sender=state.config.node_id,
            to=request.sender,
            term=state.current_term,
            success=False,
            prev_log_index=request.prev_log_index,
            hint_index=hint,
            hint_term=state.log.term_at(hint),
            refusal="append/no-match",
            session=request.session,
        ),
    )


def on_heartbeat_request(state: RaftState, request: HeartbeatRequest, duty: Duty) -> RaftState:
    """The leader is alive, and has committed an entry that this node has confirmed (figure 3, log matching).

    Whoever holds that very entry commits up to it. Whoever does not holds less than was confirmed: by this
    node, whose disk has lost it, or by an earlier life of it, before it was removed, wiped and added again.
    So it asks the leader, which knows by the session, before it blames its disk.
    """
    commit = request.leader_commit
    lacks = commit > state.commit_index and state.log.term_at(commit) != request.commit_term
    if lacks and request.lost and state.asked == (request.session, commit):
        raise Corruption(
            f"leader {request.sender} of term {request.term} has seen this node confirm entry {commit} of "
            f"term {request.commit_term}, but {_instead(state.log, commit)}: durable entries were lost"
        )
    if lacks or not request.quiet:
        duty.send += (
            HeartbeatReply(
                sender=state.config.node_id,
                to=request.sender,
                term=state.current_term,
                context=request.context,
                lacks=commit if lacks else 0,
                session=request.session if lacks else 0,
            ),
        )
    if lacks:
        duty.refuse("heartbeat/not-held", f"commit index {commit} of term {request.commit_term}")
        return replace(state, election_elapsed=0, asked=(request.session, commit))
    return learn_commit(replace(state, election_elapsed=0), commit, request.commit_term)


def _instead(log: Log, index: int) -> str:
    """What a log holds at a place where it should hold something else."""
    if index > log.last_index:
        return f"its log ends at {log.last_index}"
    return f"its log holds one of term {log.term_at(index)} there"
