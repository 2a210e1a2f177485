"""A watch that records every stream as the server sent it, with nothing repaired on the client's side.

The client library's watch hides what a reconnect repeats. Here each stream is a record of its own: asked
from a revision, told these batches. When a stream breaks, or now and then on purpose, the next one starts
where the last left off, or further back, on another member.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Event
from tercet.net.client.values import event_of

from ..history import Watch, WatchBatch, WatchEvent
from .calls import kv_of
from .recorder import Recorder, WatchRecord

if TYPE_CHECKING:
    from tercet.net.client import Client
    from tercet.sim.run import Setting

__all__ = ["follow"]

_PATH = "/etcdserverpb.Watch/Watch"


async def follow(
    client: Client, recorder: Recorder, setting: Setting, key: str, range_end: str, draw: random.Random
) -> None:
    """Watch a range until cancelled, stream after stream."""
    follower = _Follower(client, recorder, setting, key, range_end)
    while True:
        patience = draw.randrange(2, 12)
        back = draw.randrange(30) if draw.random() < 0.3 else 0
        start = max(follower.next - back, 2) if follower.next else 0
        try:
            with setting.world.clock.timeout(patience):
                await follower.stream(start, prev_kv=draw.random() < 0.5)
        except TercetError:
            pass
        client.rotate()
        await setting.world.clock.sleep(draw.randrange(1, 300) / 1000)


class _Follower:
    def __init__(
        self, client: Client, recorder: Recorder, setting: Setting, key: str, range_end: str
    ) -> None:
        self.client, self.recorder, self.setting = client, recorder, setting
        self.key, self.range_end = key, range_end
        self.next = 0  # 0: nothing heard yet

    async def stream(self, start: int, prev_kv: bool) -> None:
        """One stream until it ends."""
        connection = await self.client.connection()
        call = connection.start(_PATH, ())
        try:
            request = rpc.WatchCreateRequest(
                key=self.key.encode(),
                range_end=self.range_end.encode(),
                start_revision=start,
                prev_kv=prev_kv,
                progress_notify=True,
            )
            asked = self.recorder.time(self.setting.now())
            call.send(rpc.WatchRequest(create_request=request).SerializeToString())
            record: WatchRecord | None = None
            while (data := await call.receive()) is not None:
                message = rpc.WatchResponse.FromString(data)
                if record is None:
                    created = message.header.revision
                    record = self.recorder.watch(
                        Watch(
                            self.setting.number,
                            self.key,
                            asked,
                            range_end=self.range_end,
                            start_revision=start,
                            created_revision=created,
                            prev_kv=prev_kv,
                        )
                    )
                    self.next = self.next or start or created + 1
                    if message.created and not message.canceled:
                        continue
                if message.canceled:
                    record.compacted(message.compact_revision)
                    self.next = max(self.next, message.compact_revision)
                    return
                self._note(record, message)
        finally:
            call.cancel()

    def _note(self, record: WatchRecord, message: rpc.WatchResponse) -> None:
        events = tuple(_event(event_of(event)) for event in message.events)
        record.add(WatchBatch(self.recorder.time(self.setting.now()), message.header.revision, events))
        heard = events[-1].kv.mod_revision if events else message.header.revision
        self.next = max(self.next, heard + 1)


def _event(event: Event) -> WatchEvent:
    prev = None if event.prev is None else kv_of(event.prev)
    return WatchEvent("delete" if event.kind == "delete" else "put", kv_of(event.kv), prev)
