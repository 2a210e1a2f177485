"""The state of one Raft node: a frozen value, and the few ways to make one.

Names follow figure 2 of Ongaro and Ousterhout 2014. What only a leader has is in ``Leadership``, which is
None in every other role. ``Duty`` gathers what a step owes the world while the step runs; it never leaves
``step``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from .log import Log, log_of
from .progress import Progress
from .quorum import Configuration, configuration_of
from .types import Effects, Entry, HardState, Message, ReadState, Refusal, Role

__all__ = [
    "Config", "Duty", "Leadership", "PendingRead", "RaftState", "Transition", "election_timeout", "restart",
    "state_digest",
]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one node; they do not change while it runs.

    Raises:
        ValueError: a value is out of its range; nothing was built.
    """

    node_id: int  # > 0
    voters: tuple[int, ...]  # at the very beginning; distinct ids > 0
    learners: tuple[int, ...] = ()
    election_ticks: int = 10  # > heartbeat_ticks; timeouts are drawn from [this, 2 * this)
    heartbeat_ticks: int = 1  # >= 1
    seed: int = 0  # of the election timeouts
    pre_vote: bool = True  # ask before raising the term (thesis 9.6)
    check_quorum: bool = True  # a leader without a majority steps down, one that is heard is protected
    max_append_bytes: int = 1024 * 1024  # of data in one append; one entry may be larger
    max_append_entries: int = 1024  # in one append; >= 1
    max_inflight_appends: int = 256  # unanswered appends to one member; >= 1

    def __post_init__(self) -> None:
        if self.node_id <= 0:
            raise ValueError(f"need node_id > 0, got {self.node_id}")
        if not 1 <= self.heartbeat_ticks < self.election_ticks:
            raise ValueError(
                "need 1 <= heartbeat_ticks < election_ticks, got "
                f"{self.heartbeat_ticks} and {self.election_ticks}"
            )
        for name in ("max_append_bytes", "max_append_entries", "max_inflight_appends"):
            if getattr(self, name) < 1:
                raise ValueError(f"need {name} >= 1, got {getattr(self, name)}")
        configuration_of(self.voters, (), self.learners)


class PendingRead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A read at the leader that waits for a majority to confirm a round.

    ``round`` 0 and ``read_index`` 0: the leader has not yet committed in its own term (thesis 6.4).
    """

    asker: int  # the member that asked, perhaps the leader itself
    context: int
    read_index: int
    round: int


class Leadership(msgspec.Struct, frozen=True, gc=False):
    """What only a leader knows. ``progress`` is aligned with ``configuration.members``."""

    progress: tuple[Progress, ...]
    heartbeat_elapsed: int = 0
    read_round: int = 0  # the newest round sent; a round number is never used twice in a term
    reads: tuple[PendingRead, ...] = ()  # in the order of asking


class RaftState(msgspec.Struct, frozen=True, gc=False):
    """One node. Invariant: released_index <= commit_index <= last index; persisted_index <= last index."""

    config: Config
    configuration: Configuration
    log: Log
    current_term: int = 0
    voted_for: int = 0  # 0: nobody in this term
    role: int = Role.FOLLOWER
    leader_id: int = 0  # 0: none known
    commit_index: int = 0
    persisted_index: int = 0  # the log is durable up to here
    released_index: int = 0  # handed out as ``Effects.committed`` up to here
    applied_index: int = 0  # the state machine is there
    election_elapsed: int = 0  # ticks since a leader was heard (leader: since the last quorum check)
    election_timeout: int = 0  # ticks
    campaigns: int = 0  # campaigns begun since the start, so that timeouts differ under pre-vote
    granted: tuple[int, ...] = ()  # who votes for us in this campaign
    refused: tuple[int, ...] = ()
    conflict_term: int = 0  # the term in which the log was last truncated since the start
    leadership: Leadership | None = None


class Transition(NamedTuple):
    """What one step makes of a state."""

    state: RaftState
    effects: Effects


class Duty(msgspec.Struct):
    """Effects under construction; what follows from old and new state is added at the end of a step."""

    entries: tuple[Entry, ...] = ()
    send: tuple[Message, ...] = ()
    send_after_persist: tuple[Message, ...] = ()
    reads: tuple[ReadState, ...] = ()
    dropped_reads: tuple[int, ...] = ()
    dropped: tuple[bytes, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def refuse(self, rule: str, detail: str = "") -> None:
        """Note that ``rule`` (a key of ``refusals.RULES``) stopped something."""
        self.refusals += (Refusal(rule, detail),)


def election_timeout(config: Config, term: int, campaigns: int) -> int:
    """Draw a timeout in ticks from [election_ticks, 2 * election_ticks): a hash, so nothing to save."""
    key = f"{config.seed}/{config.node_id}/{term}/{campaigns}".encode()
    draw = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    return config.election_ticks + draw % config.election_ticks


def restart(
    config: Config, hard_state: HardState, entries: tuple[Entry, ...] = (), applied: int = 0
) -> RaftState:
    """The state of a node that starts with what its disk holds; all of it counts as durable.

    A node that starts for the first time passes ``HardState()``.

    Args:
        entries: the whole log, from index 1 on.
        applied: what the state machine has already applied; nothing up to there is handed out again.

    Raises:
        ValueError: the log has a gap, or ends before ``applied``, or has a term above the current one: the
            disk lost something that had been promised.
    """
    log = log_of(entries)
    if applied > log.last_index or log.last_term > hard_state.current_term:
        raise ValueError(
            f"need a log up to index {applied} and no term above {hard_state.current_term}, got one that "
            f"ends at index {log.last_index} of term {log.last_term}"
        )
    return RaftState(
        config=config,
        configuration=configuration_of(config.voters, (), config.learners),
        log=log,
        current_term=hard_state.current_term,
        voted_for=hard_state.voted_for,
        commit_index=max(applied, min(hard_state.commit_index, log.last_index)),
        persisted_index=log.last_index,
        released_index=applied,
        applied_index=applied,
        election_timeout=election_timeout(config, hard_state.current_term, 0),
    )


_encode = msgspec.msgpack.Encoder().encode


def state_digest(state: RaftState) -> bytes:
    """A 16 byte digest of all that decides the future of this node; equal in every process and hash seed."""
    rest: list[object] = [
        state.log.digest() if name == "log" else getattr(state, name) for name in state.__struct_fields__
    ]
    rest.append((state.log.base_index, state.log.base_term, state.log.last_index))
    return blake2b(_encode(rest), digest_size=16).digest()
