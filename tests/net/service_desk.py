"""A member reduced to what services see, and calls without a network, for tests of the services alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from google.protobuf.message import Message

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.members import MemberCommand, MemberView, conf_change
from tercet.core.raft.types import Entry, EntryKind, Role, SoftState, encode_conf_change
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.config import MemberConfig
from tercet.net.server.services import Services, build_methods
from tercet.net.world import World

__all__ = ["Desk", "FakeCall", "FakeMember", "FakeStream"]


class FakeMember:
    """Applies proposals at once, in one term, as a leader; ``step_down`` and ``lead`` change that."""

    def __init__(self) -> None:
        self.member_id, self.cluster_id = 101, 202
        self.machine = Machine()
        self.machine.members.load([MemberView(101, "", ("http://localhost:2380",))], [])
        self.is_learner = False
        self.database_size = lambda: (8192, 4096)
        self.keeper: Any = None
        self.on_installed: list[Callable[[int], None]] = []
        self.connected: dict[int, float] = {}
        self.matches: dict[int, int] = {}
        self.moved_to: list[int] = []
        self.term = self.machine.applied_term = 3
        self.is_learner = False
        self.leader_id = 101
        self.on_soft_state: list[Callable[[SoftState], None]] = []
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.subscribers: list[Callable[[Sequence[Any], int], None]] = []
        self.read_error: RpcError | None = None
        self.elsewhere: Callable[[str, bytes], Awaitable[bytes]] | None = None  # another member leads
        self.proposed: list[int] = []

    @property
    def applied_index(self) -> int:
        return self.machine.applied_index

    @property
    def commit_index(self) -> int:
        return self.machine.applied_index

    @property
    def is_leader(self) -> bool:
        return self.leader_id == self.member_id

    def propose(
        self,
        kind: int,
        payload: bytes,
        done: Callable[[Outcome | RpcError], None],
        deadline: float | None = None,
    ) -> None:
        self.proposed.append(kind)
        if not self.leader_id:
            done(rpc_errors.TIMEOUT)
            return
        data = encode_command(kind, self.member_id, 1, payload)  # type: ignore[arg-type]
        outcome = self.machine.apply(Entry(self.term, self.machine.applied_index + 1, data))
        done(outcome)
        if outcome.events:
            for subscriber in self.subscribers:
                subscriber(outcome.events, outcome.revision)

    def propose_change(
        self,
        command: MemberCommand,
        payload: bytes,
        done: Callable[[Outcome | RpcError], None],
        deadline: float | None = None,
    ) -> None:
        self.proposed.append(command)
        if not self.leader_id:
            done(rpc_errors.TIMEOUT)
            return
        change = conf_change(command, payload, encode_command(Command(command), self.member_id, 1, b""))
        entry = Entry(
            self.term, self.machine.applied_index + 1, encode_conf_change(change), EntryKind.CONF_CHANGE
        )
        done(self.machine.apply(entry))

    def transfer_leadership(self, target: int) -> None:
        self.moved_to.append(target)
        self.change_leader(target)

    def match_index(self, member_id: int) -> int | None:
        return self.matches.get(member_id)

    def connected_since(self, member_id: int) -> float | None:
        return self.connected.get(member_id)

    def read_index(self, done: Callable[[RpcError | None], None], deadline: float | None = None) -> None:
        done(self.read_error)

    def subscribe(self, subscriber: Callable[[Sequence[Any], int], None]) -> Callable[[], None]:
        self.subscribers.append(subscriber)
        return lambda: self.subscribers.remove(subscriber)

    async def call_leader(self, method: str, payload: bytes) -> bytes:
        if self.elsewhere is not None:
            return await self.elsewhere(method, payload)
        if not self.leader_id:
            raise rpc_errors.NO_LEADER.with_traceback(None)
        return await self.calls[method](payload)

    def change_leader(self, leader_id: int, *, applied: bool = True) -> None:
        """Another leader (0: none), in the next term; ``applied``: it has applied its first entry."""
        self.leader_id = leader_id
        self.term += 1
        role = Role.LEADER if self.is_leader else Role.FOLLOWER
        if self.is_leader and applied:  # a new leader's first entry
            self.machine.apply(Entry(self.term, self.machine.applied_index + 1, b""))
        for listener in self.on_soft_state:
            listener(SoftState(role, leader_id, self.term))


class FakeCall:
    """A unary call; ``status`` is None until it is answered, then (code, text)."""

    def __init__(self, message: bytes, metadata: dict[str, str]) -> None:
        self.message = message
        self.metadata = metadata
        self.client_common_name = ""
        self.deadline: float | None = None
        self.answer = b""
        self.status: tuple[int, str] | None = None

    def reply(self, message: bytes) -> None:
        assert self.status is None
        self.answer, self.status = message, (0, "")

    @property
    def answered(self) -> bool:
        return self.status is not None

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        self.reply(b"".join(parts))

    def fail(self, code: int, message: str) -> None:
        assert self.status is None
        self.status = (code, message)


class FakeStream:
    """A streaming call: requests go in by ``request``, responses come out of ``response``.

    ``window`` responses may be unread before ``send`` waits, like a client's flow-control window.
    """

    def __init__(self, response_type: type[Message], metadata: dict[str, str], window: float) -> None:
        self.metadata = metadata
        self.client_common_name = ""
        self.status: tuple[int, str] | None = None
        self.finished = trio.Event()
        self._type = response_type
        self._in_send, self._in_receive = trio.open_memory_channel[bytes](1000)
        self._out_send, self._out_receive = trio.open_memory_channel[bytes](window)

    async def receive(self) -> bytes | None:
        try:
            return await self._in_receive.receive()
        except trio.EndOfChannel:
            return None

    async def send(self, message: bytes) -> None:
        await self._out_send.send(message)

    def finish(self, code: int = 0, message: str = "") -> None:
        if self.status is None:
            self.status = (code, message)
            self.finished.set()

    def request(self, message: Message) -> None:
        self._in_send.send_nowait(message.SerializeToString())

    def request_bytes(self, data: bytes) -> None:
        self._in_send.send_nowait(data)

    def half_close(self) -> None:
        self._in_send.close()

    async def response(self) -> Any:
        return self._type.FromString(await self._out_receive.receive())

    def unread(self) -> int:
        return self._out_receive.statistics().current_buffer_used


class Desk:
    """The services of one ``FakeMember`` in a world."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.member = FakeMember()
        self.config = MemberConfig(name="n1", **options)
        self.services: Services = build_methods(self.member, world, self.config)

    def call(self, method: str, request: Message | bytes, **metadata: str) -> FakeCall:
        """Make a unary call, e.g. ``KV/Put``; it may be answered later."""
        message = request if isinstance(request, bytes) else request.SerializeToString()
        call = FakeCall(message, metadata)
        self.services.unary[f"/etcdserverpb.{method}"](call)
        return call

    def ask(self, method: str, request: Message, **metadata: str) -> Any:
        """The response of a call that is answered at once and succeeds."""
        call = self.call(method, request, **metadata)
        assert call.status == (0, ""), call.status
        return METHODS[f"/etcdserverpb.{method}"].response.FromString(call.answer)

    def put(self, key: bytes, value: bytes = b"v", lease: int = 0) -> rpc.PutResponse:
        response: rpc.PutResponse = self.ask("KV/Put", rpc.PutRequest(key=key, value=value, lease=lease))
        return response

    def open(
        self, nursery: trio.Nursery, method: str, *, window: float = 1000, **metadata: str
    ) -> FakeStream:
        """Start a streaming call in a task of ``nursery``; ``method`` may be a whole path."""
        path = method if method.startswith("/") else f"/etcdserverpb.{method}"
        stream = FakeStream(METHODS[path].response, metadata, window)
        nursery.start_soon(self._serve, path, stream)
        return stream

    async def _serve(self, path: str, stream: FakeStream) -> None:
        try:
            await self.services.stream[path](stream)
        except RpcError as error:
            stream.finish(error.code, error.message)
        else:
            stream.finish()
