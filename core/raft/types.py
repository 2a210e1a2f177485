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
    "AppendReply", "AppendRequest", "Applied", "Change", "ChangeKind", "ConfChange", "Effects", "Entry",
    "EntryKind", "Event", "HardState", "HeartbeatReply", "HeartbeatRequest", "Message", "Natural",
    "Persisted", "Propose", "ProposeConfChange", "ProposeRequest", "ReadIndex", "ReadIndexReply",
    "ReadIndexRequest", "ReadState", "Receive", "Refusal", "Role", "SnapshotInstalled", "SnapshotMeta",
    "SnapshotReady", "SnapshotRequest", "SnapshotSent", "SoftState", "Tick", "TimeoutNow", "TransferLeader",
    "TransferRequest", "TransitionKind", "Unreachable", "VoteReply", "VoteRequest", "decode_conf_change",
    "encode_conf_change",
]


class Role(IntEnum):
    FOLLOWER = 0
    PRE_CANDIDATE = 1
    CANDIDATE = 2
    LEADER = 3


class EntryKind(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1  # ``data`` is an encoded ``ConfChange``


#: An index, a term, an id: what a decoder refuses below 0.
Natural: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One log entry. Empty ``data`` is the no-op a new leader appends (thesis 6.4)."""

    term: Natural
    index: Natural
    data: bytes = b""
    kind: int = 0


class ChangeKind(IntEnum):
    """What a configuration change does to one member; etcd's AddNode, RemoveNode, AddLearnerNode."""

    ADD_VOTER = 0  # also: promote a learner
    REMOVE = 1
    ADD_LEARNER = 2  # also: demote a voter


class TransitionKind(IntEnum):
    """How a change of several members goes through the joint configuration; etcd's names."""

    AUTO = 0  # simple when at most one voter changes, else joint and left by itself
    IMPLICIT = 1  # joint, left by the leader once it is committed
    EXPLICIT = 2  # joint, left by an empty ``ConfChange``


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    kind: ChangeKind
    node_id: Natural


class ConfChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A change of the configuration (thesis chapter 4, joint as in section 6 of the paper).

    No ``changes``: leave the joint configuration. ``context`` is the proposer's own, opaque to Raft: for a
    member of a cluster it is an encoded command (header and request), which the state machine applies.
    """

    changes: tuple[Change, ...] = ()
    transition: TransitionKind = TransitionKind.AUTO
    context: bytes = b""


_change_encoder = msgspec.msgpack.Encoder()
_change_decoder = msgspec.msgpack.Decoder(ConfChange)


def encode_conf_change(change: ConfChange) -> bytes:
    """The ``data`` of an entry of kind CONF_CHANGE."""
    return _change_encoder.encode(change)


def decode_conf_change(data: bytes) -> ConfChange:
    """The change that ``data`` encodes. Raises ``msgspec.MsgspecError`` when it encodes none."""
    return _change_decoder.decode(data)


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a snapshot stands for: the log up to ``index``, and the configuration as applied there."""

    index: Natural
    term: Natural
    voters: tuple[int, ...]
    outgoing: tuple[int, ...] = ()  # the old voters while the configuration is joint
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()  # voters of ``outgoing`` that become learners when it is left
    auto_leave: bool = False


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
    """Also tells how far the candidate has committed, and the term of that entry (0: not told)."""

    last_log_index: Natural
    last_log_term: Natural
    pre_vote: bool = False
    forced: bool = False  # set by a leader's transfer: ignore the lease of the present leader
    commit_index: Natural = 0
    commit_term: Natural = 0


class VoteReply(_Message, frozen=True, array_like=True, tag="VoteReply", kw_only=True):
    """A refusal tells what the sender knows to be committed, as requests do (``election.hear_commit``)."""

    vote_granted: bool
    pre_vote: bool = False
    refusal: str = ""  # the rule that refused, "" when granted
    commit_index: Natural = 0  # of a refusal; 0: not told
    commit_term: Natural = 0


class AppendRequest(_Message, frozen=True, array_like=True, tag="AppendRequest", kw_only=True):
    """``session`` tells lives of one id apart: the entry by which the receiver joined under this leader, or 0
    when it was there before. The reply repeats it, so that an answer from before a member was removed and
    added again is not believed (bug B13)."""

    prev_log_index: Natural
    prev_log_term: Natural
    entries: tuple[Entry, ...]
    leader_commit: Natural
    session: Natural = 0


class AppendReply(_Message, frozen=True, array_like=True, tag="AppendReply", kw_only=True):
    """``match_index`` on success: prev_log_index + len(entries) of the request answered, durable.
    On refusal ``prev_log_index`` names the refused request, and the hint the best place to try."""

    success: bool
    match_index: Natural = 0
    prev_log_index: Natural = 0
    hint_index: Natural = 0
    hint_term: Natural = 0
    refusal: str = ""
    session: Natural = 0  # of the request answered


class HeartbeatRequest(_Message, frozen=True, array_like=True, tag="HeartbeatRequest", kw_only=True):
    leader_commit: Natural  # what the receiver has confirmed and is committed; 0: nothing to tell
    context: Natural = 0  # the newest read round the reply confirms; 0: none
    quiet: bool = False  # a notice of a new commit index: no reply is wanted
    session: Natural = 0  # as in ``AppendRequest``: what ``leader_commit`` was confirmed in
    lost: bool = False  # the receiver has said that it lacks what it has confirmed in this very session
    commit_term: Natural = 0  # of the entry ``leader_commit``


class HeartbeatReply(_Message, frozen=True, array_like=True, tag="HeartbeatReply", kw_only=True):
    context: Natural = 0
    lacks: Natural = 0  # a ``leader_commit`` that should be confirmed and is not in the log; 0: none
    session: Natural = 0  # of the heartbeat that told it


class ProposeRequest(_Message, frozen=True, array_like=True, tag="ProposeRequest", kw_only=True):
    """Proposals forwarded to the leader; fire and forget, as in etcd."""

    entries: tuple[bytes, ...]
    conf_changes: tuple[bytes, ...] = ()  # encoded; taken after ``entries``


class SnapshotRequest(_Message, frozen=True, array_like=True, tag="SnapshotRequest", kw_only=True):
    """The entries you need are gone: here is a snapshot (figure 13). Only the driver has its data.

    The sending driver carries the data on a connection of its own, may replace ``meta`` by that of a newer
    snapshot it really sends, and reports with ``SnapshotSent``. The receiving driver keeps the data aside
    and delivers this message once all of it has arrived and been checked.
    """

    meta: SnapshotMeta
    session: Natural = 0  # as in ``AppendRequest``


class TransferRequest(_Message, frozen=True, array_like=True, tag="TransferRequest", kw_only=True):
    """Forwarded to the leader: hand over to ``target`` (thesis 3.10)."""

    target: Natural


class TimeoutNow(_Message, frozen=True, array_like=True, tag="TimeoutNow", kw_only=True):
    """The leader hands over: campaign at once (thesis 3.10)."""


class ReadIndexRequest(_Message, frozen=True, array_like=True, tag="ReadIndexRequest", kw_only=True):
    context: Natural  # chosen by the asking member; never reused within an incarnation


class ReadIndexReply(_Message, frozen=True, array_like=True, tag="ReadIndexReply", kw_only=True):
    context: Natural
    read_index: Natural


Message: TypeAlias = (
    VoteRequest | VoteReply | AppendRequest | AppendReply | HeartbeatRequest | HeartbeatReply
    | ProposeRequest | ReadIndexRequest | ReadIndexReply | SnapshotRequest | TransferRequest | TimeoutNow
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
    """The state machine has applied the log up to ``index``.

    The configuration follows here: every CONF_CHANGE entry newly covered takes effect, but for those in
    ``refused`` (indexes), which the state machine applied as nothing. Every member's state machine must
    refuse the same ones.
    """

    index: int
    refused: tuple[int, ...] = ()


class ProposeConfChange(_Event, frozen=True, array_like=True, tag="ProposeConfChange"):
    """Propose to change the configuration; forwarded when another member leads."""

    change: ConfChange


class TransferLeader(_Event, frozen=True, array_like=True, tag="TransferLeader"):
    """Hand leadership to ``target`` (thesis 3.10); 0: to whichever voter is most up to date."""

    target: int


class SnapshotReady(_Event, frozen=True, array_like=True, tag="SnapshotReady"):
    """The state machine is durable up to ``meta.index`` (<= what is applied).

    Entries up to ``release`` (<= ``meta.index``) may be forgotten; 0: none.
    """

    meta: SnapshotMeta
    release: int


class SnapshotInstalled(_Event, frozen=True, array_like=True, tag="SnapshotInstalled"):
    """The snapshot that ``Effects.install`` asked for is durable and loaded up to ``index``."""

    index: int


class SnapshotSent(_Event, frozen=True, array_like=True, tag="SnapshotSent"):
    """The transfer to ``member`` ended; ``ok`` False: try again later."""

    member: int
    ok: bool


class Unreachable(_Event, frozen=True, array_like=True, tag="Unreachable"):
    """The connection to ``member`` was lost: what was in flight may be, too."""

    member: int


Event: TypeAlias = (
    Tick | Receive | Propose | ReadIndex | Persisted | Applied | ProposeConfChange | TransferLeader
    | SnapshotReady | SnapshotInstalled | SnapshotSent | Unreachable
)


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
    7. ``install``: load this snapshot, whose data came with a ``SnapshotRequest``, in place of state machine
       and log, then answer ``SnapshotInstalled``. ``committed`` of later steps follows it.
    8. ``dropped_conf_changes`` did not happen; a refusal names the rule. ``configuration`` is set when the
       configuration in force changed.
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
    install: SnapshotMeta | None = None
    dropped_conf_changes: tuple[ConfChange, ...] = ()
    configuration: SnapshotMeta | None = None  # index and term: of the entry that changed it
