"""The state of one Raft node: a frozen value. ``restart`` makes the first one, ``step`` all others.

Names follow figure 2 of Ongaro and Ousterhout 2014. What only a leader has is in ``Leadership``, which is
None in every other role. ``Duty`` gathers what a step owes the world while the step runs; it never leaves
``step``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from .log import Log
from .progress import Progress
from .quorum import Configuration, configuration_of
from .types import (
    ConfChange,
    Effects,
    Entry,
    Message,
    ReadState,
    Refusal,
    Role,
    SnapshotMeta,
    SnapshotRequest,
)

__all__ = [
    "Config", "Duty", "Leadership", "Lease", "PendingRead", "RaftState", "Transition", "election_timeout",
    "state_digest",
]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one node; they do not change while it runs.

    Raises:
        ValueError: a value is out of its range; nothing was built.
    """

    node_id: int  # > 0
    voters: tuple[int, ...]  # at the very beginning; distinct ids > 0; (): wait to be told by a leader
    learners: tuple[int, ...] = ()
    election_ticks: int = 10  # > heartbeat_ticks; timeouts are drawn from [this, 2 * this)
    heartbeat_ticks: int = 1  # >= 1
    seed: int = 0  # of the election timeouts
    pre_vote: bool = True  # ask before raising the term (thesis 9.6)
    check_quorum: bool = True  # a leader without a majority steps down, one that is heard is protected
    max_append_bytes: int = 1024 * 1024  # of data in one append; one entry may be larger
    max_append_entries: int = 1024  # in one append; >= 1
    max_inflight_appends: int = 256  # unanswered appends to one member; >= 1
    max_inflight_bytes: int = 0  # of data in them; one append may go beyond; 0: no limit
    max_uncommitted_bytes: int = 0  # of a leader's own proposals; a single one may be larger; 0: no limit
    #: Serve a leader's reads without asking a majority as long as its lease runs. Safe only while no clock
    #: of a member runs faster than (election_ticks - 1) / lease ticks times the leader's, and the leader
    #: is never paused unnoticed (its clock stands still then). See ``leases``.
    read_only_lease: bool = False
    lease_ticks: int = 0  # how long a majority's answer lets the leader read; 0: half of election_ticks

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
        for name in ("max_inflight_bytes", "max_uncommitted_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"need {name} >= 0, got {getattr(self, name)}")
        if self.read_only_lease and not self.check_quorum:
            raise ValueError("need check_quorum with read_only_lease: else nobody keeps to the lease")
        if not 0 <= self.lease_ticks < self.election_ticks:
            raise ValueError(
                f"need 0 <= lease_ticks < election_ticks, got {self.lease_ticks} and {self.election_ticks}"
            )
        configuration_of(self.voters, (), self.learners)


class PendingRead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A read at the leader that waits for a majority to confirm a round.

    ``round`` 0 and ``read_index`` 0: the leader has not yet committed in its own term (thesis 6.4).
    """

    asker: int  # the member that asked, perhaps the leader itself
    context: int
    read_index: int
    round: int


class Lease(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How long the leader may read without asking (see ``leases``); times are ticks since its election."""

    now: int = 0
    rounds: tuple[tuple[int, int], ...] = ()  # unconfirmed rounds, each with the time it was sent
    start: int = -1  # when the newest confirmed round was sent; -1: none is
    broken: bool = False  # a transfer was begun: somebody may campaign in spite of the lease


class Leadership(msgspec.Struct, frozen=True, gc=False):
    """What only a leader knows. ``progress`` is aligned with ``configuration.members``."""

    progress: tuple[Progress, ...]
    heartbeat_elapsed: int = 0
    read_round: int = 0  # the newest round sent; a round number is never used twice in a term
    reads: tuple[PendingRead, ...] = ()  # in the order of asking
    pending_conf_index: int = 0  # no configuration change is proposed before this entry is applied
    uncommitted_bytes: int = 0  # of the proposals of this term; counted only when they are limited
    transfer_target: int = 0  # who is to lead next; 0: no transfer is under way
    transfer_elapsed: int = 0  # ticks since the transfer began
    lease: Lease | None = None  # None unless reads are served under a lease


class RaftState(msgspec.Struct, frozen=True, gc=False):
    """One node. Invariant: released_index <= commit_index <= last index; persisted_index <= last index;
    base index <= applied_index <= released_index, but for the base index while a snapshot is installed.
    """

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
    snapshot: SnapshotMeta | None = None  # the newest durable state of the state machine
    installing: SnapshotRequest | None = None  # the snapshot that the driver loads at present
    asked: tuple[int, int] = (0, 0)  # session and entry of which the leader was asked whether it was lost
    lease_guard: int = 0  # ticks for which a leader may rely on this node's refusing votes


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
    install: SnapshotMeta | None = None
    dropped_conf_changes: tuple[ConfChange, ...] = ()
    configuration: SnapshotMeta | None = None

    def refuse(self, rule: str, detail: str = "") -> None:
        """Note that ``rule`` (a key of ``refusals.RULES``) stopped something."""
        self.refusals += (Refusal(rule, detail),)


def election_timeout(config: Config, term: int, campaigns: int) -> int:
    """Draw a timeout in ticks from [election_ticks, 2 * election_ticks): a hash, so nothing to save."""
    key = f"{config.seed}/{config.node_id}/{term}/{campaigns}".encode()
    draw = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    return config.election_ticks + draw % config.election_ticks


_encode = msgspec.msgpack.Encoder().encode


def state_digest(state: RaftState) -> bytes:
    """A 16 byte digest of all that decides the future of this node; equal in every process and hash seed."""
    rest: list[object] = [
        state.log.digest() if name == "log" else getattr(state, name) for name in state.__struct_fields__
    ]
    rest.append((state.log.base_index, state.log.base_term, state.log.last_index))
    return blake2b(_encode(rest), digest_size=16).digest()
