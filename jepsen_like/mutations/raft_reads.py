"""Planted bugs of reads: B15 to B19 of the bug zoo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from msgspec.structs import replace

from tercet.core.raft import Config, RaftState, leases, reads
from tercet.core.raft.state import Duty, Leadership, PendingRead
from tercet.sim.explorer.exhaustive.scope import Scope

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]

_careful_ready = reads.leader_is_ready
_careful_enter = reads._enter


def _always_ready(state: RaftState) -> bool:
    return True


def _b15() -> AbstractContextManager[None]:
    return replaced(reads, "leader_is_ready", _always_ready)


def _one_number(leadership: Leadership) -> Leadership:
    pending = leadership.reads
    if pending and pending[-1].round > leadership.read_round:
        again = tuple([replace(read, round=1) if read.round else read for read in pending])
        return replace(leadership, read_round=1, reads=again)
    return leadership


def _b16() -> AbstractContextManager[None]:
    return replaced(reads, "with_new_round", _one_number)


def _ready_alone(state: RaftState) -> bool:
    return len(state.configuration.members) == 1 or _careful_ready(state)


def _b17() -> AbstractContextManager[None]:
    return replaced(reads, "leader_is_ready", _ready_alone)


def _long_lease(config: Config) -> int:
    return 4 * config.election_ticks


def _no_promise(state: RaftState) -> bool:
    return False


@contextmanager
def _b18() -> Iterator[None]:
    with replaced(leases, "lease_ticks", _long_lease), replaced(leases, "promises_kept", _no_promise):
        yield


def _answer_at_once(state: RaftState, asker: int, context: int, duty: Duty) -> RaftState:
    if not _careful_ready(state):
        return _careful_enter(state, asker, context, duty)
    reads._answer(state, PendingRead(asker, context, state.commit_index, 0), duty)
    return state


def _b19() -> AbstractContextManager[None]:
    return replaced(reads, "_enter", _answer_at_once)


MUTATIONS = (
    Mutation(
        "B15",
        "etcd 7331",
        "A leader confirms reads before it has committed an entry of its own term.",
        "a change of leader, and a read at once",
        _b15,
        scope=Scope(terms=2, entries=0, reads=1),
    ),
    Mutation(
        "B16",
        "etcd 20418",
        "Every read round has the same number, so that answers to an old round confirm a new read.",
        "two reads, and a new leader in between",
        _b16,
        scope=Scope(terms=2, entries=1, reads=2),
    ),
    Mutation(
        "B17",
        "etcd-raft 105",
        "A leader that is alone confirms reads before it has committed in its own term.",
        "one member, a crash after an acknowledged write, and a read at once",
        _b17,
        nodes=1,
        scope=Scope(nodes=1, terms=2, entries=1, reads=1, crashes=1, slow_writes=1),
    ),
    Mutation(
        "B18",
        "Raft 6.4.1",
        "A lease is longer than the voters' promise, and the voters do not keep it.",
        "leases on, a leader cut off, and a read there",
        _b18,
        outside="clocks",
    ),
    Mutation(
        "B19",
        "etcd 0.4.1",
        "A leader answers reads without asking anybody whether it still leads.",
        "a leader cut off, a new leader that writes, and a read at the old one",
        _b19,
        scope=Scope(terms=2, entries=0, reads=1),
    ),
)
