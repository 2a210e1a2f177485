"""A watch that goes on over reconnects: after a lost stream it asks again from the next revision.

The next revision is known from the moment the server has created the watch, so that a watch without a
start revision misses nothing either. A batch never ends in the middle of a revision, and a batch that a
broken stream repeats is cut: events are told once, in the order of revisions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.proto import rpc_pb2 as rpc

from .connection import Call
from .errors import Compacted, Unreachable, WatchCancelled
from .values import Event, WatchBatch, event_of

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Watch"]

PATH = "/etcdserverpb.Watch/Watch"
RETRY_SECONDS = 0.1


class Watch:
    """One watch with a stream of its own; a context manager and an iterator over ``WatchBatch``.

    ``next_revision`` is where it would go on: everything before it has been told.
    """

    def __init__(
        self,
        client: Client,
        key: bytes,
        range_end: bytes,
        start_revision: int,
        prev_kv: bool,
        progress_notify: bool,
    ) -> None:
        self._client = client
        self._key = key
        self._range_end = range_end
        self._prev_kv = prev_kv
        self._progress_notify = progress_notify
        self._call: Call | None = None
        self._fragments: list[Event] = []
        self.next_revision = start_revision  # 0: from now on
        self.reconnects = 0

    async def __aenter__(self) -> Watch:
        """Create the watch; raises ``Compacted`` or ``WatchCancelled`` when the server refuses it."""
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> WatchBatch:
        return await self.receive()

    async def receive(self) -> WatchBatch:
        """The next batch, waiting as long as it takes; reconnects by itself.

        Raises:
            Compacted: What was not told yet is gone; the watch is over.
            WatchCancelled: The server ended the watch for good.
        """
        while True:
            if self._call is None:
                await self._open()
            assert self._call is not None
            try:
                message = await self._call.receive()
            except TercetError:
                message = None
            if message is None:
                await self._again()
                continue
            batch = self._read(rpc.WatchResponse.FromString(message))
            if batch is not None:
                return batch

    async def request_progress(self) -> None:
        """Ask for a progress notification; it comes as a batch without events."""
        if self._call is not None:
            request = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
            self._call.send(request.SerializeToString())

    async def _again(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._client.rotate()
        self.reconnects += 1
        await self._client.world.clock.sleep(RETRY_SECONDS)

    async def _open(self) -> None:
        """Have the server create the watch, on whichever endpoint answers."""
        request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=self._key,
                range_end=self._range_end,
                start_revision=self.next_revision,
                prev_kv=self._prev_kv,
                progress_notify=self._progress_notify,
            )
        ).SerializeToString()
        while True:
            try:
                message = await self._create(request)
            except Unreachable:
                message = None
            except RpcError as error:
                if error.code not in (Status.UNAVAILABLE, Status.CANCELLED, Status.UNKNOWN):
                    raise
                message = None
            except TercetError:
                message = None
            if message is None:
                await self._again()
                continue
            answer = rpc.WatchResponse.FromString(message)
            if answer.created and not answer.canceled:
                if not self.next_revision:
                    self.next_revision = answer.header.revision + 1
                return
            self._refused(answer)

    async def _create(self, request: bytes) -> bytes | None:
        """The first answer on a new stream, or None when there was none in time."""
        connection = await self._client.connection()
        call = self._call = connection.start(PATH, (("hasleader", "true"), *self._client.metadata))
        self._fragments.clear()
        call.send(request)
        message = None
        with self._client.world.clock.timeout(self._client.request_timeout):
            message = await call.receive()
        return message

    def _read(self, answer: rpc.WatchResponse) -> WatchBatch | None:
        if answer.canceled:
            self._refused(answer)
        self._fragments += [event_of(event) for event in answer.events]
        if answer.fragment:
            return None
        events = tuple(event for event in self._fragments if event.kv.mod_revision >= self.next_revision)
        self._fragments.clear()
        revision = answer.header.revision
        if answer.events:
            if not events:
                return None
            self.next_revision = events[-1].kv.mod_revision + 1
        else:
            self.next_revision = max(self.next_revision, revision + 1)
        return WatchBatch(revision, events)

    def _refused(self, answer: rpc.WatchResponse) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if answer.compact_revision:
            raise Compacted(answer.compact_revision)
        raise WatchCancelled(answer.cancel_reason or "the server cancelled the watch")
