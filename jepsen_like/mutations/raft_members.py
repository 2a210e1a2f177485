"""Planted bugs of membership changes and snapshots: B9 to B14 and B30 of the bug zoo."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from msgspec.structs import replace

from tercet.core.errors import Corruption
from tercet.core.raft import (
    AppendReply,
    ChangeKind,
    Configuration,
    HeartbeatRequest,
    RaftState,
    SnapshotInstalled,
    SnapshotRequest,
    election,
    following,
    proposals,
    quorum,
    replication,
    snapshot,
)
from tercet.core.raft.quorum import VoteResult, quorum_value
from tercet.core.raft.state import Duty, Leadership
from tercet.sim.explorer.exhaustive.scope import Scope

from .mutation import Mutation, replaced, rerouted

__all__ = ["MUTATIONS"]

_step = sys.modules["tercet.core.raft.step"]  # the package's own ``step`` is the function
_careful_may_campaign = election.may_campaign
_careful_on_append_reply = replication.on_append_reply
_careful_on_heartbeat = following.on_heartbeat_request
_careful_on_snapshot = snapshot.on_snapshot_request
_careful_installed = snapshot.installed


def _always(state: RaftState) -> bool:
    return True


def _never_pending(state: RaftState, leadership: Leadership) -> bool:
    return False


@contextmanager
def _b9() -> Iterator[None]:
    with replaced(proposals, "may_change", _always), replaced(proposals, "change_pending", _never_pending):
        yield


def _union(configuration: Configuration) -> tuple[int, ...]:
    return tuple(sorted(frozenset(configuration.voters) | frozenset(configuration.outgoing)))


def _result_of_union(
    configuration: Configuration, granted: Collection[int], refused: Collection[int] = ()
) -> VoteResult:
    voters = _union(configuration)
    need = len(voters) // 2 + 1
    if not voters or sum(voter in granted for voter in voters) >= need:
        return VoteResult.WON
    if sum(voter in refused for voter in voters) > len(voters) - need:
        return VoteResult.LOST
    return VoteResult.PENDING


def _reached_by_union(configuration: Configuration, values: Sequence[int]) -> int:
    by_id = dict(zip(configuration.members, values, strict=True))
    return quorum_value([by_id[voter] for voter in _union(configuration)])


@contextmanager
def _b10() -> Iterator[None]:
    with (
        replaced(quorum, "vote_result", _result_of_union),
        replaced(quorum, "reached", _reached_by_union),
    ):
        yield


def _whatever_is_unapplied(state: RaftState) -> str:
    rule = _careful_may_campaign(state)
    return "" if rule == "election/change-unapplied" else rule


def _b11() -> AbstractContextManager[None]:
    return replaced(election, "may_campaign", _whatever_is_unapplied)


def _only_incoming_voters(state: RaftState) -> str:
    if state.config.node_id not in state.configuration.voters:
        return "election/not-a-voter"
    return _careful_may_campaign(state)


def _b12() -> AbstractContextManager[None]:
    return replaced(election, "may_campaign", _only_incoming_voters)


def _any_session(state: RaftState, reply: AppendReply, duty: Duty) -> RaftState:
    leadership = state.leadership
    for peer in () if leadership is None else leadership.progress:
        if peer.node_id == reply.sender:
            reply = replace(reply, session=peer.session)
    return _careful_on_append_reply(state, reply, duty)


def _b13() -> AbstractContextManager[None]:
    return rerouted(_step._MESSAGES, AppendReply, _any_session)


def _believe_commit(state: RaftState, request: HeartbeatRequest, duty: Duty) -> RaftState:
    known = request.leader_commit <= state.log.last_index
    after = _careful_on_heartbeat(
        state, request if known else replace(request, leader_commit=state.commit_index), duty
    )
    return after if known else replace(after, commit_index=request.leader_commit)


def _b14() -> AbstractContextManager[None]:
    return rerouted(_step._MESSAGES, HeartbeatRequest, _believe_commit)


def _take_another(state: RaftState, request: SnapshotRequest, duty: Duty) -> RaftState:
    if state.installing is not None:
        state = replace(state, installing=None)
    return _careful_on_snapshot(state, request, duty)


def _any_installed(state: RaftState, event: SnapshotInstalled, duty: Duty) -> RaftState:
    if state.installing is None:
        raise Corruption(f"a snapshot at {event.index} was loaded that nobody waits for")
    return _careful_installed(state, SnapshotInstalled(state.installing.meta.index), duty)


@contextmanager
def _b30() -> Iterator[None]:
    with (
        rerouted(_step._MESSAGES, SnapshotRequest, _take_another),
        rerouted(_step._EVENTS, SnapshotInstalled, _any_installed),
    ):
        yield


_REMOVE_2, _REMOVE_3 = ((int(ChangeKind.REMOVE), 2),), ((int(ChangeKind.REMOVE), 3),)

MUTATIONS = (
    Mutation(
        "B9",
        "Ongaro, raft-dev 2015",
        "A leader takes a configuration change at once: before it has committed in its own term, and while "
        "another change is under way. (The first alone cannot bite here: a change takes effect when it is "
        "applied, and a new leader waits until all that it found in its log is.)",
        "two changes under way, and a follower that knows of neither",
        _b9,
        scope=Scope(terms=2, entries=1, changes=(_REMOVE_2, _REMOVE_3)),
    ),
    Mutation(
        "B10",
        "CCF, NSDI 2025",
        "A joint configuration decides by a majority of all its voters instead of one of each group.",
        "a joint change, and majorities that do not meet",
        _b10,
        scope=Scope(terms=2, entries=1, changes=((*_REMOVE_2, *_REMOVE_3),)),
    ),
    Mutation(
        "B11",
        "etcd 7280, raft 456",
        "A node campaigns although it has not applied a configuration change that it knows to be committed.",
        "two changes committed, a state machine that stands still on one node",
        _b11,
        scope=Scope(terms=2, entries=1, stalls=1, changes=((*_REMOVE_2, *_REMOVE_3),)),
    ),
    Mutation(
        "B12",
        "etcd 12359",
        "In a joint configuration an old voter that is to go may not campaign.",
        "a joint configuration, a leader that crashes after it has sent an entry to such a voter alone",
        _b12,
        outside="liveness",
    ),
    Mutation(
        "B13",
        "etcd-raft 349",
        "An append's answer counts although it comes from an earlier life of the member.",
        "a member removed, wiped and added again in one term, and a delayed answer",
        _b13,
        outside="a disk that is wiped",
    ),
    Mutation(
        "B14",
        "etcd 21178",
        "A follower believes a heartbeat's commit index, whatever its own log holds.",
        "a learner removed, wiped and added again, and a delayed heartbeat",
        _b14,
        outside="a disk that is wiped",
    ),
    Mutation(
        "B30",
        "etcd 18055, 20271",
        "A follower takes a second snapshot while it loads one, and takes the end of the first for that of "
        "the second.",
        "a follower that lags, two snapshots within a short time",
        _b30,
        outside="snapshots",
    ),
)
