"""``--force-new-cluster``: one survivor's log becomes the log of a cluster of one.

When most members are gone for good nobody can commit anything, and so nobody can remove them either. The
operator, who alone can know that, has the survivor do what a majority would do: the changes that remove all
others are appended to its log and counted as committed. The survivor keeps everything in its log, committed
or not: an entry may have been acknowledged without this member's knowledge. The new entries have a term of
their own, so that the removed, should they come back, hold nothing that looks like them.

Unlike etcd, which drops what this member does not know to be committed.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct as Layout

from .errors import Rejected
from .members import MemberCommand, conf_change
from .raft.types import (
    ChangeKind,
    Entry,
    EntryKind,
    HardState,
    SnapshotMeta,
    decode_conf_change,
    encode_conf_change,
)
from .wire.proto import rpc_pb2 as rpc

__all__ = ["CannotStandAlone", "stand_alone"]

_HEADER = Layout(">BQQ")


class CannotStandAlone(Rejected):
    """This member's data cannot become a cluster of its own; nothing was written."""


def stand_alone(
    own_id: int, hard_state: HardState, entries: tuple[Entry, ...], configuration: SnapshotMeta | None
) -> tuple[HardState, tuple[Entry, ...]]:
    """The hard state and the entries that make a member the only one.

    Args:
        own_id: who survives.
        hard_state: as on its disk.
        entries: its log, as far as it has not been let go.
        configuration: the members as applied, with that index; None: the log is whole.

    Returns:
        What is to be made durable: the entries follow the log, none when nobody else is left.

    Raises:
        CannotStandAlone: the member has no log, was removed, or several members were being replaced at once.
    """
    voters, learners, applied = _configuration(configuration)
    for entry in entries:
        if entry.kind == EntryKind.CONF_CHANGE and entry.index > applied:
            _change(voters, learners, entry)
    last = entries[-1] if entries else None
    end = last.index if last is not None else applied
    if own_id not in voters and own_id not in learners:
        raise CannotStandAlone(
            f"member {own_id:x} is no member by its own log: it was removed, or never added"
        )
    commands: list[tuple[MemberCommand, int]] = []
    if own_id not in voters:
        commands.append((MemberCommand.PROMOTE, own_id))
    commands += [(MemberCommand.REMOVE, other) for other in sorted({**voters, **learners}) if other != own_id]
    term = hard_state.current_term + 1
    added = tuple(
        Entry(term, end + number, _command(command, member_id), EntryKind.CONF_CHANGE)
        for number, (command, member_id) in enumerate(commands, 1)
    )
    return HardState(term, 0, end + len(added)), added


def _configuration(meta: SnapshotMeta | None) -> tuple[dict[int, None], dict[int, None], int]:
    if meta is None or not meta.index:
        return {}, {}, 0
    if meta.outgoing:
        raise CannotStandAlone("the members were being replaced several at once: this cannot be cut short")
    return dict.fromkeys(meta.voters), dict.fromkeys(meta.learners), meta.index


def _change(voters: dict[int, None], learners: dict[int, None], entry: Entry) -> None:
    changes: Iterable[tuple[ChangeKind, int]] = (
        (one.kind, one.node_id) for one in decode_conf_change(entry.data).changes
    )
    for kind, member_id in changes:
        voters.pop(member_id, None)
        learners.pop(member_id, None)
        if kind == ChangeKind.ADD_VOTER:
            voters[member_id] = None
        elif kind == ChangeKind.ADD_LEARNER:
            learners[member_id] = None


def _command(command: MemberCommand, member_id: int) -> bytes:
    payload = rpc.MemberRemoveRequest(ID=member_id).SerializeToString()  # promoting looks alike
    return encode_conf_change(conf_change(command, payload, _HEADER.pack(command, 0, 0)))
