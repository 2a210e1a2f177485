"""The vocabulary of Raft here: entries, messages, events and effects, all frozen values.

``step(state, event) -> Transition(state, effects)`` is the whole interface (see ``core.raft.step``).
Names are those of figure 2 of Ongaro and Ousterhout 2014; what the figure lacks is named as in etcd.
Node id 0 means "nobody" (no vote, no leader). Indexes and terms start at 1; 0 stands for "before the
first". Structs are ``array_like``: they are what peer frames, the WAL and traces encode with
msgspec's msgpack, so a field may only be appended, never moved.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, TypeAlias

import msgspec

__all__ = [
    "AppendReply", "AppendRequest", "Applied", "Effects", "Entry", "EntryKind", "Event", "HardState",
    "HeartbeatReply", "HeartbeatRequest", "Message", "Natural", "Persisted", "Propose", "ProposeRequest",
    "ReadIndex", "ReadIndexReply", "ReadIndexRequest", "ReadState", "Receive", "Refusal", "Role", "SoftState",
    "Tick", "VoteReply", "VoteRequest",
]


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class EntryKind(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1  # used from the membership issue on


#: An index, a term, an id: what a decoder refuses below 0.
Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry. Empty ``data`` is the no-op a new leader appends (thesis 6.4)."""

    term: Natural
    index: Natural
    data: bytes = b""
    kind: int = 0


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must survive a crash besides the log. ``commit_index`` is a hint: losing it is safe."""

    current_term: int = 0
    voted_for: int = 0
    commit_index: int = 0


class SoftState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    role: Role
    leader_id: int  # 0: none known
    current_term: int


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True, kw_only=True):
    """Every message: from whom, to whom, and the sender's term (for pre-votes: the term asked for)."""

    sender: Natural
    to: Natural
    term: Natural


class VoteRequest(_Message, frozen=True, array_like=True, tag="VoteRequest", kw_only=True):
    last_log_index: Natural
    last_log_term: Natural
    pre_vote: bool = False
    forced: bool = False  # set by a leader's transfer: ignore the lease of the present leader


class VoteReply(_Message, frozen=True, array_like=True, tag="VoteReply", kw_only=True):
    vote_granted: bool
    pre_vote: bool = False
    refusal: str = ""  # the rule that refused, "" when granted


class AppendRequest(_Message, frozen=True, array_like=True, tag="AppendRequest", kw_only=True):
    prev_log_index: Natural
    prev_log_term: Natural
    entries: tuple[Entry, ...]
    leader_commit: Natural


class AppendReply(_Message, frozen=True, array_like=True, tag="AppendReply", kw_only=True):
    """``match_index`` on success: prev_log_index + len(entries) of the request answered, durable.
    On refusal ``prev_log_index`` names the refused request, and the hint the best place to try."""

    success: bool
    match_index: Natural = 0
    prev_log_index: Natural = 0
    hint_index: Natural = 0
    hint_term: Natural = 0
    refusal: str = ""


class HeartbeatRequest(_Message, frozen=True, array_like=True, tag="HeartbeatRequest", kw_only=True):
    leader_commit: Natural
    context: Natural = 0  # the newest read round the reply confirms; 0: none
    quiet: bool = False  # a notice of a new commit index: no reply is wanted


class HeartbeatReply(_Message, frozen=True, array_like=True, tag="HeartbeatReply", kw_only=True):
    context: Natural = 0


class ProposeRequest(_Message, frozen=True, array_like=True, tag="ProposeRequest", kw_only=True):
    """Proposals forwarded to the leader; fire and forget, as in etcd."""

    entries: tuple[bytes, ...]


class ReadIndexRequest(_Message, frozen=True, array_like=True, tag="ReadIndexRequest", kw_only=True):
    context: Natural  # chosen by the asking member; never reused within an incarnation


class ReadIndexReply(_Message, frozen=True, array_like=True, tag="ReadIndexReply", kw_only=True):
    context: Natural
    read_index: Natural


Message: TypeAlias = (
    VoteRequest | VoteReply | AppendRequest | AppendReply | HeartbeatRequest | HeartbeatReply
    | ProposeRequest | ReadIndexRequest | ReadIndexReply
)


class _Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Tick(_Event, frozen=True, array_like=True, tag="Tick"):
    """One unit of time, normally the heartbeat interval (100 ms)."""


class Receive(_Event, frozen=True, array_like=True, tag="Receive"):
    message: Message


class Propose(_Event, frozen=True, array_like=True, tag="Propose"):
    """New entries from this member's clients, in order; forwarded when another member leads."""

    entries: tuple[bytes, ...]


class ReadIndex(_Event, frozen=True, array_like=True, tag="ReadIndex"):
    """Ask for a linearizable read point (thesis 6.4); answered by ``Effects.reads``."""

    context: int


class Persisted(_Event, frozen=True, array_like=True, tag="Persisted"):
    """Everything that effects up to ``index`` of ``term`` asked to persist is durable.

    ``(index, term)`` is the last entry written (its own term), so that an answer for entries that were
    replaced meanwhile is known as stale. ``under`` is the core's current term when the newest of the
    effects made durable was produced (0: not told): the same entry can be written, replaced and written
    again, and only the term of the leader that asked tells the two writes apart.
    """

    index: int
    term: int
    under: int = 0


class Applied(_Event, frozen=True, array_like=True, tag="Applied"):
    """The state machine has applied the log up to ``index``."""

    index: int


Event: TypeAlias = Tick | Receive | Propose | ReadIndex | Persisted | Applied


class ReadState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A confirmed read: serve it once ``read_index`` is applied."""

    context: int
    read_index: int


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why something was refused or ignored, for traces and the player."""

    rule: str  # a key of core.raft.refusals.RULES, e.g. "vote/log-not-up-to-date"
    detail: str


class Effects(msgspec.Struct, frozen=True, array_like=True):
    """What one step owes the world, in the order of duty.

    1. ``hard_state`` and ``entries`` must be durable (entries replace the log from entries[0].index on).
    2. ``send`` may leave at once (a leader's appends need not wait for its own disk, thesis 10.2.1).
    3. ``send_after_persist`` may leave only when all of 1, of this and every earlier step, is durable.
    4. ``committed`` may be applied, in order.
    5. ``reads`` are confirmed read points; ``dropped_reads`` and ``dropped`` (proposals) did not happen
       and will not: the driver may try again or answer that there is no leader.
    6. ``soft_state`` is set when role, leader or term changed.
    """

    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    send: tuple[Message, ...] = ()
    send_after_persist: tuple[Message, ...] = ()
    committed: tuple[Entry, ...] = ()
    reads: tuple[ReadState, ...] = ()
    dropped_reads: tuple[int, ...] = ()
    dropped: tuple[bytes, ...] = ()
    soft_state: SoftState | None = None
    refusals: tuple[Refusal, ...] = ()
