"""The commands about leases. Ending one deletes the keys that hang on it, in one revision, sorted by key.

A lease of very many keys is ended in steps (``mvcc.steps``), and is there until the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as Layout

import msgspec

from .. import rpc_errors
from ..command import Command, Handled
from ..mvcc.draft import Draft
from ..mvcc.record import Delta
from ..mvcc.steps import PAGE_KEYS, Steps, finish, sorted_in_pages
from ..mvcc.store import Store
from ..mvcc.tally import Tally
from ..wire.proto import internal_pb2 as internal
from ..wire.proto import rpc_pb2 as rpc
from .lessor import Lease, Lessor

__all__ = ["LeaseCommands"]

_KEY = Layout(">q")


class LeaseCommands:
    """The handlers of one machine.

    Args:
        change: notes a row of the durable form (``Machine.change``).
        advance: takes in a large delta, a page at a time.
        term: of the entry that is applied now.
    """

    def __init__(
        self,
        store: Store,
        lessor: Lessor,
        tally: Tally,
        *,
        change: Callable[[str, bytes, bytes | None], None],
        advance: Callable[[Delta], Steps[None]],
        term: Callable[[], int],
    ) -> None:
        self._store = store
        self._lessor = lessor
        self._tally = tally
        self._change = change
        self._advance = advance
        self._term = term

    def handlers(self) -> dict[int, Callable[[bytes], Handled]]:
        """By command."""
        return {
            Command.LEASE_GRANT: self._grant,
            Command.LEASE_REVOKE: self._revoke,
            Command.LEASE_EXPIRE: self._expire,
            Command.LEASE_CHECKPOINT: self._checkpoint,
        }

    def load(self, key: bytes, value: bytes) -> None:
        """Take back a row."""
        (lease_id,) = _KEY.unpack(key)
        ttl, remaining = msgspec.msgpack.decode(value, type=tuple[int, int])
        self._lessor.grant(lease_id, ttl)
        self._lessor.checkpoint(lease_id, remaining)

    def _grant(self, payload: bytes) -> tuple[bytes, Delta]:
        request = rpc.LeaseGrantRequest.FromString(payload)
        error = self._lessor.grant(request.ID, request.TTL, self._term())
        if error is not None:
            raise error.with_traceback(None)
        self._tally.grant(request.TTL)
        self._changed(request.ID)
        return rpc.LeaseGrantResponse(ID=request.ID, TTL=request.TTL).SerializeToString(), ()

    def _revoke(self, payload: bytes) -> Handled:
        return self._end(rpc.LeaseRevokeRequest.FromString(payload).ID)

    def _expire(self, payload: bytes) -> Handled:
        """End a lease whose time is over, as the leader of this very term has counted it."""
        request = internal.LeaseExpire.FromString(payload)
        if request.term != self._term():
            raise rpc_errors.NOT_LEADER.with_traceback(None)
        return self._end(request.ID)

    def _checkpoint(self, payload: bytes) -> tuple[bytes, Delta]:
        for checkpoint in rpc.LeaseCheckpointRequest.FromString(payload).checkpoints:
            self._lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL)
            self._changed(checkpoint.ID)
        return b"", ()

    def _end(self, lease_id: int) -> Handled:
        lease = self._lessor.get(lease_id)
        if lease is None:
            raise rpc_errors.LEASE_NOT_FOUND.with_traceback(None)
        if len(lease.keys) > PAGE_KEYS:
            return self._end_in_pages(lease)
        delta = finish(self._deletion_of(lease))
        self._forget(lease, len(delta))
        return b"", delta

    def _end_in_pages(self, lease: Lease) -> Steps[tuple[list[bytes], Delta]]:
        delta = yield from self._deletion_of(lease)
        yield from self._advance(delta)
        self._forget(lease, len(delta))
        return [], delta

    def _deletion_of(self, lease: Lease) -> Steps[Delta]:
        """The deletion of a lease's keys."""
        draft = Draft(self._store)
        keys = yield from sorted_in_pages(lease.keys)
        for number, key in enumerate(keys, 1):
            record = draft.latest(key)
            if record is not None:
                draft.delete(record)
            if number % PAGE_KEYS == 0:
                yield
        return draft.delta()

    def _forget(self, lease: Lease, deleted: int) -> None:
        self._lessor.remove(lease.id)
        self._changed(lease.id)
        tally = self._tally
        tally.leases_revoked += 1
        before = tally.operations
        tally.deletes += deleted
        tally.end(before)

    def _changed(self, lease_id: int) -> None:
        lease = self._lessor.get(lease_id)
        value = None if lease is None else msgspec.msgpack.encode((lease.ttl, lease.remaining))
        self._change("lease", _KEY.pack(lease_id), value)
