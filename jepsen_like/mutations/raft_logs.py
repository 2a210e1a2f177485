"""Planted bugs of replication: B4 to B8 of the bug zoo, and acknowledging before the disk is synced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from msgspec.structs import replace

from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    Entry,
    Progress,
    ProgressState,
    following,
    progress,
    replication,
)
from tercet.core.raft.log import Log
from tercet.core.raft.state import Duty
from tercet.sim.explorer.exhaustive.scope import Scope

from .mutation import Mutation, replaced

__all__ = ["HARMLESS", "MUTATIONS"]

_careful_refused = progress.refused


def _commit_any_term(log: Log, index: int, current_term: int) -> bool:
    return True


def _refusal_raises_match(peer: Progress, reply: AppendReply, log: Log) -> Progress | None:
    retry = _careful_refused(peer, reply, log)
    if retry is None or reply.hint_index <= retry.match_index:
        return retry
    hint = min(reply.hint_index, log.last_index)
    return replace(retry, match_index=hint, next_index=max(retry.next_index, hint + 1))


def _acknowledge_all(request: AppendRequest, log: Log) -> int:
    return log.last_index


def _truncate_always(log: Log, request: AppendRequest) -> tuple[Log, tuple[Entry, ...]]:
    entries = request.entries
    if not entries:
        return log, ()
    return log.truncated(request.prev_log_index).append(entries), entries


def _commit_what_leader_says(request: AppendRequest) -> int:
    return request.leader_commit


def _acknowledge_at_once(duty: Duty, reply: AppendReply) -> None:
    duty.send += (reply,)


def _b4() -> AbstractContextManager[None]:
    return replaced(replication, "may_commit", _commit_any_term)


def _b5() -> AbstractContextManager[None]:
    return replaced(progress, "refused", _refusal_raises_match)


def _start_over(peer: Progress, reply: AppendReply, log: Log) -> Progress | None:
    if peer.state == ProgressState.PROBE and reply.prev_log_index != peer.next_index - 1:
        return None
    return progress.rewound(peer, peer.match_index + 1)


@contextmanager
def _b6() -> Iterator[None]:
    with _leader_starts_over(), replaced(following, "acknowledged_index", _acknowledge_all):
        yield


def _leader_starts_over() -> AbstractContextManager[None]:
    return replaced(progress, "refused", _start_over)


def _b7() -> AbstractContextManager[None]:
    return replaced(following, "reconcile", _truncate_always)


def _b8() -> AbstractContextManager[None]:
    return replaced(following, "commit_told", _commit_what_leader_says)


def _ack_before_fsync() -> AbstractContextManager[None]:
    return replaced(following, "acknowledge", _acknowledge_at_once)


HARMLESS = Mutation(
    "start-over",
    "Raft 5.3",
    "After a refusal the leader starts over from the first entry not acknowledged: slow, but right.",
    "nothing: this one must not be found",
    _leader_starts_over,
)

MUTATIONS = (
    Mutation(
        "B4",
        "Raft figure 8",
        "A leader commits an entry of an older term as soon as a majority holds it.",
        "several leader changes, each with partial replication",
        _b4,
        outside="four terms, some twenty moves",
    ),
    Mutation(
        "B5",
        "CCF, NSDI 2025",
        "A refused append raises the leader's idea of what the follower holds to the refusal's hint.",
        "a follower whose log diverges from a new leader's",
        _b5,
        scope=Scope(terms=3, entries=0),
    ),
    Mutation(
        "B6",
        "CCF, NSDI 2025",
        "A follower acknowledges its whole log, not just what the request proves to agree. (Shown with a "
        "leader that starts over from the beginning after a refusal, which is slow but right: the shipped "
        "leader jumps to the exact place of conflict, where this bug cannot bite.)",
        "a follower with a longer, conflicting tail",
        _b6,
        scope=Scope(terms=3, entries=1, batch=1),
    ),
    Mutation(
        "B7",
        "CCF, NSDI 2025",
        "A follower cuts its log behind every append, conflict or not.",
        "a delayed or repeated old append",
        _b7,
        scope=Scope(terms=1, entries=2),
    ),
    Mutation(
        "B8",
        "Raft 5.3",
        "A follower commits up to the leader's commit index, even beyond the last entry of the request.",
        "a short append, a high commit index, a stale tail",
        _b8,
        scope=Scope(terms=1, entries=1, beats=1, batch=1),
    ),
    Mutation(
        "ack-before-fsync",
        "etcd 14370 and many others",
        "A follower acknowledges entries before they are on its disk.",
        "an acknowledgement, then a crash before the write ends",
        _ack_before_fsync,
        scope=Scope(terms=1, entries=0),
    ),
)
