"""The rows of a member's state, from an etcd database: a snapshot, or what an etcd has left behind.

Keys, leases, alarms, users and the cluster's version are those of the database. The members are the caller's:
a restored cluster has new ones, by the flags that it is started with, as in etcd. The rows are the state
after a certain entry, and the log that goes with them begins behind it, so that a member that joins later
gets the state and not those entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from .auth.store import AUTH, ROLES, USERS
from .bbolt import DamagedDatabase
from .durable import META_BUCKET, META_KEY, Meta, encode_meta
from .etcd_schema import EtcdState
from .etcd_snapshot import Import
from .machine import Command, Machine, encode_command
from .members import MemberCommand, MemberView, conf_change
from .mvcc.chunks import DATA_BUCKET, INDEX_BUCKET, chunk_key, cut_chunks, encode_data, encode_index, place_of
from .mvcc.record import Record
from .raft.types import Entry, EntryKind, SnapshotMeta, encode_conf_change
from .wire.proto import internal_pb2 as internal
from .wire.proto import rpc_pb2 as rpc

__all__ = ["Restored"]

Change: TypeAlias = tuple[str, bytes, "bytes | None"]


class Restored:
    """One database on its way into a data directory.

    Args:
        source: the database.
        members: everybody in the cluster.
        index: the entry after which the state is this one.
        term: of that entry.

    Raises:
        DamagedDatabase: here and in ``changes``, when the snapshot is not what it should be.
    """

    def __init__(self, source: Import, members: Sequence[MemberView], index: int, term: int) -> None:
        state = source.state()
        self._source = source
        self._machine = _machine_of(state, members)
        self._compacted = state.compacted
        self.base = SnapshotMeta(
            index,
            term,
            tuple(sorted(member.id for member in members if not member.is_learner)),
            learners=tuple(sorted(member.id for member in members if member.is_learner)),
        )
        self.revision = 1  # known after ``changes``

    def changes(self) -> Iterator[Change]:
        """All rows; the one that makes them valid comes last."""
        for (bucket, key), value in self._machine.take_changes().items():
            yield bucket, key, value
        for chunk in cut_chunks(self._records()):
            key = chunk_key(place_of(chunk[0]))
            yield INDEX_BUCKET, key, encode_index(chunk)
            yield DATA_BUCKET, key, encode_data(chunk)
        self.revision = max(self.revision, self._compacted)
        base = self.base
        meta = Meta(base.index, base.term, self.revision, self._compacted, base, base.index, base.term)
        yield META_BUCKET, META_KEY, encode_meta(meta)

    def _records(self) -> Iterator[Record]:
        for record in self._source.records():
            self.revision = record.mod_revision
            yield record


def _machine_of(state: EtcdState, members: Sequence[MemberView]) -> Machine:
    """A machine without keys that has the rest of the state, as if it had been asked for it."""
    machine = Machine()
    asked = [(_addition(member), EntryKind.CONF_CHANGE) for member in members]
    requests = (encode_command(command, 0, 0, request) for command, request in _requests(state))
    asked += [(request, EntryKind.NORMAL) for request in requests]
    for data, kind in asked:
        outcome = machine.apply(Entry(1, machine.applied_index + 1, data, kind))
        if outcome.error is not None:
            raise DamagedDatabase(f"the snapshot holds what cannot be: {outcome.error.message}")
    loaders = machine.auth.loaders()
    for bucket, key, value in _auth_rows(state):
        loaders[bucket](key, value)
    for bucket, key, row in machine.auth.rows():
        machine.change(bucket, key, row)
    return machine


def _addition(member: MemberView) -> bytes:
    """The entry that adds a member."""
    header = encode_command(Command.MEMBER_ADD, 0, 0, b"")
    change = conf_change(MemberCommand.ADD, member.message().SerializeToString(), header)
    return encode_conf_change(change)


def _requests(state: EtcdState) -> Iterator[tuple[Command, bytes]]:
    for lease in state.leases:
        yield Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=lease.id, TTL=lease.ttl).SerializeToString()
        if lease.remaining:
            checkpoint = rpc.LeaseCheckpoint(ID=lease.id, remaining_TTL=lease.remaining)
            request = rpc.LeaseCheckpointRequest(checkpoints=[checkpoint])
            yield Command.LEASE_CHECKPOINT, request.SerializeToString()
    if state.cluster_version:
        version = internal.ClusterVersion(version=state.cluster_version)
        yield Command.CLUSTER_VERSION, version.SerializeToString()
    if state.downgrade:
        yield Command.DOWNGRADE, internal.Downgrade(target=state.downgrade).SerializeToString()
    for member, kind in state.alarms:
        alarm = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=member, alarm=kind)  # type: ignore[arg-type]
        yield Command.ALARM, alarm.SerializeToString()


def _auth_rows(state: EtcdState) -> Iterator[tuple[str, bytes, bytes]]:
    yield AUTH, b"authEnabled", b"\1" if state.auth.enabled else b"\0"
    yield AUTH, b"authRevision", state.auth.revision.to_bytes(8, "big")
    for name, role in state.auth.roles.items():
        yield ROLES, name, role
    for name, user in state.auth.users.items():
        yield USERS, name, user
