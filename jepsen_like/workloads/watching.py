"""A watch that records every stream as the server sent it, with nothing repaired on the client's side.

The client library's watch hides what a reconnect repeats. Here each stream is a record of its own: asked
from a revision, told these batches. When a stream breaks, or now and then on purpose, the next one starts
where the last left off, or further back, on another member. Some streams have a second watch, with a filter
perhaps, and progress is asked for. Now and then it is the library's own watch that is recorded, as one, over
all its reconnects.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Compacted, Event, WatchCancelled
from tercet.net.client.values import event_of

from ..history import Watch, WatchBatch, WatchEvent
from .calls import kv_of
from .recorder import Recorder, WatchRecord

if TYPE_CHECKING:
    from tercet.net.client import Client
    from tercet.net.client.connection import Call
    from tercet.sim.run import Setting

__all__ = ["follow"]

_PATH = "/etcdserverpb.Watch/Watch"
_LIBRARY = 0.25  # so many watches are the client library's, over its reconnects


async def follow(
    client: Client, recorder: Recorder, setting: Setting, key: str, range_end: str, draw: random.Random
) -> None:
    """Watch a range until cancelled, stream after stream."""
    follower = _Follower(client, recorder, setting, key, range_end, draw)
    while True:
        patience = draw.randrange(2, 12)
        try:
            with setting.world.clock.timeout(patience):
                if draw.random() < _LIBRARY:
                    await follower.library_watch()
                else:
                    await follower.stream()
        except TercetError as error:
            await follower.sign_in(str(error))
        client.rotate()
        await setting.world.clock.sleep(draw.randrange(1, 300) / 1000)


class _Follower:
    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        setting: Setting,
        key: str,
        range_end: str,
        draw: random.Random,
    ) -> None:
        self.client, self.recorder, self.setting, self.draw = client, recorder, setting, draw
        self.key, self.range_end = key, range_end
        self.next = 0  # 0: nothing heard yet

    async def sign_in(self, reason: str) -> None:
        """Get a token when it was for want of one that a watch was refused."""
        if any(text in reason for text in ("user name", "permission denied", "token")):
            with suppress(TercetError):
                await self.client.log_in()

    # -- as the server sends it -------------------------------------------------------------------

    async def stream(self) -> None:
        """One stream with one or two watches until it ends."""
        draw = self.draw
        back = draw.randrange(30) if draw.random() < 0.3 else 0
        start = max(self.next - back, 2) if self.next else 0
        connection = await self.client.connection()
        call = connection.start(_PATH, self.client.metadata)
        try:
            asked = self.recorder.time(self.setting.now())
            wanted = {1: self._request(1, start)}
            if draw.random() < 0.3:
                wanted[2] = self._request(2, start if draw.random() < 0.5 else 0)
            for request in wanted.values():
                call.send(rpc.WatchRequest(create_request=request).SerializeToString())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_for_progress, call)
                try:
                    await self._listen(call, wanted, asked)
                except TercetError as error:
                    await self.sign_in(str(error))
                nursery.cancel_scope.cancel()
        finally:
            call.cancel()

    def _request(self, number: int, start: int) -> rpc.WatchCreateRequest:
        draw = self.draw
        filters = [draw.choice((rpc.WatchCreateRequest.NOPUT, rpc.WatchCreateRequest.NODELETE))]
        return rpc.WatchCreateRequest(
            key=self.key.encode() if number == 1 else f"{self.key}0".encode(),
            range_end=self.range_end.encode() if number == 1 else b"",
            start_revision=start,
            prev_kv=draw.random() < 0.5,
            progress_notify=True,
            watch_id=number,
            filters=filters if number == 2 and draw.random() < 0.5 else [],
        )

    async def _ask_for_progress(self, call: Call) -> None:
        pause = 0 if self.draw.random() < 0.3 else self.draw.randrange(50, 2000)
        while True:
            await self.setting.world.clock.sleep(pause / 1000)
            pause = self.draw.randrange(50, 2000)
            with suppress(TercetError):  # the stream has ended, as its listener will learn
                call.send(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()).SerializeToString())

    async def _listen(self, call: Call, wanted: dict[int, rpc.WatchCreateRequest], asked: int) -> None:
        """Record what comes until the stream ends, or its first watch."""
        records: dict[int, WatchRecord] = {}
        while (data := await call.receive()) is not None:
            message = rpc.WatchResponse.FromString(data)
            number = message.watch_id
            if message.created:
                if message.canceled:  # refused
                    await self.sign_in(message.cancel_reason)
                    return
                records[number] = self.recorder.watch(
                    _described(self.setting.number, wanted[number], asked, message.header.revision)
                )
                if number == 1:
                    self.next = self.next or wanted[1].start_revision or message.header.revision + 1
            elif message.canceled:
                if message.compact_revision:
                    records[number].compacted(message.compact_revision)
                    if number == 1:
                        self.next = max(self.next, message.compact_revision)
                else:
                    await self.sign_in(message.cancel_reason)
                if number == 1:
                    return
            elif number in records:
                self._note(records[number], message, own=number == 1)
            else:  # progress of all the stream's watches
                for record in records.values() if len(records) == len(wanted) else ():
                    self._note(record, message, own=False)

    def _note(self, record: WatchRecord, message: rpc.WatchResponse, *, own: bool) -> None:
        events = tuple(_event(event_of(event)) for event in message.events)
        record.add(WatchBatch(self.recorder.time(self.setting.now()), message.header.revision, events))
        if own:
            heard = events[-1].kv.mod_revision if events else message.header.revision
            self.next = max(self.next, heard + 1)

    # -- as the client library tells it -----------------------------------------------------------

    async def library_watch(self) -> None:
        """One watch of the client library, over all its reconnects: nothing may be missing or told twice."""
        start = self.next if self.draw.random() < 0.5 else 0
        asked = self.recorder.time(self.setting.now())
        watch = self.client.watch(
            self.key.encode(), range_end=self.range_end.encode(), start_revision=start,
            progress_notify=True,
        )  # fmt: skip
        record: WatchRecord | None = None
        try:
            async with watch:
                request = rpc.WatchCreateRequest(
                    key=self.key.encode(), range_end=self.range_end.encode(),
                    start_revision=watch.next_revision,
                )  # fmt: skip
                record = self.recorder.watch(_described(self.setting.number, request, asked, 0))
                async for batch in watch:
                    told = tuple(_event(event) for event in batch.events)
                    record.add(WatchBatch(self.recorder.time(self.setting.now()), batch.revision, told))
                    self.next = max(self.next, watch.next_revision)
        except Compacted as error:
            self.next = max(self.next, error.compact_revision)
            if record is not None:
                record.compacted(error.compact_revision)
        except WatchCancelled as error:
            await self.sign_in(str(error))


def _described(process: int, request: rpc.WatchCreateRequest, asked: int, created: int) -> Watch:
    names: dict[int, Literal["put", "delete"]] = {
        rpc.WatchCreateRequest.NOPUT: "put", rpc.WatchCreateRequest.NODELETE: "delete",
    }  # fmt: skip
    return Watch(
        process,
        request.key.decode(),
        asked,
        range_end=request.range_end.decode(),
        start_revision=request.start_revision,
        created_revision=created,
        prev_kv=request.prev_kv,
        filters=tuple(names[number] for number in request.filters),
    )


def _event(event: Event) -> WatchEvent:
    prev = None if event.prev is None else kv_of(event.prev)
    return WatchEvent("delete" if event.kind == "delete" else "put", kv_of(event.kv), prev)
