"""Who came first below a prefix: the algorithm behind locks and elections.

Every contender puts a key of its own, named by its lease, below the prefix; whoever's key was created first
has won. The others wait for the key created just before theirs, so one that goes away wakes one contender.

A key lives no longer than its lease. So a contender looks at its own key again after the wait, at a
linearizable point: winning must not mean that all others went while our own session ended. It watches its
own key while it waits, too, and gives up at once when that goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import trio

from tercet.core.mvcc.record import Record
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..call import UnaryHandler
from .changes import Changes
from .inner import begin, perform
from .member import Member

__all__ = ["SESSION_TTL", "Calls", "Contest", "Entrant", "created_at", "prefix_of"]

#: Seconds: the lease of a contender that brings none.
SESSION_TTL = 60


@dataclass(frozen=True, slots=True)
class Calls:
    """The member's own handlers that a contest is made of."""

    range: UnaryHandler
    delete_range: UnaryHandler
    txn: UnaryHandler
    lease_grant: UnaryHandler


@dataclass(frozen=True, slots=True)
class Entrant:
    """One contender's place."""

    prefix: bytes
    key: bytes
    revision: int  # of the key's creation: the lowest wins
    header: rpc.ResponseHeader
    value: bytes | None  # what the key held before; None: it is new


def prefix_of(name: bytes) -> tuple[bytes, bytes]:
    """The range of the keys below a name."""
    return name + b"/", name + b"0"


class Contest:
    """Locks and elections of one member."""

    def __init__(self, member: Member, calls: Calls, changes: Changes) -> None:
        self.calls = calls
        self.changes = changes
        self._member = member

    async def session(self, lease: int, metadata: Mapping[str, str]) -> int:
        """The contender's lease: the one it brings, or a new one."""
        if lease:
            return lease
        request = rpc.LeaseGrantRequest(TTL=SESSION_TTL)
        return (await perform(self.calls.lease_grant, request, rpc.LeaseGrantResponse, metadata)).ID

    async def enter(
        self, name: bytes, lease: int, value: bytes, metadata: Mapping[str, str]
    ) -> Entrant:
        """Put the contender's key, unless it is there already. Raises ``RpcError``."""
        prefix, _ = prefix_of(name)
        key = prefix + b"%x" % lease
        request = rpc.TxnRequest(
            compare=[created_at(key, 0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
        response = await self.txn(request, metadata)
        if response.succeeded:
            return Entrant(prefix, key, response.header.revision, response.header, None)
        found = response.responses[0].response_range.kvs[0]
        return Entrant(prefix, key, found.create_revision, response.header, found.value)

    async def wait_for_turn(
        self, entrant: Entrant, metadata: Mapping[str, str]
    ) -> rpc.ResponseHeader | None:
        """Wait until no earlier key is left; a contender that is cancelled takes its key away.

        Returns:
            The header of the last look at the contender's key, None when it did not even have to wait.

        Raises:
            RpcError: a look failed, or the member stops; the key has been taken away.
            LookupError: the key is gone, as it goes with its lease.
        """
        waited = False
        try:
            while (earlier := self._before(entrant)) is not None and self._stands(entrant):
                waited = True
                await self.changes.wait(_one(earlier.key), _one(entrant.key))
            if earlier is None and not waited:
                return None
            request = rpc.RangeRequest(key=entrant.key)
            response = await perform(self.calls.range, request, rpc.RangeResponse, metadata)
        except (RpcError, trio.Cancelled):
            self._withdraw(entrant, metadata)
            raise
        if not response.kvs or response.kvs[0].create_revision != entrant.revision:
            raise LookupError("session expired")
        return response.header

    async def txn(self, request: rpc.TxnRequest, metadata: Mapping[str, str]) -> rpc.TxnResponse:
        """Make a transaction; raises ``RpcError``."""
        return await perform(self.calls.txn, request, rpc.TxnResponse, metadata)

    def _before(self, entrant: Entrant) -> Record | None:
        """The key created last before the contender's, None when it is the first.

        This member's own state will do: it holds the contender's key, no earlier key can come any more,
        and one that is gone is gone everywhere.
        """
        store = self._member.machine.store
        records = store.select(entrant.prefix, entrant.prefix[:-1] + b"0", store.revision)
        earlier = [record for record in records if record.create_revision < entrant.revision]
        return max(earlier, key=lambda record: record.create_revision, default=None)

    def _stands(self, entrant: Entrant) -> bool:
        record = self._member.machine.store.latest(entrant.key)
        return record is not None and record.create_revision == entrant.revision

    def _withdraw(self, entrant: Entrant, metadata: Mapping[str, str]) -> None:
        """Have the contender's key deleted, without waiting for it."""
        request = rpc.TxnRequest(
            compare=[created_at(entrant.key, entrant.revision)],
            success=[rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=entrant.key))],
        )
        begin(self.calls.txn, request, metadata)


def created_at(key: bytes, revision: int) -> rpc.Compare:
    """The comparison that a key was created at a revision; 0: it does not exist."""
    return rpc.Compare(
        key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=revision
    )


def _one(key: bytes) -> tuple[bytes, bytes]:
    return key, key + b"\0"
