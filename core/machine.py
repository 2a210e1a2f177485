"""The replicated state machine: everything members agree about, moved on by one log entry at a time.

``apply(entry)`` is a function of the state and the entry alone: no clock, no chance, nothing that differs
from member to member, so after the same index every member answers and hashes alike. It never raises for
what an entry says: what cannot be done becomes the ``error`` of its ``Outcome``.

An entry's data is a header (command, proposing member, that member's sequence number) and a serialised
protobuf request. The proposing member finds its waiting client by (member, sequence). Bodies of outcomes
are serialised responses without field 1, the header, which the serving member puts in front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from hashlib import blake2b
from struct import Struct as Layout

import msgspec
from google.protobuf.message import DecodeError

from . import rpc_errors
from .auth.commands import AuthCommands, refusal, unwrap
from .auth.store import AuthStore, Row
from .auth.values import NOBODY
from .errors import Corruption
from .lease.lessor import Lease, Lessor
from .members import MemberCommand, Members, MemberView
from .mvcc.checks import check_compaction
from .mvcc.draft import Draft
from .mvcc.evaluate import evaluate_delete, evaluate_put, evaluate_txn
from .mvcc.pages import Steps, answer_in_pages, range_is_long
from .mvcc.ranges import answer_range
from .mvcc.record import Delta, Record
from .mvcc.store import Store
from .mvcc.tally import Tally
from .raft.types import Entry, EntryKind, decode_conf_change
from .rpc_errors import RpcError
from .wire.proto import internal_pb2 as internal
from .wire.proto import rpc_pb2 as rpc

__all__ = ["Alarm", "Command", "Machine", "Outcome", "encode_command"]

_HEADER = Layout(">BQQ")
_LEASE_KEY = Layout(">q")
_ALARM_KEY = Layout(">QI")


class Command(IntEnum):
    """What an entry asks for; the number is stored in logs and never changes its meaning."""

    PUT = 1
    DELETE_RANGE = 2
    TXN = 3
    COMPACTION = 4
    LEASE_GRANT = 5
    LEASE_REVOKE = 6
    LEASE_CHECKPOINT = 7
    ALARM = 8
    CLUSTER_VERSION = 9
    MEMBER_ATTRIBUTES = 10
    LEASE_EXPIRE = 11
    AS_USER = 19  # wraps another command; 20 to 36: core.auth.commands
    MEMBER_ADD = 45  # 45 to 54: core.members
    MEMBER_REMOVE = 46
    MEMBER_UPDATE = 47
    MEMBER_PROMOTE = 48


_NEVER_REFUSED = (Command.ALARM, Command.CLUSTER_VERSION, Command.LEASE_CHECKPOINT, *MemberCommand)


class Alarm(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An alarm that a member has raised; ``kind`` is etcd's ``AlarmType``."""

    member: int
    kind: int


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one entry did. ``member`` and ``sequence`` name the proposal, 0 and 0 for a leader's no-op."""

    member: int
    sequence: int
    revision: int  # of the store, after the entry
    body: bytes = b""  # the serialised response without its header
    error: RpcError | None = None
    events: Delta = ()


def encode_command(kind: Command, member: int, sequence: int, payload: bytes) -> bytes:
    """An entry's data. ``member`` and ``sequence`` are unsigned 64-bit."""
    return _HEADER.pack(kind, member, sequence) + payload


class _Snapshot(msgspec.Struct, array_like=True):
    """The whole state as msgpack; fields may only be appended."""

    applied_index: int
    applied_term: int
    revision: int
    compacted: int
    records: list[Record]
    leases: list[Lease]
    alarms: list[Alarm]
    cluster_version: str
    members: list[MemberView]
    removed: list[int]
    auth: list[Row]


class Machine:
    """One member's copy of the state. Mutable; only ``apply`` and ``restore`` change it."""

    def __init__(self) -> None:
        self.store = Store()
        self.lessor = Lessor()
        self.tally = Tally()  # this member's own, for metrics
        self.alarms: tuple[Alarm, ...] = ()  # sorted
        self.cluster_version = ""  # "": not yet decided
        #: Rows of the durable form that differ since the changes were last taken; None: gone.
        self.changes: dict[tuple[str, bytes], bytes | None] = {}
        self.members = Members(self.change)
        self.auth = AuthStore(self.change)
        self.applied_index = 0
        self.applied_term = 0
        self.scrubbing = False  # a compaction has left something to be dropped: see ``scrub``
        self._handlers: dict[int, Callable[[bytes], tuple[bytes, Delta]]] = {
            Command.PUT: self._put,
            Command.DELETE_RANGE: self._delete_range,
            Command.TXN: self._txn,
            Command.COMPACTION: self._compact,
            Command.LEASE_GRANT: self._lease_grant,
            Command.LEASE_REVOKE: self._lease_revoke,
            Command.LEASE_CHECKPOINT: self._lease_checkpoint,
            Command.ALARM: self._alarm,
            Command.CLUSTER_VERSION: self._set_cluster_version,
            Command.LEASE_EXPIRE: self._lease_expire,
            **self.members.handlers(),
            **AuthCommands(self.auth, lambda: self.applied_index).table(),
        }

    # ---- reads

    @property
    def revision(self) -> int:
        """The newest revision of the key-value store; 1 when nothing was ever written."""
        return self.store.revision

    def range(self, request: rpc.RangeRequest) -> tuple[int, bytes]:
        """Answer a checked range request from the state as it is.

        Returns:
            The store's revision, and the body of a ``RangeResponse``.

        Raises:
            RpcError: FUTURE_REVISION, COMPACTED, or CORRUPT while that alarm is on.
        """
        self._refuse_when_corrupt()
        self.tally.ranges += 1
        return self.store.revision, answer_range(self.store, request)

    def range_is_long(self, request: rpc.RangeRequest) -> bool:
        """Whether a range visits so many keys that it should be answered by ``range_in_pages``."""
        return range_is_long(self.store, request)

    def range_in_pages(self, request: rpc.RangeRequest) -> Steps[tuple[int, list[bytes]]]:
        """As ``range``, a page at a time, all of the revision at the first step; the body in parts."""
        self._refuse_when_corrupt()
        self.tally.ranges += 1
        revision = self.store.revision
        return revision, (yield from answer_in_pages(self.store, request))

    def read_txn(self, request: rpc.TxnRequest) -> tuple[int, bytes]:
        """Answer a read-only transaction (``evaluate.is_read_only``); returns and raises as ``range``."""
        self._refuse_when_corrupt()
        body, delta = evaluate_txn(self.store, request, self.lessor, self.tally, writes=False)
        assert not delta
        return self.store.revision, body

    # ---- writes

    def apply(self, entry: Entry) -> Outcome:
        """Apply the next committed entry.

        Raises:
            Corruption: the entry does not follow the last one, or is too short to be a command.
        """
        if entry.index != self.applied_index + 1:
            raise Corruption(f"entry {entry.index} cannot follow {self.applied_index}")
        data = entry.data
        self.applied_index = entry.index
        self.applied_term = entry.term
        if entry.kind == EntryKind.CONF_CHANGE:
            data = _command_of(entry)
        if not data:
            return Outcome(0, 0, self.store.revision)
        if len(data) < _HEADER.size:
            raise Corruption(f"entry {entry.index} has {len(data)} bytes, a command at least {_HEADER.size}")
        kind, member, sequence = _HEADER.unpack_from(data)
        payload = data[_HEADER.size :]
        error: RpcError
        try:
            if self.auth.enabled or kind == Command.AS_USER:
                kind, payload = self._admit(kind, payload)
            handler = self._handlers.get(kind)
            if handler is None:
                raise rpc_errors.unknown_request(f"unknown command {kind}")
            if self.alarms:
                self._refuse_by_alarm(kind, payload)
            body, delta = handler(payload)
        except RpcError as refused:
            error = refused.with_traceback(None)
        except DecodeError:
            error = rpc_errors.undecodable(f"command {kind}")
        else:
            if delta:
                self._advance(delta)
            return Outcome(member, sequence, self.store.revision, body, None, delta)
        return Outcome(member, sequence, self.store.revision, b"", error)

    def _admit(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        """The command itself, out of its wrapping; raises ``RpcError`` when its proposer may not."""
        who = NOBODY
        if kind == Command.AS_USER:
            who, kind, payload = unwrap(payload)
        if self.auth.enabled:
            error = refusal(self.auth, self.lessor, who, kind, payload)
            if error is not None:
                raise error.with_traceback(None)
        return kind, payload

    def _advance(self, delta: Delta) -> None:
        self.store.advance(delta)
        for event in delta:
            record, previous = event.record, event.previous
            if previous is not None and previous.lease:
                self.lessor.detach(previous.lease, record.key)
            if record.lease:
                self.lessor.attach(record.lease, record.key)

    def _put(self, payload: bytes) -> tuple[bytes, Delta]:
        return evaluate_put(self.store, rpc.PutRequest.FromString(payload), self.lessor, self.tally)

    def _delete_range(self, payload: bytes) -> tuple[bytes, Delta]:
        return evaluate_delete(self.store, rpc.DeleteRangeRequest.FromString(payload), self.tally)

    def _txn(self, payload: bytes) -> tuple[bytes, Delta]:
        return evaluate_txn(self.store, rpc.TxnRequest.FromString(payload), self.lessor, self.tally)

    def _compact(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.CompactionRequest.FromString(payload)
        error = check_compaction(request.revision, self.store.compacted, self.store.revision)
        if error is not None:
            raise error.with_traceback(None)
        self.store.compact(request.revision)
        self.scrubbing = True
        return b"", ()

    def _lease_grant(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.LeaseGrantRequest.FromString(payload)
        error = self.lessor.grant(request.ID, request.TTL)
        if error is not None:
            raise error.with_traceback(None)
        self.tally.leases_granted += 1
        self._lease_changed(request.ID)
        return rpc.LeaseGrantResponse(ID=request.ID, TTL=request.TTL).SerializeToString(), ()

    def _lease_revoke(self, payload: bytes) -> tuple[bytes, Delta]:
        return b"", self._revoke(rpc.LeaseRevokeRequest.FromString(payload).ID)

    def _lease_expire(self, payload: bytes) -> tuple[bytes, Delta]:
        request = internal.LeaseExpire.FromString(payload)
        if request.term != self.applied_term:
            raise rpc_errors.NOT_LEADER.with_traceback(None)
        return b"", self._revoke(request.ID)

    def _revoke(self, lease_id: int) -> Delta:
        lease = self.lessor.remove(lease_id)
        if lease is None:
            raise rpc_errors.LEASE_NOT_FOUND.with_traceback(None)
        self._lease_changed(lease_id)
        draft = Draft(self.store)
        tally = self.tally
        tally.leases_revoked += 1
        before = tally.operations
        tally.deletes += len(lease.keys)
        tally.end(before)
        for key in sorted(lease.keys):
            record = self.store.latest(key)
            if record is not None:
                draft.delete(record)
        return draft.delta()

    def _lease_checkpoint(self, payload: bytes) -> tuple[bytes, Delta]:
        for checkpoint in rpc.LeaseCheckpointRequest.FromString(payload).checkpoints:
            self.lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL)
            self._lease_changed(checkpoint.ID)
        return b"", ()

    def _lease_changed(self, lease_id: int) -> None:
        lease = self.lessor.get(lease_id)
        value = None if lease is None else msgspec.msgpack.encode((lease.ttl, lease.remaining))
        self.change("lease", _LEASE_KEY.pack(lease_id), value)

    def _load_lease(self, key: bytes, value: bytes) -> None:
        (lease_id,) = _LEASE_KEY.unpack(key)
        ttl, remaining = msgspec.msgpack.decode(value, type=tuple[int, int])
        self.lessor.grant(lease_id, ttl)
        self.lessor.checkpoint(lease_id, remaining)

    def _load_cluster_version(self, key: bytes, value: bytes) -> None:
        self.cluster_version = value.decode()

    def _load_alarm(self, key: bytes, value: bytes) -> None:
        self.alarms = tuple(sorted((*self.alarms, Alarm(*_ALARM_KEY.unpack(key)))))

    def _set_cluster_version(self, payload: bytes) -> tuple[bytes, Delta]:
        self.cluster_version = internal.ClusterVersion.FromString(payload).version
        self.change("cluster", b"clusterVersion", self.cluster_version.encode())
        return b"", ()

    # ---- alarms

    def _alarm(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.AlarmRequest.FromString(payload)
        asked = Alarm(request.memberID, request.alarm)
        shown: tuple[Alarm, ...] = ()
        if request.action == rpc.AlarmRequest.GET:
            shown = tuple(alarm for alarm in self.alarms if request.alarm in (rpc.NONE, alarm.kind))
        elif request.action == rpc.AlarmRequest.DEACTIVATE:
            shown = (asked,) if asked in self.alarms else ()
            self.alarms = tuple(alarm for alarm in self.alarms if alarm != asked)
            self.change("alarm", _ALARM_KEY.pack(asked.member, asked.kind), None)
        elif request.action == rpc.AlarmRequest.ACTIVATE and asked.kind:
            shown = (asked,)
            if asked not in self.alarms:
                self.alarms = tuple(sorted((*self.alarms, asked)))
                self.change("alarm", _ALARM_KEY.pack(asked.member, asked.kind), b"")
        members = [rpc.AlarmMember(memberID=alarm.member, alarm=alarm.kind) for alarm in shown]  # type: ignore[arg-type]
        return rpc.AlarmResponse(alarms=members).SerializeToString(), ()

    def _refuse_by_alarm(self, kind: int, payload: bytes) -> None:
        if kind in _NEVER_REFUSED:
            return
        self._refuse_when_corrupt()
        if any(alarm.kind == rpc.NOSPACE for alarm in self.alarms):
            needs_space = kind in (Command.PUT, Command.LEASE_GRANT) or (
                kind == Command.TXN and _has_puts(rpc.TxnRequest.FromString(payload))
            )
            if needs_space:
                raise rpc_errors.NO_SPACE.with_traceback(None)

    def _refuse_when_corrupt(self) -> None:
        if self.alarms and any(alarm.kind == rpc.CORRUPT for alarm in self.alarms):
            raise rpc_errors.CORRUPT.with_traceback(None)

    # ---- the durable form

    def change(self, bucket: str, key: bytes, value: bytes | None) -> None:
        """Note that a row of the durable form is now ``value``, or gone: it goes to disk with this entry."""
        self.changes[bucket, key] = value

    def take_changes(self) -> dict[tuple[str, bytes], bytes | None]:
        """The rows that differ since the last call, but for those of the store (``Store.take_fresh``)."""
        changes, self.changes = self.changes, {}
        return changes

    def loaders(self) -> dict[str, Callable[[bytes, bytes], None]]:
        """Who takes back the rows of each bucket, as ``change`` noted them, before the first entry."""
        return {
            "lease": self._load_lease,
            "alarm": self._load_alarm,
            "cluster": self._load_cluster_version,
            **self.members.loaders(),
            **self.auth.loaders(),
        }

    def load_records(self, revision: int, compacted: int, records: Iterable[Record]) -> None:
        """Take back the store, after all rows: keys are attached to the leases there are."""
        self.store.load(revision, compacted, records)
        for record in self.store.select(b"", None, revision):
            if record.lease:
                self.lessor.attach(record.lease, record.key)

    def scrub(self, limit: int) -> None:
        """Drop about ``limit`` records that a compaction has left over, while ``scrubbing``.

        What the state says is the same before and after, so members need not do this at the same index.
        """
        self.scrubbing = not self.store.scrub(limit)

    # ---- whole states

    def digest(self) -> bytes:
        """A hash over everything members must agree about; equal on all members at one index."""
        return blake2b(self.snapshot(), digest_size=16).digest()

    def snapshot(self) -> bytes:
        """The whole state as bytes; equal states give equal bytes."""
        leases = [
            Lease(lease.id, lease.ttl, lease.remaining, dict.fromkeys(sorted(lease.keys)))
            for lease in sorted(self.lessor, key=lambda lease: lease.id)
        ]
        state = _Snapshot(
            self.applied_index, self.applied_term, self.store.revision, self.store.compacted,
            self._whole_records(), leases, list(self.alarms), self.cluster_version,
            *self.members.dump(), self.auth.rows(),
        )
        return msgspec.msgpack.encode(state)

    def _whole_records(self) -> list[Record]:
        store = self.store
        return [
            record if record.data is not None
            else msgspec.structs.replace(record, data=store.data_of(record, keep=False))
            for record in store.records()
        ]  # fmt: skip

    @classmethod
    def restore(cls, data: bytes) -> Machine:
        """The machine whose ``snapshot()`` was ``data``.

        Raises:
            Corruption: these bytes are no snapshot.
        """
        try:
            state = msgspec.msgpack.decode(data, type=_Snapshot)
        except msgspec.MsgspecError as error:
            raise Corruption(f"the snapshot cannot be decoded: {error}") from error
        machine = cls()
        machine.applied_index, machine.applied_term = state.applied_index, state.applied_term
        machine.store.load(state.revision, state.compacted, state.records)
        for lease in state.leases:
            machine.lessor.grant(lease.id, lease.ttl)
            machine.lessor.checkpoint(lease.id, lease.remaining)
            for key in lease.keys:
                machine.lessor.attach(lease.id, key)
        machine.alarms = tuple(state.alarms)
        machine.cluster_version = state.cluster_version
        machine.members.load(state.members, state.removed)
        load_auth = machine.auth.loaders()
        for bucket, key, value in state.auth:
            load_auth[bucket](key, value)
        return machine


def _command_of(entry: Entry) -> bytes:
    """The command in a change of the configuration; empty when there is none, as in one that Raft makes."""
    if not entry.data:
        return b""
    try:
        return decode_conf_change(entry.data).context
    except msgspec.MsgspecError as problem:
        raise Corruption(f"entry {entry.index} is no change of the configuration: {problem}") from problem


def _has_puts(request: rpc.TxnRequest) -> bool:
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_put" or (kind == "request_txn" and _has_puts(operation.request_txn)):
            return True
    return False
