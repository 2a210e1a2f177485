"""Planted bugs of elections: B1, B2 and B3 of the bug zoo."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tercet.core.raft import RaftState, VoteReply, VoteRequest, election
from tercet.core.raft.log import Log
from tercet.core.raft.state import Duty
from tercet.sim.explorer.exhaustive.scope import Scope

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]


def _vote_for_anybody(state: RaftState, request: VoteRequest) -> bool:
    return True


def _answer_vote_at_once(duty: Duty, reply: VoteReply) -> None:
    duty.send += (reply,)


def _longer_is_newer(log: Log, last_log_index: int, last_log_term: int) -> bool:
    return last_log_index >= log.last_index


def _b1() -> AbstractContextManager[None]:
    return replaced(election, "may_vote", _vote_for_anybody)


def _b2() -> AbstractContextManager[None]:
    return replaced(election, "answer_vote", _answer_vote_at_once)


def _b3() -> AbstractContextManager[None]:
    return replaced(election, "log_up_to_date", _longer_is_newer)


MUTATIONS = (
    Mutation(
        "B1",
        "Raft 5.2",
        "A node grants a vote without looking whom it voted for in this term.",
        "two candidates in one term",
        _b1,
        scope=Scope(terms=1, entries=0),
    ),
    Mutation(
        "B2",
        "Raft 5.2",
        "A node tells its vote before term and vote are on its disk.",
        "a vote, a crash before the write ends, a second candidate in the same term",
        _b2,
        scope=Scope(terms=1, entries=0, crashes=1, strict=False),
    ),
    Mutation(
        "B3",
        "Raft 5.4.1",
        "A log counts as up to date when it is long enough, whatever the term of its last entry.",
        "a long stale log against a short newer one",
        _b3,
        scope=Scope(terms=3, entries=0),
    ),
)
