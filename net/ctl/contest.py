"""Locks and elections as etcd's own recipes make them: keys in order of creation below one prefix.

Each contender has a key with its lease's id; the oldest one wins, and the others wait until the key created
just before theirs is deleted. Programs that use etcd's recipes and these commands contend with each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from ..client.lease import KeepAlive
from ..client.prefix import prefix_end
from .calls import ask
from .watching import AnswerWatch

__all__ = ["Contender", "Session", "first_key", "session"]

RANGE: Final = "/etcdserverpb.KV/Range"
TXN: Final = "/etcdserverpb.KV/Txn"


class Session:
    """A lease that is kept alive; its keys go with it."""

    def __init__(self, client: Client, lease: int, alive: KeepAlive) -> None:
        self.client = client
        self.lease = lease
        self.lost = alive.lost


@asynccontextmanager
async def session(client: Client, ttl: int) -> AsyncIterator[Session]:
    """Grant a lease of ``ttl`` seconds, and keep it alive in the body."""
    lease = await client.lease_grant(ttl)
    async with client.keep_alive(lease.id) as alive:
        yield Session(client, lease.id, alive)


async def first_key(client: Client, prefix: bytes) -> rpc.RangeResponse:
    """Who is first below a prefix: a range's answer with the oldest key, or none."""
    request = rpc.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        limit=1,
        sort_order=rpc.RangeRequest.ASCEND,
        sort_target=rpc.RangeRequest.CREATE,
    )
    return await ask(client, RANGE, request, rpc.RangeResponse)


class Contender:
    """One key below a prefix. ``header`` is that of the answer that made it the first."""

    def __init__(self, owner: Session, name: bytes) -> None:
        self._session = owner
        self.prefix = name + b"/"
        self.key = self.prefix + b"%x" % (owner.lease & (1 << 64) - 1)
        self.revision = 0
        self.header = rpc.ResponseHeader()

    async def enter(self, value: bytes) -> bool:
        """Create the key, unless it is there; True when it is the oldest below the prefix."""
        client = self._session.client
        put = rpc.RequestOp(
            request_put=rpc.PutRequest(key=self.key, value=value, lease=self._session.lease)
        )
        own = rpc.RequestOp(request_range=rpc.RangeRequest(key=self.key))
        oldest = rpc.RequestOp(
            request_range=rpc.RangeRequest(
                key=self.prefix,
                range_end=prefix_end(self.prefix),
                limit=1,
                sort_order=rpc.RangeRequest.ASCEND,
                sort_target=rpc.RangeRequest.CREATE,
            )
        )
        absent = rpc.Compare(
            result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=self.key, create_revision=0
        )
        request = rpc.TxnRequest(compare=[absent], success=[put, oldest], failure=[own, oldest])
        answer = await ask(client, TXN, request, rpc.TxnResponse)
        self.revision = answer.header.revision
        if not answer.succeeded:
            self.revision = answer.responses[0].response_range.kvs[0].create_revision
        owners = answer.responses[1].response_range.kvs
        self.header = answer.header
        return not owners or owners[0].create_revision == self.revision

    async def wait(self) -> None:
        """Wait until no older key is left."""
        client = self._session.client
        while True:
            request = rpc.RangeRequest(
                key=self.prefix,
                range_end=prefix_end(self.prefix),
                limit=1,
                sort_order=rpc.RangeRequest.DESCEND,
                sort_target=rpc.RangeRequest.CREATE,
                max_create_revision=self.revision - 1,
            )
            answer = await ask(client, RANGE, request, rpc.RangeResponse)
            if not answer.kvs:
                self.header = answer.header
                return
            await _deleted(client, answer.kvs[0].key, answer.header.revision)

    async def leave(self) -> None:
        """Delete the key if it is the one that was created; once."""
        same = rpc.Compare(
            result=rpc.Compare.EQUAL,
            target=rpc.Compare.CREATE,
            key=self.key,
            create_revision=self.revision,
        )
        delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=self.key))
        request = rpc.TxnRequest(compare=[same], success=[delete])
        await ask(self._session.client, TXN, request, rpc.TxnResponse)


async def _deleted(client: Client, key: bytes, revision: int) -> None:
    """Wait until ``key``, seen at ``revision``, is deleted."""
    watched = AnswerWatch(client, rpc.WatchCreateRequest(key=key, start_revision=revision))
    try:
        while True:
            answer = await watched.receive()
            if answer.canceled or any(event.type == kv_pb2.Event.DELETE for event in answer.events):
                return
    finally:
        watched.close()
