"""Who the members of the cluster are: the part of the replicated state that membership changes move on.

A change of the configuration is one log entry of kind CONF_CHANGE. Raft reads who votes in it; its
``context`` is an ordinary command (header and request), which this module checks and carries out when the
entry is applied. What it refuses, the member tells Raft (``Applied.refused``), so that on every member list
and configuration agree. Only changes of peer URLs and of what a member says about itself are ordinary
entries.

An id that was removed is never used again: a new life of a member has a new id, because ids of added
members are drawn from their URLs and the time (as etcd draws them).

Source: thesis chapter 4; the answers, their order and their errors are etcd's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from enum import IntEnum
from struct import Struct as Layout

import msgspec

from . import rpc_errors
from .mvcc.record import Delta
from .raft.types import (
    Change,
    ChangeKind,
    ConfChange,
    Entry,
    EntryKind,
    decode_conf_change,
    encode_conf_change,
)
from .wire.proto import internal_pb2 as internal
from .wire.proto import rpc_pb2 as rpc

__all__ = [
    "LEARNERS_MAX", "MemberCommand", "MemberView", "Members", "added_member", "added_member_id",
    "bootstrap_entries",
    "conf_change", "first_voters", "list_body",
]

#: Learners that a cluster may have at once, as in etcd 3.4, unless who adds one says otherwise.
LEARNERS_MAX = 1

_HEADER = Layout(">BQQ")
_BOOTSTRAP_TERM = 1

Handler = Callable[[bytes], tuple[bytes, Delta]]
#: Notes what must become durable: bucket, key, value (None: delete).
Note = Callable[[str, bytes, "bytes | None"], None]


def _forget(bucket: str, key: bytes, value: bytes | None) -> None:
    """For a state that nobody makes durable."""


class MemberCommand(IntEnum):
    """Commands about members; the numbers are stored in logs and never change their meaning."""

    ATTRIBUTES = 10
    ADD = 45  # the payload: ``added_member``
    REMOVE = 46
    UPDATE = 47
    PROMOTE = 48


class MemberView(msgspec.Struct, frozen=True, array_like=True):
    """A member as others see it."""

    id: int
    name: str  # "": it has not started yet
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def is_started(self) -> bool:
        """It has a name: given at the beginning of the cluster, or published."""
        return bool(self.name)

    def message(self) -> rpc.Member:
        """The member as clients get it."""
        return rpc.Member(
            ID=self.id, name=self.name, peerURLs=self.peer_urls, clientURLs=self.client_urls,
            isLearner=self.is_learner,
        )  # fmt: skip


def _view_of(message: rpc.Member) -> MemberView:
    urls = tuple(message.peerURLs), tuple(message.clientURLs)
    return MemberView(message.ID, message.name, *urls, message.isLearner)


class Members:
    """The members by id, and the ids that were removed. Mutable; only the state machine changes it.

    ``version`` grows with every change, so that drivers can tell cheaply that there was one.
    """

    def __init__(self, note: Note = _forget) -> None:
        self._members: dict[int, MemberView] = {}
        self._note = note
        self.removed: dict[int, None] = {}
        self.version = 0

    # ---- reads

    def all(self) -> tuple[MemberView, ...]:
        """Everybody, by id."""
        return tuple(self._members[member_id] for member_id in sorted(self._members))

    def voters(self) -> tuple[MemberView, ...]:
        """Everybody but learners, by id."""
        return tuple(member for member in self.all() if not member.is_learner)

    def get(self, member_id: int) -> MemberView | None:
        """The member of that id; None when there is none (any more)."""
        return self._members.get(member_id)

    def __len__(self) -> int:
        return len(self._members)

    # ---- whole states

    def dump(self) -> tuple[list[MemberView], list[int]]:
        """The members and the removed ids, both in order of id."""
        return list(self.all()), sorted(self.removed)

    def load(self, members: Iterable[MemberView], removed: Iterable[int]) -> None:
        """Become what ``dump`` gave; nobody is told."""
        self._members = {member.id: member for member in members}
        self.removed = dict.fromkeys(removed)
        self.version += 1

    def loaders(self) -> dict[str, Callable[[bytes, bytes], None]]:
        """What takes each bucket's rows back, as they were noted; before the first entry is applied."""
        return {"members": self._load_member, "members_removed": self._load_removed}

    def _load_member(self, key: bytes, value: bytes) -> None:
        member = _view_of(rpc.Member.FromString(value))
        self._members[member.id] = member
        self.version += 1

    def _load_removed(self, key: bytes, value: bytes) -> None:
        self.removed[int.from_bytes(key, "big")] = None
        self.version += 1

    # ---- changes, by the state machine

    def handlers(self) -> dict[int, Handler]:
        """What carries out each command; raises ``RpcError`` for what cannot be done."""
        return {
            MemberCommand.ATTRIBUTES: self._attributes,
            MemberCommand.ADD: self._add,
            MemberCommand.REMOVE: self._remove,
            MemberCommand.UPDATE: self._update,
            MemberCommand.PROMOTE: self._promote,
        }

    def _set(self, member_id: int, member: MemberView | None) -> None:
        key = member_id.to_bytes(8, "big")
        if member is None:
            del self._members[member_id]
            self.removed[member_id] = None
            self._note("members", key, None)
            self._note("members_removed", key, b"removed")
        else:
            self._members[member_id] = member
            self._note("members", key, member.message().SerializeToString())
        self.version += 1

    def _add(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.Member.FromString(payload)
        if request.ID in self.removed:
            raise rpc_errors.MEMBER_NOT_FOUND.with_traceback(None)
        if request.ID in self._members:
            raise rpc_errors.MEMBER_EXISTS.with_traceback(None)
        self._refuse_known_urls(request.peerURLs, except_of=0)
        learners = sum(member.is_learner for member in self._members.values())
        if request.isLearner and learners >= _most_learners(payload):
            raise rpc_errors.TOO_MANY_LEARNERS.with_traceback(None)
        self._set(request.ID, _view_of(request))
        shown = rpc.Member(ID=request.ID, peerURLs=request.peerURLs, isLearner=request.isLearner)
        return rpc.MemberAddResponse(member=shown, members=self._messages()).SerializeToString(), ()

    def _remove(self, payload: bytes) -> tuple[bytes, Delta]:
        member_id = rpc.MemberRemoveRequest.FromString(payload).ID
        self._require(member_id)
        self._set(member_id, None)
        return list_body(self), ()

    def _promote(self, payload: bytes) -> tuple[bytes, Delta]:
        member = self._require(rpc.MemberPromoteRequest.FromString(payload).ID)
        if not member.is_learner:
            raise rpc_errors.MEMBER_NOT_LEARNER.with_traceback(None)
        self._set(member.id, msgspec.structs.replace(member, is_learner=False))
        return list_body(self), ()

    def _update(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.MemberUpdateRequest.FromString(payload)
        member = self._require(request.ID)
        self._refuse_known_urls(request.peerURLs, except_of=request.ID)
        self._set(member.id, msgspec.structs.replace(member, peer_urls=tuple(request.peerURLs)))
        return list_body(self), ()

    def _attributes(self, payload: bytes) -> tuple[bytes, Delta]:
        """A member tells its name and client URLs; one that was removed meanwhile tells nobody."""
        request = internal.MemberAttributes.FromString(payload)
        member = self._members.get(request.member_id)
        if member is not None:
            urls = tuple(request.client_urls)
            self._set(member.id, msgspec.structs.replace(member, name=request.name, client_urls=urls))
        return b"", ()

    def _require(self, member_id: int) -> MemberView:
        member = self._members.get(member_id)
        if member is None:
            raise rpc_errors.MEMBER_NOT_FOUND.with_traceback(None)
        return member

    def _refuse_known_urls(self, urls: Iterable[str], *, except_of: int) -> None:
        taken = {url: None for m in self._members.values() if m.id != except_of for url in m.peer_urls}
        if any(url in taken for url in urls):
            raise rpc_errors.PEER_URL_EXISTS.with_traceback(None)

    def _messages(self) -> list[rpc.Member]:
        return [member.message() for member in self.all()]


def added_member(member: rpc.Member, max_learners: int) -> bytes:
    """The payload of an ADD.

    Args:
        max_learners: how many learners the cluster may have with it. It travels with the request, so that
            all members decide alike, whatever their own flags say.
    """
    return member.SerializeToString() + internal.MemberLimits(max_learners=max_learners).SerializeToString()


def _most_learners(payload: bytes) -> int:
    return internal.MemberLimits.FromString(payload).max_learners or LEARNERS_MAX


def list_body(members: Members) -> bytes:
    """The body of every answer that is just the list: of removing, updating, promoting and listing."""
    rows = [member.message() for member in members.all()]
    return rpc.MemberListResponse(members=rows).SerializeToString()


def added_member_id(peer_urls: Iterable[str], unix_seconds: int) -> int:
    """The id of a member that is added at that time, as etcd draws it."""
    text = "".join(sorted(peer_urls)) + str(unix_seconds)
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


_KINDS = {
    MemberCommand.REMOVE: ChangeKind.REMOVE,
    MemberCommand.PROMOTE: ChangeKind.ADD_VOTER,
}


def conf_change(command: MemberCommand, payload: bytes, header: bytes) -> ConfChange:
    """The change of the configuration that carries a command: who changes how, and the command as context.

    Args:
        command: ADD, REMOVE or PROMOTE.
        payload: the serialised request, which names the member.
        header: the command's header, as before any command.
    """
    if command == MemberCommand.ADD:
        added = rpc.Member.FromString(payload)
        kind = ChangeKind.ADD_LEARNER if added.isLearner else ChangeKind.ADD_VOTER
        member_id = added.ID
    else:
        kind = _KINDS[command]
        member_id = rpc.MemberRemoveRequest.FromString(payload).ID  # the two requests look alike
    return ConfChange(changes=(Change(kind, member_id),), context=header + payload)


def bootstrap_entries(members: Iterable[tuple[int, str, tuple[str, ...]]]) -> tuple[Entry, ...]:
    """The committed entries that every log begins with: one for each first member, in order of id.

    Args:
        members: id, name and peer URLs of each.
    """
    entries: list[Entry] = []
    for member_id, name, urls in sorted(members):
        payload = rpc.Member(ID=member_id, name=name, peerURLs=urls).SerializeToString()
        change = conf_change(MemberCommand.ADD, payload, _HEADER.pack(MemberCommand.ADD, 0, 0))
        data = encode_conf_change(change)
        entries.append(Entry(_BOOTSTRAP_TERM, len(entries) + 1, data, EntryKind.CONF_CHANGE))
    return tuple(entries)


def first_voters(entries: Iterable[Entry]) -> tuple[int, ...]:
    """Who voted at the very beginning, by the log itself; nobody when its beginning is not there.

    A member that restarts has this from its own disk, whatever its flags say by now.
    """
    found: list[int] = []
    for index, entry in enumerate(entries, 1):
        if entry.index != index or entry.term != _BOOTSTRAP_TERM or entry.kind != EntryKind.CONF_CHANGE:
            break
        change = decode_conf_change(entry.data)
        if change.context[: _HEADER.size] != _HEADER.pack(MemberCommand.ADD, 0, 0):
            break
        found += [one.node_id for one in change.changes]
    return tuple(found)
