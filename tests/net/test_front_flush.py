"""The flusher: one write per dirty connection, and one flush for many requests."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from tercet.core.wire.http2 import ServerConnection
from tercet.core.wire.http2_limits import Http2Limits
from tercet.net.server.grpc_flush import Flusher


class Owner:
    """Counts its writes."""

    def __init__(self, flusher: Flusher) -> None:
        dirty: list[Any] = flusher.dirty
        self.protocol = ServerConnection(Http2Limits(), {}, dirty)
        self.protocol.owner = self
        self.writes: list[int] = []

    def flush(self) -> None:
        self.writes.append(len(self.protocol.take_output()))


async def test_each_dirty_connection_is_written_once_and_is_clean_afterwards() -> None:
    flusher = Flusher()
    owners = [Owner(flusher) for _ in range(3)]
    flusher.flush()
    assert [len(owner.writes) for owner in owners] == [1, 1, 1]
    assert flusher.dirty == []
    owners[1].protocol.ping()
    owners[1].protocol.ping()
    flusher.flush()
    flusher.flush()
    assert [owner.writes[1:] for owner in owners] == [[], [34], []]


async def test_many_requests_of_one_turn_become_one_flush() -> None:
    flusher = Flusher()
    owner = Owner(flusher)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            for _ in range(10):
                owner.protocol.ping()
                flusher.request()
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(owner.writes) == 2
    assert owner.writes[1] == 170
