"""A node alone in a simulated world: its disk, its peers and its clock are in the test's hands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import trio

from tercet.core import raft
from tercet.core.machine import Command, Machine, Outcome
from tercet.core.raft.types import (
    AppendReply,
    Entry,
    HardState,
    Message,
    VoteReply,
    VoteRequest,
)
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.node import Limits, Node
from tercet.net.world import Clock, World
from tercet.sim.contract import run_in_world

__all__ = ["TIMEOUT", "Bench", "HeldStorage", "on_bench", "put"]

TIMEOUT = 7.0  # seconds, of requests


class HeldStorage:
    """A log whose syncs in a thread finish when the test says so; in place they finish at once."""

    def __init__(self) -> None:
        self.written: list[tuple[str, HardState | None, tuple[Entry, ...]]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def hold(self) -> None:
        self.gate = trio.Event()

    async def append(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        self.written.append(("thread", hard_state, entries))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await trio.lowlevel.checkpoint()

    def append_now(self, hard_state: HardState | None, entries: tuple[Entry, ...]) -> None:
        self.written.append(("in place", hard_state, entries))
        if self.failure is not None:
            raise self.failure


class Sent:
    """Peers that only note what is sent to them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.cut = False  # nothing leaves, and the node is told so
        self.since: dict[int, float | None] = {}  # by member; who is not here has been connected for ever

    def send(self, messages: list[Message]) -> list[Message]:
        if self.cut:
            return messages
        self.messages += messages
        return []

    async def call(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        return b"called %d %s" % (member_id, method.encode())

    def connected_since(self, member_id: int) -> float | None:
        return self.since.get(member_id, float("-inf"))

    def take(self, kind: type) -> list[Any]:
        found = [message for message in self.messages if isinstance(message, kind)]
        self.messages = [message for message in self.messages if not isinstance(message, kind)]
        return found


class Steps:
    """A probe that keeps the events the core was stepped with, and what was counted and said."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.counted: list[tuple[str, float]] = []
        self.said: list[str] = []

    def step(self, event: object, effects: object, state: object) -> None:
        self.events.append(event)

    def count(self, metric: str, amount: float = 1.0, /, **labels: str) -> None:
        self.counted.append((metric, amount))

    def log(self, level: str, message: str, /, **fields: object) -> None:
        self.said.append(message)


class Jumping:
    """A clock that the test can set ahead, as a pause of the process does."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ahead = 0.0
        self.sleep = clock.sleep

    def monotonic(self) -> float:
        return self.clock.monotonic() + self.ahead


class Bench:
    """One node with its surroundings."""

    def __init__(
        self, world: World, members: int = 1, *, max_request_bytes: int = 1000, lease: int = 0
    ) -> None:
        self.steps = Steps()
        self.clock = Jumping(world.clock)
        self.world = world = replace(world, probe=cast("Any", self.steps), clock=cast("Any", self.clock))
        self.storage = HeldStorage()
        self.sent = Sent()
        ids = tuple(range(1, members + 1))
        config = raft.Config(node_id=1, voters=ids, election_ticks=10, read_only_lease=bool(lease))
        self.node = Node(
            world,
            member_id=1,
            cluster_id=9,
            state=raft.restart(config, HardState(), ()),
            machine=Machine(),
            storage=self.storage,
            outbox=self.sent,
            limits=Limits(max_request_bytes=max_request_bytes, request_timeout=TIMEOUT),
            tick_seconds=0.1,
            incarnation=3,
        )
        self.outcomes: list[Outcome | RpcError] = []

    def put(self, key: bytes, value: bytes = b"v") -> None:
        self.node.propose(Command.PUT, put(key, value), self.outcomes.append)

    async def settle(self) -> None:
        """Let everything that can happen now happen."""
        await self.world.clock.sleep(0.001)

    async def lead(self) -> None:
        """Make this member of three the leader of term 1, with its first entry committed."""
        while not self.sent.take(VoteRequest):
            await self.world.clock.sleep(0.1)
        for pre_vote in (True, False):
            self.receive(VoteReply(sender=2, to=1, term=1, vote_granted=True, pre_vote=pre_vote))
            await self.settle()
        assert self.node.is_leader
        self.acknowledge(1)
        await self.settle()

    def receive(self, *messages: Message) -> None:
        self.node.deliver(messages)

    def acknowledge(self, index: int) -> None:
        self.receive(AppendReply(sender=2, to=1, term=self.node.term, success=True, match_index=index))


def put(key: bytes, value: bytes = b"v") -> bytes:
    return rpc.PutRequest(key=key, value=value).SerializeToString()


def on_bench(test: Callable[[Bench], Awaitable[None]], members: int = 1, **options: int) -> None:
    """Run a test beside a running node in simulated time."""

    async def main(world: World) -> None:
        bench = Bench(world, members, **options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.node.run)
            await bench.settle()
            await test(bench)
            nursery.cancel_scope.cancel()

    run_in_world(main)
