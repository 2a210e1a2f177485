"""What a leader knows about one member's log, and how much it may send without an answer.

PROBE: the point where the logs agree is unknown; one append at a time. REPLICATE: appends are pipelined,
``next_index`` runs ahead of ``match_index`` and every append in flight is remembered by its last index, up
to a window of appends and of bytes. SNAPSHOT: the entries needed are gone, a snapshot is on its way and
nothing else is sent; ``next_index`` is the first entry after it.

Source: Ongaro and Ousterhout 2014, sections 5.3 and 7; thesis 10.2.1 for pipelining.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import IntEnum

import msgspec
from msgspec.structs import replace

from .log import Log
from .types import AppendReply

__all__ = [
    "Progress", "ProgressState", "acknowledged", "awaiting_snapshot", "refused", "rewound",
    "sent", "snapshot_ended", "unreachable",
]


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
    probe_wait: int = 0  # PROBE: 0 may send, 1 sent, 2 sent and a heartbeat went out since; SNAPSHOT: 3
    told_commit: int = 0  # the newest commit index sent there
    acked_round: int = 0  # the newest read round confirmed there
    active: bool = False  # heard from since the last quorum check
    tick_match: int = -1  # match_index at the last heartbeat, to notice a stalled pipeline
    session: int = 0  # the entry by which it joined under this leader; 0: it was there at the election
    inflight_bytes: tuple[int, ...] = ()  # aligned with ``inflight``; () unless bytes are limited


_REPLICATE = int(ProgressState.REPLICATE)


def sent(progress: Progress, last_index: int, commit_index: int, inflight_bytes: tuple[int, ...]) -> Progress:
    """An append of entries up to ``last_index`` went out to a member in REPLICATE.

    Args:
        inflight_bytes: of all appends in flight, with this one; () when bytes are not limited.
    """
    return Progress(
        progress.node_id,
        progress.match_index,
        last_index + 1,
        _REPLICATE,
        (*progress.inflight, last_index),
        0,
        last_index if last_index < commit_index else commit_index,
        progress.acked_round,
        progress.active,
        progress.tick_match,
        progress.session,
        inflight_bytes,
    )


def acknowledged(progress: Progress, match_index: int) -> Progress:
    """The member holds everything up to ``match_index`` (> its old one): pipeline from there on."""
    inflight, inflight_bytes = progress.inflight, progress.inflight_bytes
    if inflight:
        answered = bisect_right(inflight, match_index)
        inflight = inflight[answered:]
        if inflight_bytes:
            inflight_bytes = inflight_bytes[answered:]
    next_index = progress.next_index
    return Progress(
        progress.node_id,
        match_index,
        next_index if next_index > match_index else match_index + 1,
        _REPLICATE,
        inflight,
        0,
        progress.told_commit,
        progress.acked_round,
        True,
        progress.tick_match,
        progress.session,
        inflight_bytes,
    )


def rewound(progress: Progress, next_index: int) -> Progress:
    """Forget what is in flight and probe at ``next_index`` (more than the match index)."""
    assert next_index > progress.match_index, (next_index, progress.match_index)
    return replace(
        progress,
        next_index=next_index,
        state=ProgressState.PROBE,
        inflight=(),
        inflight_bytes=(),
        probe_wait=0,
    )


def unreachable(progress: Progress) -> Progress:
    """What was in flight may be lost: probe behind what is confirmed, once the member answers again."""
    if progress.state != ProgressState.REPLICATE:
        return progress
    return replace(rewound(progress, progress.match_index + 1), probe_wait=1)


def awaiting_snapshot(progress: Progress, index: int) -> Progress:
    """A snapshot up to ``index`` is on its way: send nothing else until it is acknowledged or has failed."""
    return replace(rewound(progress, index + 1), state=ProgressState.SNAPSHOT, probe_wait=3)


def snapshot_ended(progress: Progress, *, ok: bool) -> Progress:
    """The transfer has ended: wait for the acknowledgement, or a beat, then probe behind the snapshot.

    Args:
        ok: False: it failed, so probing starts behind what is confirmed and leads to another snapshot.
    """
    next_index = max(progress.next_index, progress.match_index + 1) if ok else progress.match_index + 1
    return replace(rewound(progress, next_index), probe_wait=1)


def refused(progress: Progress, reply: AppendReply, log: Log) -> Progress | None:
    """Where to try next after a refusal; None when the refusal is out of date.

    The hint skips, in one round trip, all of the leader's entries whose terms the follower cannot have at
    that place (end of 5.3). A match index is never raised here: a refusal proves nothing (bug B5).
    """
    if progress.state == ProgressState.SNAPSHOT:
        return None
    if progress.state == ProgressState.REPLICATE:
        if reply.prev_log_index <= progress.match_index:
            return None
        return rewound(progress, progress.match_index + 1)
    if reply.prev_log_index != progress.next_index - 1 or 0 < reply.prev_log_index <= progress.match_index:
        return None
    hint = log.last_not_after_term(reply.hint_index, reply.hint_term)
    return rewound(progress, max(min(reply.prev_log_index, hint + 1), progress.match_index + 1))
