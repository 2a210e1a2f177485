"""The replicated state machine: everything members agree about, moved on by one log entry at a time.

``apply(entry)`` is a function of the state and the entry alone: no clock, no chance, nothing that differs
from member to member, so after the same index every member answers and hashes alike. It never raises for
what an entry says: what cannot be done becomes the ``error`` of its ``Outcome``.

An entry that takes long is applied in steps (``begin``), so that a member that deletes a million keys does
not miss its heartbeats. Reading goes on between the steps, and sees nothing of it before the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

import msgspec
from google.protobuf.message import DecodeError

from . import rpc_errors, whole
from .alarms import Alarm, Alarms
from .auth.commands import AuthCommands, refusal, unwrap
from .auth.store import AuthStore
from .auth.values import NOBODY
from .command import HEADER, Command, Handled, Outcome, encode_command
from .errors import Corruption
from .lease.commands import LeaseCommands
from .lease.lessor import Lessor
from .members import Members
from .mvcc.checks import check_compaction
from .mvcc.evaluate import evaluate_delete, evaluate_put, evaluate_txn
from .mvcc.pages import answer_in_pages, range_is_long
from .mvcc.ranges import answer_range
from .mvcc.record import Delta, Event, Record
from .mvcc.steps import PAGE_KEYS, Steps, begun, finish
from .mvcc.store import Store
from .mvcc.tally import Tally
from .raft.types import Entry, EntryKind, decode_conf_change
from .rpc_errors import RpcError
from .versions import Versions
from .wire.proto import rpc_pb2 as rpc

__all__ = ["Alarm", "Command", "Handled", "Machine", "Outcome", "encode_command"]


class Machine:
    """One member's copy of the state. Mutable; only ``apply`` and ``restore`` change it."""

    def __init__(self) -> None:
        self.store = Store()
        self.lessor = Lessor()
        self.tally = Tally()  # this member's own, for metrics
        #: Rows of the durable form that differ since the changes were last taken; None: gone.
        self.changes: dict[tuple[str, bytes], bytes | None] = {}
        self._alarms = Alarms(self.change)
        self.versions = Versions(self.change)
        self._leases = LeaseCommands(
            self.store, self.lessor, self.tally,
            change=self.change, advance=self._advance_in_pages, term=lambda: self.applied_term,
        )
        self.members = Members(self.change)
        self.auth = AuthStore(self.change)
        self.applied_index = 0
        self.applied_term = 0
        self.scrubbing = False  # a compaction has left something to be dropped: see ``scrub``
        self._handlers: dict[int, Callable[[bytes], Handled]] = {
            Command.PUT: self._put,
            Command.DELETE_RANGE: self._delete_range,
            Command.TXN: self._txn,
            Command.COMPACTION: self._compact,
            Command.ALARM: self._alarms.handle,
            **self.versions.handlers(),
            **self._leases.handlers(),
            **self.members.handlers(),
            **AuthCommands(self.auth, lambda: self.applied_index).table(),
        }

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that are raised, sorted."""
        return self._alarms.raised

    @alarms.setter
    def alarms(self, alarms: tuple[Alarm, ...]) -> None:
        self._alarms.raised = alarms

    @property
    def cluster_version(self) -> str:
        """What all members can do, e.g. 3.4.0; "": not yet decided."""
        return self.versions.cluster

    @property
    def downgrade(self) -> str:
        """The version that the cluster is on its way down to; "": none."""
        return self.versions.downgrade

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
        self._alarms.refuse_when_corrupt()
        self.tally.ranges += 1
        return self.store.revision, answer_range(self.store, request)

    def range_is_long(self, request: rpc.RangeRequest) -> bool:
        """Whether a range visits so many keys that it should be answered by ``range_in_pages``."""
        return range_is_long(self.store, request)

    def range_in_pages(self, request: rpc.RangeRequest) -> Steps[tuple[int, list[bytes]]]:
        """As ``range``, a page at a time, all of the revision at the first step; the body in parts."""
        self._alarms.refuse_when_corrupt()
        self.tally.ranges += 1
        revision = self.store.revision
        return revision, (yield from answer_in_pages(self.store, request))

    def read_txn(self, request: rpc.TxnRequest) -> Steps[tuple[int, list[bytes]]]:
        """Answer a read-only transaction (``evaluate.is_read_only``), as ``range_in_pages`` does."""
        self._alarms.refuse_when_corrupt()
        revision = self.store.revision
        body, delta = yield from evaluate_txn(self.store, request, self.lessor, self.tally, writes=False)
        assert not delta
        return revision, body

    # ---- writes

    def apply(self, entry: Entry) -> Outcome:
        """Apply the next committed entry; raises as ``begin``."""
        result = self.begin(entry)
        return result if type(result) is Outcome else finish(result)  # type: ignore[arg-type]

    def begin(self, entry: Entry) -> Outcome | Steps[Outcome]:
        """Apply the next committed entry, or find out that this takes long.

        Then nothing has happened, and nothing does before the last of the steps; reading goes on meanwhile.
        No other entry may be applied before that.

        Raises:
            Corruption: the entry does not follow the last one, or is too short to be a command.
        """
        if entry.index != self.applied_index + 1:
            raise Corruption(f"entry {entry.index} cannot follow {self.applied_index}")
        data = entry.data
        before = self.applied_term
        self.applied_index = entry.index
        self.applied_term = entry.term
        if entry.kind == EntryKind.CONF_CHANGE:
            data = _command_of(entry)
        if not data:
            return Outcome(0, 0, self.store.revision)
        if len(data) < HEADER.size:
            raise Corruption(f"entry {entry.index} has {len(data)} bytes, a command at least {HEADER.size}")
        kind, member, sequence = HEADER.unpack_from(data)
        payload = data[HEADER.size :]
        error: RpcError
        try:
            if self.auth.enabled or kind == Command.AS_USER:
                kind, payload = self._admit(kind, payload)
            handler = self._handlers.get(kind)
            if handler is None:
                raise rpc_errors.unknown_request(f"unknown command {kind}")
            if self._alarms.raised:
                self._alarms.refuse(kind, payload)
            handled = handler(payload)
        except RpcError as refused:
            error = refused.with_traceback(None)
        except DecodeError:
            error = rpc_errors.undecodable(f"command {kind}")
        else:
            if type(handled) is tuple:
                body, delta = handled
                if delta:
                    self._advance(delta)
                return Outcome(member, sequence, self.store.revision, body, None, delta)
            self.applied_index, self.applied_term = entry.index - 1, before
            return self._in_steps(entry, member, sequence, handled)  # type: ignore[arg-type]  # no tuple
        return Outcome(member, sequence, self.store.revision, b"", error)

    def _in_steps(
        self, entry: Entry, member: int, sequence: int, steps: Steps[tuple[list[bytes], Delta]]
    ) -> Steps[Outcome]:
        """Do what is left of an entry that takes long; with the last step it is applied."""
        error: RpcError | None = None
        parts: list[bytes] = []
        delta: Delta = ()
        try:
            parts, delta = yield from steps
        except RpcError as refused:
            error = refused.with_traceback(None)
        self.applied_index, self.applied_term = entry.index, entry.term
        return Outcome(member, sequence, self.store.revision, b"", error, delta, tuple(parts))

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
        self._hang(delta)

    def _hang(self, events: Iterable[Event]) -> None:
        """Attach keys to leases, and detach them, as these events do."""
        for event in events:
            record, previous = event.record, event.previous
            if previous is not None and previous.lease:
                self.lessor.detach(previous.lease, record.key)
            if record.lease:
                self.lessor.attach(record.lease, record.key)

    def _advance_in_pages(self, delta: Delta) -> Steps[None]:
        """As ``_advance``, a page at a time; what leases hold is told as it goes."""
        for first in range(0, len(delta), PAGE_KEYS):
            self._hang(delta[first : first + PAGE_KEYS])
            yield
        yield from self.store.advance_in_pages(delta)

    def _put(self, payload: bytes) -> tuple[bytes, Delta]:
        return evaluate_put(self.store, rpc.PutRequest.FromString(payload), self.lessor, self.tally)

    def _delete_range(self, payload: bytes) -> Handled:
        return self._carried_out(
            evaluate_delete(self.store, rpc.DeleteRangeRequest.FromString(payload), self.tally)
        )

    def _txn(self, payload: bytes) -> Handled:
        request = rpc.TxnRequest.FromString(payload)
        return self._carried_out(evaluate_txn(self.store, request, self.lessor, self.tally))

    def _carried_out(self, evaluation: Steps[tuple[list[bytes], Delta]]) -> Handled:
        """What an evaluation comes to, at once if it is short and changes little."""
        result = begun(evaluation)
        if isinstance(result, tuple):
            parts, delta = result
            if len(delta) <= PAGE_KEYS:
                return b"".join(parts), delta
        return self._carry_out(result)

    def _carry_out(
        self, evaluation: tuple[list[bytes], Delta] | Steps[tuple[list[bytes], Delta]]
    ) -> Steps[tuple[list[bytes], Delta]]:
        parts, delta = evaluation if isinstance(evaluation, tuple) else (yield from evaluation)
        yield from self._advance_in_pages(delta)
        return parts, delta

    def _compact(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.CompactionRequest.FromString(payload)
        error = check_compaction(request.revision, self.store.compacted, self.store.revision)
        if error is not None:
            raise error.with_traceback(None)
        self.store.compact(request.revision)
        self.scrubbing = True
        return b"", ()

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
            "lease": self._leases.load,
            "alarm": self._alarms.load,
            "cluster": self.versions.load,
            **self.members.loaders(),
            **self.auth.loaders(),
        }

    def load_records(self, revision: int, compacted: int, records: Iterable[Record]) -> None:
        """Take back the store, after all rows: keys are attached to the leases there are."""
        self.store.load(revision, compacted, records)
        for record in self.store.leased():
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
        return whole.pack(self)

    @classmethod
    def restore(cls, data: bytes) -> Machine:
        """The machine whose ``snapshot()`` was ``data``.

        Raises:
            Corruption: these bytes are no snapshot.
        """
        machine = cls()
        whole.unpack_into(machine, data)
        return machine


def _command_of(entry: Entry) -> bytes:
    """The command in a change of the configuration; empty when there is none, as in one that Raft makes."""
    if not entry.data:
        return b""
    try:
        return decode_conf_change(entry.data).context
    except msgspec.MsgspecError as problem:
        raise Corruption(f"entry {entry.index} is no change of the configuration: {problem}") from problem
