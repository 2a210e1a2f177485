"""Where etcd keeps what in its database: our state as entries of etcd's buckets, and back.

Ten buckets in the root: ``key`` (every revision of every key), ``lease``, ``alarm``, ``members``,
``members_removed``, ``cluster`` (its version), ``auth``, ``authUsers``, ``authRoles`` and ``meta``
(applied index and compaction). The forms are those of etcd 3.4, which later versions read.

The name of an entry of ``key`` is its revision: main and sub in eight bytes each, big-endian, joined by
``_``, and a ``t`` after a deletion. Its value is a ``mvccpb.KeyValue``, of a deletion the key alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from struct import Struct as Layout
from typing import TypeAlias

import msgspec
from google.protobuf.message import DecodeError

from .bbolt import DamagedDatabase
from .mvcc.record import Record
from .versions import read_version_rows, version_rows
from .wire.proto import auth_pb2, kv_pb2, stored_pb2
from .wire.proto import rpc_pb2 as rpc

__all__ = [
    "BUCKETS", "Entries", "EtcdState", "StoredAuth", "StoredLease", "StoredMember", "decode_record",
    "decode_state", "encode_place", "encode_state", "key_entries", "key_entry",
]

#: All buckets of the root, in order.
BUCKETS = (
    b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster", b"key", b"lease", b"members",
    b"members_removed", b"meta",
)  # fmt: skip

#: The entries of one bucket by ascending key; asked twice, and both times the same.
Entries: TypeAlias = Callable[[], Iterable[tuple[bytes, bytes]]]

_PLACE = Layout(">qcq")
_NUMBER = Layout(">Q")
_SIGNED = Layout(">q")


class StoredLease(msgspec.Struct, frozen=True, array_like=True):
    """A lease; which keys hang on it is said by the keys."""

    id: int
    ttl: int  # seconds, as granted
    remaining: int = 0  # seconds left at the last checkpoint; 0: none


class StoredMember(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member, in JSON as etcd writes it."""

    id: int
    peer_urls: tuple[str, ...] | None = msgspec.field(name="peerURLs", default=())
    is_learner: bool = msgspec.field(name="isLearner", default=False)
    name: str = ""
    client_urls: tuple[str, ...] | None = msgspec.field(name="clientURLs", default=())


class StoredAuth(msgspec.Struct, frozen=True):
    """Users and roles; serialised ``authpb.User`` and ``authpb.Role`` by name."""

    enabled: bool | None = None  # None: was never switched
    revision: int = 1
    users: Mapping[bytes, bytes] = {}
    roles: Mapping[bytes, bytes] = {}


class EtcdState(msgspec.Struct, frozen=True, kw_only=True):
    """All that a snapshot holds besides the keys."""

    applied_index: int = 0
    compacted: int = -1  # -1: never
    cluster_version: str = ""  # "": not yet decided
    downgrade: str = ""  # "": none is under way
    leases: Sequence[StoredLease] = ()
    alarms: Sequence[tuple[int, int]] = ()  # member and kind, ascending
    members: Sequence[StoredMember] = ()
    removed: Sequence[int] = ()  # ids of members that were removed
    auth: StoredAuth = StoredAuth()


# ---- keys


def encode_place(revision: int, sub: int) -> bytes:
    """The name of a record: 17 bytes. A deletion's has a ``t`` after it."""
    return _PLACE.pack(revision, b"_", sub)


def key_entries(records: Iterable[Record]) -> Iterator[tuple[bytes, bytes]]:
    """Records in order of revision, with their wire forms, as entries of the bucket ``key``."""
    for record in records:
        assert record.data is not None, record
        yield key_entry(record, record.data)


def key_entry(record: Record, data: bytes) -> tuple[bytes, bytes]:
    """A record and its wire form as an entry of the bucket ``key``."""
    place = _PLACE.pack(record.mod_revision, b"_", record.sub)
    if record.version:
        return place, data
    return place + b"t", kv_pb2.KeyValue(key=record.key).SerializeToString()


def decode_record(name: bytes, value: bytes) -> tuple[int, int, bool, kv_pb2.KeyValue]:
    """An entry of the bucket ``key``: revision, sub revision, whether it is a deletion, and the content.

    Raises:
        DamagedDatabase: It is not one.
    """
    if len(name) not in (17, 18) or name[8:9] != b"_" or (len(name) == 18 and name[17:] != b"t"):
        raise DamagedDatabase(f"{name[:32].hex()} is not the name of a revision")
    revision, _, sub = _PLACE.unpack_from(name)
    try:
        content = kv_pb2.KeyValue.FromString(value)
    except DecodeError as error:
        raise DamagedDatabase(f"the record {revision}_{sub} cannot be decoded") from error
    deleted = len(name) == 18
    sound = bool(content.key) and revision >= 1 and sub >= 0
    if not deleted:
        sound &= content.mod_revision == revision and 1 <= content.create_revision <= revision
        sound &= content.version >= 1
    if not sound:
        raise DamagedDatabase(f"the record {revision}_{sub} contradicts itself")
    return revision, sub, deleted, content


# ---- everything else


def encode_state(state: EtcdState, keys: Entries) -> list[tuple[bytes, Entries]]:
    """All buckets by name, for ``etcd_snapshot.Export``."""
    auth = state.auth
    auth_entries = [(b"authRevision", _NUMBER.pack(auth.revision))]
    if auth.enabled is not None:
        auth_entries.insert(0, (b"authEnabled", b"\1" if auth.enabled else b"\0"))
    meta = [(b"consistent_index", _NUMBER.pack(state.applied_index))]
    if state.compacted > 0:
        place = encode_place(state.compacted, 0)
        meta += [(b"finishedCompactRev", place), (b"scheduledCompactRev", place)]
    small: dict[bytes, Iterable[tuple[bytes, bytes]]] = {
        b"alarm": [(rpc.AlarmMember(memberID=member, alarm=kind).SerializeToString(), b"")  # type: ignore[arg-type]
                   for member, kind in state.alarms],
        b"auth": auth_entries,
        b"authRoles": auth.roles.items(),
        b"authUsers": auth.users.items(),
        b"cluster": version_rows(state.cluster_version, state.downgrade),
        b"lease": [_encode_lease(lease) for lease in state.leases],
        b"members": [(b"%x" % member.id, msgspec.json.encode(member)) for member in state.members],
        b"members_removed": [(b"%x" % member, b"removed") for member in state.removed],
        b"meta": meta,
    }
    return [(name, keys if name == b"key" else _fixed(sorted(small[name]))) for name in BUCKETS]


def _fixed(entries: list[tuple[bytes, bytes]]) -> Entries:
    return lambda: entries


def _encode_lease(lease: StoredLease) -> tuple[bytes, bytes]:
    stored = stored_pb2.Lease(ID=lease.id, TTL=lease.ttl, remaining_TTL=lease.remaining)
    return _SIGNED.pack(lease.id), stored.SerializeToString()


def decode_state(buckets: Mapping[bytes, Iterable[tuple[bytes, bytes]]]) -> EtcdState:
    """Read what ``encode_state`` or an etcd wrote; ``key`` is not looked at, missing buckets are empty.

    Raises:
        DamagedDatabase: An entry cannot be what its bucket says.
    """
    try:
        return _decode_state(buckets)
    except (DecodeError, msgspec.MsgspecError, ValueError, IndexError) as error:
        raise DamagedDatabase(f"the snapshot has an entry that is not etcd's: {error}") from error


def _decode_state(buckets: Mapping[bytes, Iterable[tuple[bytes, bytes]]]) -> EtcdState:
    def entries(name: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(buckets.get(name, ()))

    meta, auth = dict(entries(b"meta")), dict(entries(b"auth"))
    version, downgrade = read_version_rows(entries(b"cluster"))
    alarms = [rpc.AlarmMember.FromString(key) for key, _ in entries(b"alarm")]
    users, roles = dict(entries(b"authUsers")), dict(entries(b"authRoles"))
    for value in users.values():
        auth_pb2.User.FromString(value)
    for value in roles.values():
        auth_pb2.Role.FromString(value)
    enabled = auth.get(b"authEnabled")
    return EtcdState(
        applied_index=_number(meta.get(b"consistent_index")),
        compacted=max(_revision(meta.get(name)) for name in (b"finishedCompactRev", b"scheduledCompactRev")),
        cluster_version=version,
        downgrade=downgrade,
        leases=[_decode_lease(key, value) for key, value in entries(b"lease")],
        alarms=sorted((alarm.memberID, int(alarm.alarm)) for alarm in alarms),
        members=[msgspec.json.decode(value, type=StoredMember) for _, value in entries(b"members")],
        removed=[int(key, 16) for key, _ in entries(b"members_removed")],
        auth=StoredAuth(
            enabled=None if enabled is None else enabled == b"\1",
            revision=_number(auth.get(b"authRevision")) or 1,
            users=users,
            roles=roles,
        ),
    )


def _decode_lease(key: bytes, value: bytes) -> StoredLease:
    lease = stored_pb2.Lease.FromString(value)
    if key != _SIGNED.pack(lease.ID) or lease.TTL < 0 or lease.remaining_TTL < 0:
        raise ValueError(f"the lease {key[:32].hex()} contradicts itself")
    return StoredLease(lease.ID, lease.TTL, min(lease.remaining_TTL, lease.TTL))


def _number(value: bytes | None) -> int:
    if value is None:
        return 0
    if len(value) != _NUMBER.size:
        raise ValueError(f"a number of {len(value)} bytes")
    number: int = _NUMBER.unpack(value)[0]
    return number


def _revision(value: bytes | None) -> int:
    if value is None:
        return -1
    if len(value) != _PLACE.size:
        raise ValueError(f"a revision of {len(value)} bytes")
    revision: int = _PLACE.unpack(value)[0]
    return revision
