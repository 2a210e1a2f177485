"""Planted bugs of watches: B26, B27, B28 and B34 of the bug zoo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tercet.core.mvcc import store as mvcc
from tercet.core.mvcc.history import History, first_kept
from tercet.core.mvcc.record import Event
from tercet.core.mvcc.watch_index import WatchIndex
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client.watch import Watch
from tercet.net.server.services.watch import _Stream
from tercet.net.server.services.watch_hub import WatchHub
from tercet.net.server.services.watcher import Watcher

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]

_ASKED = "_progress_asked"  # an attribute of streams
_REPLAYED = 20  # revisions
_open = Watch._open


def _catch_up_again(self: WatchHub, told: int) -> None:
    watchers, self._watchers, self._index = self._watchers, {}, WatchIndex()
    store = self.store()
    for (number, _), watcher in watchers.items():
        watcher.fall_behind(0)
        watcher.next_revision = max(told - _REPLAYED, store.compacted, 2)
        self.streams[number].wake(watcher)


def _b26() -> AbstractContextManager[None]:
    return replaced(WatchHub, "catch_up", _catch_up_again)


def _asked(stream: _Stream, asked: bool) -> None:
    if asked:
        stream._answer(stream._hub.store().revision, rpc.WatchResponse(watch_id=-1))


@contextmanager
def _b27() -> Iterator[None]:
    setattr(_Stream, _ASKED, property(lambda _: False, _asked))
    try:
        yield
    finally:
        delattr(_Stream, _ASKED)


def _first_kept_but_deletions(history: History, compacted: int) -> int:
    place = first_kept(history, compacted)
    while place < len(history) and history[place].mod_revision <= compacted and not history[place].version:
        place += 1
    return place


def _b28() -> AbstractContextManager[None]:
    return replaced(mvcc, "first_kept", _first_kept_but_deletions)


def _offer_to_few(self: Watcher, event: Event) -> bool:
    if len(self._pending) < 2:
        self._pending.append(event)
    return True


def _b28_starved() -> AbstractContextManager[None]:
    return replaced(Watcher, "offer", _offer_to_few)


async def _open_from_now(self: Watch) -> None:
    if self.reconnects:
        self.next_revision = 0
    await _open(self)


def _b34() -> AbstractContextManager[None]:
    return replaced(Watch, "_open", _open_from_now)


MUTATIONS = (
    Mutation(
        "B26",
        "etcd 15271",
        "After its member was caught up by a snapshot a watch goes on from before what it was told.",
        "a watch on a member that lags until it needs a snapshot",
        _b26,
        world="simulated",
    ),
    Mutation(
        "B27",
        "etcd 15220, 20221",
        "A request for progress is answered at once, whatever the stream's watches are still owed.",
        "a watch of the past, and a request for progress before it has caught up",
        _b27,
        world="simulated",
    ),
    Mutation(
        "B28",
        "etcd 19179",
        "A compaction drops a deletion that was made at the very revision it keeps.",
        "a compaction at a deletion, and a watch from there",
        _b28,
        world="simulated",
    ),
    Mutation(
        "B28-starved",
        "etcd 17529, 18089",
        "What does not fit into the queue of a slow watch is dropped.",
        "several writes before the stream takes what it is sent",
        _b28_starved,
        world="simulated",
    ),
    Mutation(
        "B34",
        "Jepsen etcd 3.4.3",
        "A watch that connects again asks from revision 0, which means from now.",
        "a connection lost under writes",
        _b34,
        world="simulated",
    ),
)
