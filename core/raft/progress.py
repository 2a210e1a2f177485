"""What a leader knows about one member's log, and how much it may send without an answer.

PROBE: the point where the logs agree is unknown; one append at a time. REPLICATE: appends are pipelined,
``next_index`` runs ahead of ``match_index`` and every append in flight is remembered by its last index, up
to a window. SNAPSHOT is reserved: the entries needed are gone.

Source: Ongaro and Ousterhout 2014, section 5.3; thesis 10.2.1 for pipelining.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import IntEnum

import msgspec

from .log import Log
from .types import AppendReply

__all__ = ["Progress", "ProgressState", "acknowledged", "refused", "rewound"]


class ProgressState(IntEnum):
    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The leader's view of one member. Invariant: match_index < next_index."""

    node_id: int
    match_index: int = 0  # known to be durable there
    next_index: int = 1  # the first entry of the next append
    state: int = ProgressState.PROBE
    inflight: tuple[int, ...] = ()  # last index of every unanswered append, ascending (REPLICATE)
    probe_wait: int = 0  # PROBE: 0 may send, 1 sent, 2 sent and a heartbeat went out since
    told_commit: int = 0  # the newest commit index sent there
    acked_round: int = 0  # the newest read round confirmed there
    active: bool = False  # heard from since the last quorum check
    tick_match: int = -1  # match_index at the last heartbeat, to notice a stalled pipeline


def acknowledged(progress: Progress, match_index: int) -> Progress:
    """The member holds everything up to ``match_index`` (> its old one): pipeline from there on."""
    inflight = progress.inflight
    if inflight:
        inflight = inflight[bisect_right(inflight, match_index) :]
    return Progress(
        progress.node_id,
        match_index,
        max(progress.next_index, match_index + 1),
        ProgressState.REPLICATE,
        inflight,
        0,
        progress.told_commit,
        progress.acked_round,
        True,
        progress.tick_match,
    )


def rewound(progress: Progress, next_index: int) -> Progress:
    """Forget what is in flight and probe at ``next_index`` (more than the match index)."""
    assert next_index > progress.match_index, (next_index, progress.match_index)
    return msgspec.structs.replace(
        progress, next_index=next_index, state=ProgressState.PROBE, inflight=(), probe_wait=0
    )


def refused(progress: Progress, reply: AppendReply, log: Log) -> Progress | None:
    """Where to try next after a refusal; None when the refusal is out of date.

    The hint skips, in one round trip, all of the leader's entries whose terms the follower cannot have at
    that place. A match index is never raised here: a refusal proves nothing (bug B5).
    """
    if progress.state == ProgressState.REPLICATE:
        if reply.prev_log_index <= progress.match_index:
            return None
        return rewound(progress, progress.match_index + 1)
    if reply.prev_log_index != progress.next_index - 1:
        return None
    hint = log.last_not_after_term(reply.hint_index, reply.hint_term)
    return rewound(progress, max(min(reply.prev_log_index, hint + 1), progress.match_index + 1))
