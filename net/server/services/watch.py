"""The Watch service: many watches on one stream, each in order, complete and resumable.

Two tasks serve a stream: the handler reads requests, the sender writes responses. The sender goes round the
watchers that are owed something, one response each, so a watcher that reads a long past does not starve the
others. Answers to requests go first, in order; a progress answer goes only when no watcher of the stream is
owed anything, so the revision it names is never ahead of an event (etcd 15220).
"""

from __future__ import annotations

from collections import deque

import trio
from google.protobuf.message import DecodeError

from tercet.core import rpc_errors
from tercet.core.auth.permits import check_keys
from tercet.core.auth.values import NOBODY, READ
from tercet.core.mvcc.ranges import range_end_of
from tercet.core.mvcc.record import Event, encode_event
from tercet.core.mvcc.steps import PAGE_KEYS, Steps
from tercet.core.mvcc.store import Store
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.varint import encode_varint

from ...auth import Guard
from ...turns import in_turns
from ...world import World
from ..call import StreamCall, StreamHandler
from .member import Answers, Member
from .watch_hub import WatchHub
from .watcher import Watcher

__all__ = ["PROGRESS_SECONDS", "WatchService"]

#: How long a watcher with progress_notify may hear nothing.
PROGRESS_SECONDS = 600.0
_LEADERLESS_CHECKS = 3  # election timeouts without a leader after which a stream that insists on one ends
_MAX_WATCHES = 100_000  # of one stream
_MAX_CONTROL = 10_000  # answers waiting on one stream; beyond it requests are not read

_SENT_IN_A_TURN = 16  # responses of one stream, before everything else has its turn

_EMPTY_RANGE = "mvcc: watcher range is empty"
_DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"
_TOO_MANY = "etcdserver: too many watches on one stream"


class WatchService:
    """``etcdserverpb.Watch`` of one member.

    Args:
        election_timeout: seconds.
        fragment_bytes: a response larger than this is cut up for watches that allow it.
    """

    def __init__(
        self,
        world: World,
        member: Member,
        answers: Answers,
        guard: Guard,
        *,
        election_timeout: float,
        fragment_bytes: int,
    ) -> None:
        self.world = world
        self.member = member
        self.answers = answers
        self.guard = guard
        self.election_timeout = election_timeout
        self.fragment_bytes = fragment_bytes
        self._last: tuple[Event, bytes] | None = None  # the event told last, as its field of a response
        self.hub = WatchHub(lambda: member.machine.store, member.subscribe)

    def event_field(self, event: Event, store: Store) -> bytes:
        """An event as a field of a ``WatchResponse``, without its previous record: most are for many."""
        last = self._last
        if last is not None and last[0] is event:
            return last[1]
        data = encode_event(event, prev_kv=False, data_of=store.data_of)
        field = b"".join((b"\x5a", encode_varint(len(data)), data))
        self._last = event, field
        return field

    def stream(self) -> dict[str, StreamHandler]:
        """The streaming handler by path."""
        return {"/etcdserverpb.Watch/Watch": self.watch}

    async def run(self, interval: float = PROGRESS_SECONDS) -> None:
        """Send progress to quiet watchers every ``interval`` seconds; until cancelled."""
        while True:
            await self.world.clock.sleep(interval)
            for stream in list(self.hub.streams.values()):
                stream.notice_quiet()

    def shut(self) -> None:
        """End all streams: the member stops."""
        for stream in list(self.hub.streams.values()):
            stream.shut()

    async def watch(self, call: StreamCall) -> None:
        """Serve one stream until its client leaves."""
        needs_leader = call.metadata.get("hasleader") == "true"
        if needs_leader and not self.member.leader_id:
            raise rpc_errors.NO_LEADER.with_traceback(None)
        await _Stream(self, call).serve(needs_leader)


class _Stream:
    """One stream with its watchers."""

    def __init__(self, service: WatchService, call: StreamCall) -> None:
        self._service = service
        self._hub = service.hub
        self._answers = service.answers
        self._call = call
        self._watchers: dict[int, Watcher] = {}
        self._outrun: dict[int, None] = {}  # watches that compaction has ended, until they are cancelled, too
        self._who = NOBODY  # as last found out
        self._allowed: dict[int, int] = {}  # by watch: the guard's stamp when its range was last checked
        self._next_id = 0
        self._control: deque[bytes] = deque()
        self._ready: dict[int, Watcher] = {}  # owed something, in order of turns
        self._progress_asked = False
        self._scope = trio.CancelScope()
        self._wakeup = trio.Event()
        self._room = trio.Event()
        self._number = 0

    async def serve(self, needs_leader: bool) -> None:
        self._number = self._hub.add_stream(self)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_all)
                    if needs_leader:
                        nursery.start_soon(self._watch_leader)
                    await self._receive_all()
                    await trio.Event().wait()  # a half-closed client still listens
        finally:
            for watcher in self._watchers.values():
                self._hub.leave(self._number, watcher)
            self._hub.drop_stream(self._number)

    # ---- what the hub says

    def wake(self, watcher: Watcher) -> None:
        self._ready[watcher.id] = watcher
        self._wakeup.set()

    @property
    def watch_count(self) -> int:
        return len(self._watchers)

    def notice_quiet(self) -> None:
        for watcher in self._watchers.values():
            if watcher.progress_notify and watcher.quiet:
                watcher.progress_due = True
                self.wake(watcher)
            watcher.quiet = True

    def shut(self) -> None:
        self._end(rpc_errors.STOPPED)

    def _end(self, error: rpc_errors.RpcError) -> None:
        self._call.finish(error.code, error.message)
        self._scope.cancel()

    async def _watch_leader(self) -> None:
        """End the stream when there has been no leader for a while."""
        missing = 0
        while missing < _LEADERLESS_CHECKS:
            await self._service.world.clock.sleep(self._service.election_timeout)
            missing = 0 if self._service.member.leader_id else missing + 1
        self._end(rpc_errors.NO_LEADER)

    # ---- requests

    async def _receive_all(self) -> None:
        while (message := await self._call.receive()) is not None:
            try:
                request = rpc.WatchRequest.FromString(message)
            except DecodeError:
                self._end(rpc_errors.undecodable("etcdserverpb.WatchRequest"))
                return
            match request.WhichOneof("request_union"):
                case "create_request":
                    self._create(request.create_request, await self._refusal(request.create_request))
                case "cancel_request":
                    self._cancel(request.cancel_request.watch_id)
                case "progress_request":
                    self._progress_asked = True
            self._wakeup.set()
            while len(self._control) >= _MAX_CONTROL:
                self._room = trio.Event()
                await self._room.wait()

    async def _refusal(self, request: rpc.WatchCreateRequest) -> str:
        """Why this client may not watch a range; "": it may."""
        guard = self._service.guard
        if not guard.concerns(self._call):
            return ""
        try:
            self._who = await guard.identity(self._call)
        except RpcError as error:
            return _as_reason(error)
        auth = self._service.member.machine.auth
        refused = check_keys(auth, self._who, request.key or b"\0", request.range_end, READ)
        return _as_reason(refused) if refused is not None else ""

    async def _still_allowed(self, watcher: Watcher) -> bool:
        """Look at a watch's permission again when permissions have changed; cancel one that lost it."""
        guard = self._service.guard
        stamp = guard.stamp
        if not stamp or self._allowed.get(watcher.id) == stamp:
            return True
        error: RpcError | None
        try:
            if not self._who.name:
                self._who = await guard.identity(self._call)
            range_end = b"\0" if watcher.end is None else watcher.end
            error = guard.may_read(self._who, watcher.start, range_end)
        except RpcError as problem:
            error = problem
        if error is None:
            self._allowed[watcher.id] = stamp
            return True
        if self._drop(watcher.id):
            reason = _as_reason(error)
            response = rpc.WatchResponse(watch_id=watcher.id, canceled=True, cancel_reason=reason)
            self._answer(self._hub.store().revision, response)
        return False

    def _create(self, request: rpc.WatchCreateRequest, reason: str) -> None:
        store = self._hub.store()
        key = request.key or b"\0"
        end = range_end_of(key, request.range_end)
        if reason:
            pass
        elif end is not None and end <= key:
            reason = _EMPTY_RANGE
        elif request.watch_id and self._is_taken(request.watch_id):
            reason = _DUPLICATE_ID
        elif len(self._watchers) + len(self._outrun) >= _MAX_WATCHES:
            reason = _TOO_MANY
        if reason:
            refused = rpc.WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason=reason)
            self._answer(store.revision, refused)
            return
        watcher = Watcher(
            request.watch_id or self._free_id(), key, end, request.start_revision or store.revision + 1,
            no_put=rpc.WatchCreateRequest.NOPUT in request.filters,
            no_delete=rpc.WatchCreateRequest.NODELETE in request.filters,
            prev_kv=request.prev_kv, fragment=request.fragment, progress_notify=request.progress_notify,
        )
        self._watchers[watcher.id] = watcher
        self._answer(store.revision, rpc.WatchResponse(watch_id=watcher.id, created=True))
        if watcher.next_revision > store.revision:
            watcher.lagging = False
            self._hub.enter(self._number, watcher)
        else:
            self.wake(watcher)

    def _is_taken(self, watch_id: int) -> bool:
        """As in etcd, the id of a watch that compaction has ended stays its own until it is cancelled."""
        return watch_id in self._watchers or watch_id in self._outrun

    def _free_id(self) -> int:
        while self._is_taken(self._next_id):
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, watch_id: int) -> None:
        outrun = watch_id in self._outrun
        self._outrun.pop(watch_id, None)
        if self._drop(watch_id) or outrun:
            self._answer(self._hub.store().revision, rpc.WatchResponse(watch_id=watch_id, canceled=True))

    def _drop(self, watch_id: int) -> bool:
        watcher = self._watchers.pop(watch_id, None)
        if watcher is None:
            return False
        self._ready.pop(watch_id, None)
        self._allowed.pop(watch_id, None)
        self._hub.leave(self._number, watcher)
        return True

    def _answer(self, revision: int, response: rpc.WatchResponse) -> None:
        """Queue a response that does not wait for events; revision 0 leaves it out of the header."""
        self._control.append(self._answers.header(revision) + response.SerializeToString())
        self._wakeup.set()

    # ---- responses

    async def _send_all(self) -> None:
        turn = 0
        while True:
            turn += 1
            if turn % _SENT_IN_A_TURN == 0:
                await trio.lowlevel.checkpoint()
            if self._control:
                await self._call.send(self._control.popleft())
                self._room.set()
            elif self._ready:
                await self._send_turn(self._ready.pop(next(iter(self._ready))))
            elif self._progress_asked:
                self._progress_asked = False
                header = self._answers.header(self._hub.store().revision)
                await self._call.send(header + rpc.WatchResponse(watch_id=-1).SerializeToString())
            else:
                self._wakeup = trio.Event()
                await self._wakeup.wait()

    async def _send_turn(self, watcher: Watcher) -> None:
        """One response to a watcher that is owed something."""
        if self._service.guard.stamp and not await self._still_allowed(watcher):
            return
        store = self._hub.store()
        if watcher.lagging and watcher.next_revision < store.compacted:
            self._drop(watcher.id)
            self._outrun[watcher.id] = None
            response = rpc.WatchResponse(watch_id=watcher.id, canceled=True, compact_revision=store.compacted)
            self._answer(0, response)
            return
        if watcher.lagging:
            messages = await self._past(watcher, store)
        else:
            messages = await in_turns(self._told(watcher, store, *watcher.take(store)))
        for message in messages:
            await self._call.send(message)
        if not messages:
            await trio.lowlevel.checkpoint()

    async def _past(self, watcher: Watcher, store: Store) -> list[bytes]:
        """A piece of the past, serialised; several turns if a single revision changed very much."""
        pinned = watcher.next_revision
        store.pin(pinned)
        try:
            events, revision = await in_turns(watcher.read(store))
            if watcher.id not in self._watchers:  # cancelled meanwhile
                return []
            if self._hub.store() is not store:  # a snapshot has replaced it: there may be more to read
                watcher.lagging = True
            if not watcher.lagging:
                self._hub.enter(self._number, watcher)
            return await in_turns(self._told(watcher, store, events, revision))
        finally:
            store.unpin(pinned)

    def _told(
        self, watcher: Watcher, store: Store, events: list[Event], revision: int
    ) -> Steps[list[bytes]]:
        """What tells a watcher of these events, or of progress; it queues up again if there is more."""
        progress = watcher.progress_due and not watcher.lagging and not events
        if progress:
            watcher.progress_due = False
        if watcher.owed:
            self._ready[watcher.id] = watcher
        if not events and not progress:
            return []
        watcher.quiet = False
        self._hub.events_sent += len(events)
        return (yield from self._responses(watcher, events, revision, store))

    def _responses(
        self, watcher: Watcher, events: list[Event], revision: int, store: Store
    ) -> Steps[list[bytes]]:
        """The serialised response, or its fragments when it is large and the client takes fragments."""
        head = self._answers.header(revision)
        if watcher.id:
            head += b"\x10" + encode_varint(watcher.id & 0xFFFFFFFFFFFFFFFF)
        if len(events) == 1 and not watcher.prev_kv:
            return [head + self._service.event_field(events[0], store)]
        pieces: list[list[bytes]] = [[]]
        size = 0
        for number, event in enumerate(watcher.encode(events, store), 1):
            if number % PAGE_KEYS == 0:
                yield
            if watcher.fragment and size and size + len(event) > self._service.fragment_bytes:
                pieces.append([])
                size = 0
            pieces[-1] += (b"\x5a", encode_varint(len(event)), event)
            size += len(event)
        more = [head + b"\x38\x01" + b"".join(piece) for piece in pieces[:-1]]
        return [*more, head + b"".join(pieces[-1])]


def _as_reason(error: RpcError) -> str:
    """A refusal as etcd puts it into a watch's cancel reason: as its gRPC library prints an error."""
    words = error.code.name.split("_")
    return f"rpc error: code = {''.join(word.capitalize() for word in words)} desc = {error.message}"
