"""Planted bugs of stability: B20 and B21 of the bug zoo."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from msgspec.structs import replace

from tercet.core.raft import Message, RaftState, VoteRequest, election
from tercet.core.raft.state import Duty

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]

_step = sys.modules["tercet.core.raft.step"]  # the package's own ``step`` is the function
_careful_campaign = election.campaign
_careful_older_term = _step._older_term


def _unprotected(state: RaftState) -> bool:
    return False


def _without_asking(state: RaftState, duty: Duty, *, forced: bool = False) -> RaftState:
    config = state.config
    state = replace(state, config=replace(config, pre_vote=False, check_quorum=False, read_only_lease=False))
    return replace(_careful_campaign(state, duty, forced=forced), config=config)


@contextmanager
def _b20() -> Iterator[None]:
    with replaced(election, "protects_leader", _unprotected), replaced(election, "campaign", _without_asking):
        yield


def _silent(state: RaftState, message: Message, duty: Duty) -> None:
    if isinstance(message, VoteRequest):
        _careful_older_term(state, message, duty)
    else:
        duty.refuse("term/stale", f"{type(message).__name__} of {message.sender} in term {message.term}")


def _b21() -> AbstractContextManager[None]:
    return replaced(_step, "_older_term", _silent)


MUTATIONS = (
    Mutation(
        "B20",
        "Howard and Abraham 2020",
        "Pre-vote and check-quorum do nothing although they are on.",
        "a node that hears everybody but the leader",
        _b20,
        outside="liveness",
    ),
    Mutation(
        "B21",
        "etcd 8334",
        "A node does not tell a leader of an older term that there is a newer one.",
        "a node that raised its term while it was cut off",
        _b21,
        outside="liveness",
    ),
)
