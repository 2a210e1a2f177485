"""``make-mirror``: copies a prefix to another cluster, then whatever changes, revision by revision."""

from __future__ import annotations

from typing import Final

import trio

from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from ..client.prefix import prefix_end
from .calls import ask
from .context import Context, Settings, write
from .failures import ERROR, Failure
from .session import connect, world
from .watching import AnswerWatch

__all__ = ["make_mirror"]

PAGE: Final = 1000
REPORT_SECONDS: Final = 30.0
#: The destination may be away for as long as it wants.
FOREVER: Final = 10 * 365 * 86400.0
COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"


def make_mirror(context: Context) -> None:
    """``make-mirror``; runs until it is interrupted."""
    context.need(len(context.arguments) == 1, "make-mirror takes one destination argument")
    destination = context.destination(context.arguments[0])
    settings = context.settings()
    context.need(
        not (context.text("dest-prefix") and context.yes("no-dest-prefix")),
        "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
    )
    context.run(_mirror, context, settings, destination)


class _Mirror:
    """The copy under way."""

    def __init__(self, context: Context, source: Client, destination: Client) -> None:
        self._source = source
        self._destination = destination
        self._prefix = context.text("prefix").encode("utf-8", "surrogateescape")
        self._other = context.text("dest-prefix").encode("utf-8", "surrogateescape")
        if not self._other and not context.yes("no-dest-prefix"):
            self._other = self._prefix
        self._operations_max = max(1, context.number("max-txn-ops"))
        self.copied = 0

    def _key(self, key: bytes) -> bytes:
        return key.replace(self._prefix, self._other, 1)

    def _range(self) -> tuple[bytes, bytes]:
        return (self._prefix, prefix_end(self._prefix)) if self._prefix else (b"\0", b"\0")

    async def copy_all(self) -> int:
        """Copy what is there; the revision that was copied."""
        answer = await ask(
            self._source, "/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"foo"), rpc.RangeResponse
        )
        revision = answer.header.revision
        key, end = self._range()
        while True:
            request = rpc.RangeRequest(key=key, range_end=end, limit=PAGE, revision=revision)
            page = await ask(self._source, "/etcdserverpb.KV/Range", request, rpc.RangeResponse)
            for kv in page.kvs:
                put = rpc.PutRequest(key=self._key(kv.key), value=kv.value)
                await ask(
                    self._destination, "/etcdserverpb.KV/Put", put, rpc.PutResponse, timeout=FOREVER
                )
                self.copied += 1
            if not page.more:
                return revision
            key = page.kvs[-1].key + b"\0"

    async def follow(self, revision: int) -> None:
        """Copy every change after ``revision``, one transaction for each revision."""
        key, end = self._range()
        create = rpc.WatchCreateRequest(key=key, range_end=end, start_revision=revision + 1)
        watched = AnswerWatch(self._source, create)
        while True:
            answer = await watched.receive()
            if answer.compact_revision:
                raise Failure(ERROR, COMPACTED)
            if answer.canceled:
                raise Failure(ERROR, answer.cancel_reason or "watch is canceled by the server")
            operations: list[rpc.RequestOp] = []
            last = 0
            for event in answer.events:
                if operations and event.kv.mod_revision > last:
                    await self._commit(operations)
                    operations = []
                last = event.kv.mod_revision
                operations.append(self._operation(event))
                if len(operations) == self._operations_max:
                    await self._commit(operations)
                    operations = []
            if operations:
                await self._commit(operations)

    def _operation(self, event: kv_pb2.Event) -> rpc.RequestOp:
        key = self._key(event.kv.key)
        self.copied += 1
        if event.type == kv_pb2.Event.DELETE:
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=event.kv.value))

    async def _commit(self, operations: list[rpc.RequestOp]) -> None:
        request = rpc.TxnRequest(success=operations)
        await ask(self._destination, "/etcdserverpb.KV/Txn", request, rpc.TxnResponse, timeout=FOREVER)

    async def report(self) -> None:
        """Print how many keys were copied, every half minute; runs until cancelled."""
        while True:
            await world().clock.sleep(REPORT_SECONDS)
            write(f"{self.copied}\n")


async def _mirror(context: Context, settings: Settings, destination: Settings) -> None:
    async with connect(settings) as source, connect(destination) as other, trio.open_nursery() as nursery:
        mirror = _Mirror(context, source, other)
        nursery.start_soon(mirror.report)
        revision = context.number("rev")
        if revision <= 0:
            revision = await mirror.copy_all()
        else:
            revision -= 1
        await mirror.follow(revision)
