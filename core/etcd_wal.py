"""etcd's write-ahead log, for a member that goes on where an etcd has stopped.

A file is a row of frames: a length of eight bytes (its top byte tells the padding to a multiple of eight),
then a protobuf record: a type, a checksum, data. The checksum is CRC-32C over the data of all records since
the last of type ``crc``, which carries the sum over from file to file. Zeros end the log.

``read_log`` gives who the member is, its hard state, and the entries there are; ``convert`` turns those that
the database does not cover yet into entries of ours. Requests are protobuf in both, so they move over as they
are; what an administrator does with users cannot be converted and must have been applied.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct as Layout

import google_crc32c
import msgspec
from google.protobuf.message import DecodeError

from .errors import Corruption, Rejected
from .etcd_schema import StoredMember
from .machine import Command, encode_command
from .members import MemberCommand, MemberView, conf_change
from .raft.types import Entry, EntryKind, HardState, encode_conf_change
from .wire.proto import rpc_pb2 as rpc
from .wire.proto import stored_pb2 as stored

__all__ = ["CannotAdopt", "EtcdLog", "convert", "is_etcd_log", "members_at", "read_log"]

_LENGTH = Layout("<Q")
_METADATA, _ENTRY, _STATE, _CRC, _SNAPSHOT = 1, 2, 3, 4, 5
_NORMAL, _CONF_CHANGE = 0, 1
_ADD, _REMOVE, _UPDATE, _ADD_LEARNER = 0, 1, 2, 3

_COMMANDS = {
    "put": Command.PUT,
    "delete_range": Command.DELETE_RANGE,
    "txn": Command.TXN,
    "compaction": Command.COMPACTION,
    "lease_grant": Command.LEASE_GRANT,
    "lease_revoke": Command.LEASE_REVOKE,
    "alarm": Command.ALARM,
    "lease_checkpoint": Command.LEASE_CHECKPOINT,
}
#: Said again by every member that starts, read only, or gone with the process.
_WITHOUT_EFFECT = (
    "v2", "range", "cluster_version", "member_attributes", "authenticate", "auth_user_get", "auth_user_list",
    "auth_role_list", "auth_role_get",
)  # fmt: skip


class _ChangedMember(StoredMember, frozen=True, kw_only=True, omit_defaults=True):
    """A member in a change of the members."""

    promoted: bool = msgspec.field(name="isPromote", default=False)


class CannotAdopt(Rejected):
    """The directory of an etcd cannot be taken over; nothing in it was changed."""


class EtcdLog(msgspec.Struct):
    """What a log holds. Indices without a gap, but the first may be any."""

    member_id: int = 0
    cluster_id: int = 0
    hard_state: HardState = HardState()
    entries: dict[int, stored.RaftEntry] = {}
    snapshots: dict[int, int] = {}  # index -> term

    def term_at(self, index: int) -> int | None:
        """The term of an entry; None when it is not known."""
        entry = self.entries.get(index)
        return entry.term if entry is not None else self.snapshots.get(index)


def is_etcd_log(head: bytes) -> bool:
    """Whether a file that begins so is etcd's: its first record is a checksum."""
    return head[8:11] == b"\x08\x04\x10"


def read_log(files: Iterable[tuple[str, bytes]]) -> EtcdLog:
    """Read a log from its files in order, each with its name.

    Raises:
        Corruption: a record is damaged.
    """
    log = EtcdLog(entries={}, snapshots={})
    total = 0
    for name, data in files:
        place = 0
        while place + _LENGTH.size <= len(data):
            (length,) = _LENGTH.unpack_from(data, place)
            if not length:
                break
            size, padding = length & (1 << 56) - 1, (length >> 56 & 7 if length >> 63 else 0)
            start = place + _LENGTH.size
            if start + size > len(data):
                raise Corruption(f"etcd's log {name} ends within the record at offset {place}")
            try:
                record = stored.WalRecord.FromString(data[start : start + size])
                if record.type == _CRC:
                    if total and record.crc != total:
                        raise Corruption(f"etcd's log {name} does not continue the file before it")
                    total = record.crc
                else:
                    total = google_crc32c.extend(total, record.data)
                    if total != record.crc:
                        raise Corruption(f"etcd's log {name} is damaged at offset {place}")
                    _take(log, record)
            except DecodeError as error:
                raise Corruption(f"etcd's log {name} is damaged at offset {place}") from error
            place = start + size + padding
    return log


def _take(log: EtcdLog, record: stored.WalRecord) -> None:
    if record.type == _METADATA:
        metadata = stored.WalMetadata.FromString(record.data)
        log.member_id, log.cluster_id = metadata.member_id, metadata.cluster_id
    elif record.type == _STATE:
        state = stored.RaftHardState.FromString(record.data)
        log.hard_state = HardState(state.term, state.vote, state.commit)
    elif record.type == _SNAPSHOT:
        snapshot = stored.RaftSnapshot.FromString(record.data)
        log.snapshots[snapshot.index] = snapshot.term
    elif record.type == _ENTRY:
        entry = stored.RaftEntry.FromString(record.data)
        log.entries[entry.index] = entry
        index = entry.index + 1
        while index in log.entries:  # it replaces what came after it
            del log.entries[index]
            index += 1


def members_at(log: EtcdLog, applied: int, known: Iterable[StoredMember]) -> list[MemberView]:
    """Who the members are at the entry ``applied``: by the log when it has its beginning, else as ``known``.

    (A restored directory has the old cluster's members in its database, and the new ones in its log.)
    """
    if 1 not in log.entries:
        return [_view(member) for member in known]
    found: dict[int, MemberView] = {}
    for index in range(1, applied + 1):
        entry = log.entries.get(index)
        if entry is None:
            raise CannotAdopt(f"etcd's log lacks entry {index}")
        if entry.type != _CONF_CHANGE:
            continue
        change = stored.ConfChange.FromString(entry.data)
        member_id = change.member_id
        if change.type == _REMOVE:
            found.pop(member_id, None)
            continue
        context = msgspec.json.decode(change.context, type=_ChangedMember)
        if member_id in found and context.promoted:  # it says no more than that
            found[member_id] = msgspec.structs.replace(found[member_id], is_learner=False)
        elif member_id in found and change.type == _UPDATE:
            found[member_id] = msgspec.structs.replace(found[member_id], peer_urls=_view(context).peer_urls)
        else:
            found[member_id] = _view(context)
    return [found[member_id] for member_id in sorted(found)]


def _view(member: StoredMember) -> MemberView:
    urls = tuple(member.peer_urls or ()), tuple(member.client_urls or ())
    return MemberView(member.id, member.name, *urls, member.is_learner)


def convert(log: EtcdLog, applied: int) -> tuple[Entry, ...]:
    """The entries after ``applied`` as ours.

    Raises:
        CannotAdopt: one of them is not for us.
    """
    found: list[Entry] = []
    index = applied + 1
    while index in log.entries:
        entry = log.entries[index]
        if entry.type == _CONF_CHANGE:
            found.append(_change_of_members(entry))
        else:
            found.append(Entry(entry.term, index, _command(entry) if entry.data else b""))
        index += 1
    return tuple(found)


def _change_of_members(entry: stored.RaftEntry) -> Entry:
    """The same change of ours."""
    change = stored.ConfChange.FromString(entry.data)
    if change.type == _REMOVE:
        command, payload = MemberCommand.REMOVE, rpc.MemberRemoveRequest(ID=change.member_id)
        return _conf_change(entry, command, payload.SerializeToString())
    context = msgspec.json.decode(change.context, type=_ChangedMember)
    view = _view(context)
    if change.type == _UPDATE:
        update = rpc.MemberUpdateRequest(ID=view.id, peerURLs=view.peer_urls)
        data = encode_command(Command.MEMBER_UPDATE, 0, 0, update.SerializeToString())
        return Entry(entry.term, entry.index, data)
    if context.promoted:
        promotion = rpc.MemberPromoteRequest(ID=view.id)
        return _conf_change(entry, MemberCommand.PROMOTE, promotion.SerializeToString())
    return _conf_change(entry, MemberCommand.ADD, view.message().SerializeToString())


def _conf_change(entry: stored.RaftEntry, command: MemberCommand, payload: bytes) -> Entry:
    change = conf_change(command, payload, encode_command(Command(command), 0, 0, b""))
    return Entry(entry.term, entry.index, encode_conf_change(change), EntryKind.CONF_CHANGE)


def _command(entry: stored.RaftEntry) -> bytes:
    try:
        request = stored.RaftRequest.FromString(entry.data)
    except DecodeError:
        return b""  # a request of the v2 API: this server keeps no such keys
    if any(request.HasField(name) for name in _WITHOUT_EFFECT):  # type: ignore[arg-type]
        return b""
    for name, command in _COMMANDS.items():
        if request.HasField(name) and not request.header.username:  # type: ignore[arg-type]
            return encode_command(command, 0, 0, getattr(request, name))
    raise CannotAdopt(
        f"entry {entry.index} is about users, or made by one, and has not reached etcd's database: let etcd"
        " start and stop once more"
    )
