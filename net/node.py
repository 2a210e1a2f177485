"""One task owns one Raft core: it drains its mailbox, steps the core, and does what the effects owe.

Everything that happens to a member arrives here as a plain call that queues and returns: ticks, peers'
messages, clients' proposals and reads, finished disk writes. The loop takes all that is queued as one
turn: it steps each event, gathers the effects, and then, in the order of duty, sends what may leave now,
starts the write of what must be durable (the loop goes on meanwhile; the finished write comes back as an
event), applies what is committed, answers, and flushes the dirty client connections once. The more that
waits, the more one turn, one frame, one sync and one flush carry.

An unexpected exception ends ``run`` and with it the member: a node that guesses is worse than one that
is down. Ticks that were missed (a paused process) are not made up for.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import msgspec
import trio

from tercet.core import raft, rpc_errors
from tercet.core.machine import Alarm, Machine, MemberAttributes
from tercet.core.raft.types import (
    Applied,
    Effects,
    Event,
    Message,
    Persisted,
    Propose,
    ReadIndex,
    Receive,
    Role,
    SoftState,
    Tick,
)
from tercet.core.rpc_errors import RpcError

from .apply import Applier, Done, Subscriber, Waiter
from .persist import Durable, LogStorage, Persister
from .reads import Done as ReadDone
from .reads import Reads
from .world import World

__all__ = ["CALL_SECONDS", "Limits", "MemberView", "Node", "Outbox"]

_HEADER: Final = struct.Struct(">BQQ")

#: How long a forwarded call may take.
CALL_SECONDS: Final = 5.0


class Outbox(Protocol):
    """What the node needs of ``net.peers.Peers``."""

    def send(self, messages: list[Message]) -> None:
        """Best effort: what cannot leave is dropped, Raft repeats it."""

    async def call(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        """Ask another member; raises ``RpcError``."""


class MemberView(msgspec.Struct, frozen=True):
    """A member as others see it."""

    id: int
    name: str  # "": not published yet
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool = False


class Limits:
    """Bounds of one node; bytes, counts and seconds."""

    def __init__(self, *, max_request_bytes: int, request_timeout: float) -> None:
        self.max_request_bytes = max_request_bytes
        self.request_timeout = request_timeout
        self.apply_gap = 5000  # committed but unapplied entries beyond which proposals are refused
        self.waiting_bytes = 256 << 20  # proposals under way
        self.inbox_messages = 8192  # peers' messages; beyond it they are dropped
        self.propose_bytes = 1 << 20  # one Propose event


def _nothing() -> None:
    """Stand in for the flush until the front door is there."""


class Node:
    """One member's core with its drivers. All methods are called from Trio tasks of one run, never threads.

    ``roster`` lists the members as (id, name, peer URLs). ``incarnation`` counts the starts of this member,
    from 1: proposals and reads are numbered from it, so
    that no number is ever used twice.
    """

    def __init__(
        self,
        world: World,
        *,
        member_id: int,
        cluster_id: int,
        roster: tuple[tuple[int, str, tuple[str, ...]], ...],
        state: raft.RaftState,
        machine: Machine,
        storage: LogStorage,
        outbox: Outbox,
        limits: Limits,
        tick_seconds: float,
        incarnation: int,
    ) -> None:
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.machine = machine
        self.limits = limits
        self.leader_id = 0
        self.role = Role.FOLLOWER
        self.term = state.current_term
        self.flush: Callable[[], None] = _nothing
        #: Called in the node's task when role, leader or term have changed.
        self.on_soft_state: list[Callable[[SoftState], None]] = []
        #: What other members may call here (``call_leader``), by method.
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self._world = world
        self._state = state
        self._outbox = outbox
        self._tick_seconds = tick_seconds
        self._roster = roster
        self._applier = Applier(machine, member_id)
        self._reads = Reads(incarnation << 40)
        self._sequence = incarnation << 40
        self._persister = Persister(storage, world.clock, self._on_durable)
        self._now = world.clock.monotonic()
        self._stopped = False
        self._parked: trio.lowlevel.Task | None = None
        # The mailbox.
        self._tick_due = False
        self._durable: list[Durable] = []
        self._inbox: list[Message] = []
        self._proposals: list[bytes] = []
        self._held = False  # the core dropped proposals: try again at the next tick or with another leader
        # Gathered during a turn.
        self._send: list[Message] = []
        self._soft_state: SoftState | None = None

    # What services use.

    @property
    def applied_index(self) -> int:
        """The last log index that the state machine has applied."""
        return self._applier.applied_index

    @property
    def commit_index(self) -> int:
        """The last log index known to be committed."""
        return self._state.commit_index

    @property
    def is_leader(self) -> bool:
        """This member believes to lead; only a quorum makes it so."""
        return self.role == Role.LEADER

    @property
    def state(self) -> raft.RaftState:
        """The core's present state, a value."""
        return self._state

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that are raised, sorted."""
        return self.machine.alarms

    def members(self) -> tuple[MemberView, ...]:
        """The cluster's members, by id; name and client URLs are empty until a member has published them."""
        attributes = self.machine.attributes
        nothing = MemberAttributes("", ())
        return tuple(
            MemberView(i, attributes.get(i, nothing).name, urls, attributes.get(i, nothing).client_urls)
            for i, _, urls in self._roster
        )

    def propose(self, kind: int, payload: bytes, done: Done, deadline: float | None = None) -> None:
        """Replicate a command; ``done`` is called exactly once, with its outcome or with an error.

        Args:
            kind: A ``core.machine.Command``.
            payload: The serialised request.
            done: Called in the node's task, or at once when the proposal is refused.
            deadline: Monotonic seconds; None or a later one: the member's own request timeout. An error
                at the deadline says nothing about the outcome.
        """
        limits = self.limits
        size = len(payload)
        if size > limits.max_request_bytes:
            done(rpc_errors.REQUEST_TOO_LARGE)
            return
        if self._stopped:
            done(rpc_errors.STOPPED)
            return
        applier = self._applier
        if (
            self._state.commit_index > applier.applied_index + limits.apply_gap
            or applier.waiting_bytes + size > limits.waiting_bytes
        ):
            done(rpc_errors.TOO_MANY_REQUESTS)
            return
        self._sequence = sequence = self._sequence + 1
        latest = self._now + limits.request_timeout
        if deadline is None or deadline > latest:
            deadline = latest
        applier.expect(sequence, Waiter(done, deadline, size))
        self._proposals.append(_HEADER.pack(kind, self.member_id, sequence) + payload)
        if self._parked is not None:
            self._wake()

    def read_index(self, done: ReadDone, deadline: float | None = None) -> None:
        """Call ``done(None)`` once ``machine`` holds everything committed before this call, else an error."""
        if self._stopped:
            done(rpc_errors.STOPPED)
            return
        latest = self._now + self.limits.request_timeout
        self._reads.ask(done, latest if deadline is None or deadline > latest else deadline)
        if self._parked is not None:
            self._wake()

    async def propose_and_wait(self, kind: int, payload: bytes) -> Any:
        """Replicate a command; its outcome. Raises ``RpcError``, also the one of the outcome itself."""
        finished = trio.Event()
        box: list[Any] = []

        def done(outcome: Any) -> None:
            box.append(outcome)
            finished.set()

        self.propose(kind, payload, done)
        await finished.wait()
        outcome = box[0]
        error = outcome if isinstance(outcome, RpcError) else outcome.error
        if error is not None:
            raise error.with_traceback(None)
        return outcome

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber(events, revision)`` after each applied batch with events; returns the way out."""
        self._applier.subscribers = [*self._applier.subscribers, subscriber]

        def unsubscribe() -> None:
            self._applier.subscribers = [s for s in self._applier.subscribers if s is not subscriber]

        return unsubscribe

    async def call_leader(self, method: str, payload: bytes) -> bytes:
        """Have the leader answer ``method``, itself when this member leads; raises ``RpcError``."""
        leader_id = self.leader_id
        if leader_id == 0:
            raise rpc_errors.NO_LEADER.with_traceback(None)
        if leader_id == self.member_id:
            return await self.answer_call(method, payload)
        return await self._outbox.call(leader_id, method, payload, CALL_SECONDS)

    async def answer_call(self, method: str, payload: bytes) -> bytes:
        """Answer a call, another member's or our own; raises ``RpcError``."""
        handler = self.calls.get(method)
        if handler is None:
            raise rpc_errors.unimplemented("tercet.Peer", method)
        return await handler(payload)

    # What the drivers around it use.

    def deliver(self, messages: tuple[Message, ...]) -> None:
        """Take messages from a peer; those beyond the inbox's bound are dropped."""
        inbox = self._inbox
        if len(inbox) + len(messages) > self.limits.inbox_messages:
            self._world.probe.count("peer_messages_dropped", len(messages))
            return
        inbox.extend(messages)
        if self._parked is not None:
            self._wake()

    async def run(self) -> None:
        """Run until cancelled. Raises what the disk, the core or the state machine raises."""
        record = self._world.probe.step
        if record is not None:  # a trace begins with the state before the first step
            record(None, raft.NO_EFFECTS, self._state)
        if len(self._roster) == 1:  # nobody else can be leader: do not wait for the timeout
            while self._state.leader_id == 0 and self._state.role == Role.FOLLOWER:
                self._step(Tick())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._persister.run)
                nursery.start_soon(self._ticks)
                await self._loop()
        finally:
            self._stopped = True
            self._applier.fail_all(rpc_errors.STOPPED)
            self._reads.fail_all(rpc_errors.STOPPED)
            self.flush()

    # The loop.

    async def _loop(self) -> None:
        while True:
            if self._idle():
                await self._park()
            else:
                await trio.lowlevel.checkpoint()
            self._turn()

    def _idle(self) -> bool:
        return not (
            self._inbox
            or self._durable
            or self._tick_due
            or (self._proposals and self.leader_id and not self._held)
            or (self._reads.has_waiting and self.leader_id)
            or self._applier.has_work
        )

    def _turn(self) -> None:
        if self._tick_due:
            self._tick_due = False
            self._step(Tick())
            self._sweep()
        if self._durable:
            self._take_durable()
        if self._inbox:
            inbox, self._inbox = self._inbox, []
            for message in inbox:
                self._step(Receive(message))
        if self._proposals and self.leader_id and not self._held:
            self._take_proposals()
        if self._reads.has_waiting and self.leader_id:
            self._step(ReadIndex(self._reads.start_round(self._now)))
        self._discharge()

    def _discharge(self) -> None:
        """Do what the gathered effects owe, in the order of duty."""
        persister = self._persister
        while True:
            if self._send:
                send, self._send = self._send, []
                self._outbox.send(send)
            if self._alone() and persister.may_sync_in_place():
                self._finish_batch(persister.sync_in_place())
                continue
            break
        persister.start()
        applier = self._applier
        if applier.has_work:
            applier.apply_chunk()
            self._step(Applied(applier.applied_index))
            if self._send:
                send, self._send = self._send, []
                self._outbox.send(send)
        if self._soft_state is not None:
            self._tell_soft_state()
        self._reads.release(applier.applied_index)
        self.flush()

    def _alone(self) -> bool:
        """One entry to write at most, and nobody else waits: a sync in place delays no one."""
        return (
            self._persister.owed_entries <= 1
            and not self._inbox
            and not self._proposals
            and len(self._applier.waiters) <= 1
        )

    def _step(self, event: Event) -> None:
        transition = raft.step(self._state, event)
        self._state = transition.state
        effects = transition.effects
        record = self._world.probe.step
        if record is not None:
            record(event, effects, transition.state)
        if effects is not raft.NO_EFFECTS:
            self._gather(effects)

    def _gather(self, effects: Effects) -> None:
        if effects.hard_state is not None or effects.entries:
            self._persister.owe(effects.hard_state, effects.entries, self._state.current_term)
        if effects.send:
            self._send += effects.send
        if effects.send_after_persist:
            self._send_when_durable(effects.send_after_persist)
        if effects.committed:
            self._applier.enqueue(effects.committed)
        if effects.soft_state is not None:
            self._note_soft_state(effects.soft_state)
        if effects.reads:
            self._reads.confirm(effects.reads)
        if effects.dropped_reads:
            self._reads.drop(effects.dropped_reads)
        if effects.dropped:
            self._hold_again(effects.dropped)

    def _send_when_durable(self, messages: tuple[Message, ...]) -> None:
        if not self._persister.after(messages):
            self._send += messages

    def _hold_again(self, dropped: tuple[bytes, ...]) -> None:
        """Proposals that the core dropped did not happen; they wait for a leader, or for their deadline."""
        waiters = self._applier.waiters
        mine = [data for data in dropped if self._sequence_of(data) in waiters]
        self._proposals = mine + self._proposals
        self._held = True

    def _sequence_of(self, data: bytes) -> int:
        _, member, sequence = _HEADER.unpack_from(data)
        return int(sequence) if member == self.member_id else 0

    def _take_proposals(self) -> None:
        proposals, self._proposals = self._proposals, []
        total = sum(map(len, proposals))
        if total <= self.limits.propose_bytes:
            self._step(Propose(tuple(proposals)))
            return
        batch: list[bytes] = []
        size = 0
        for data in proposals:
            if batch and size + len(data) > self.limits.propose_bytes:
                self._step(Propose(tuple(batch)))
                batch, size = [], 0
            batch.append(data)
            size += len(data)
        self._step(Propose(tuple(batch)))

    # The disk.

    def _on_durable(self, batch: Durable) -> None:
        self._durable.append(batch)
        if self._parked is not None:
            self._wake()

    def _take_durable(self) -> None:
        finished, self._durable = self._durable, []
        for batch in finished:
            self._finish_batch(batch)

    def _finish_batch(self, batch: Durable) -> None:
        if batch.messages:
            self._send += batch.messages
        if batch.entries:
            last = batch.entries[-1]
            self._step(Persisted(last.index, last.term, batch.term))

    # Time, roles.

    async def _ticks(self) -> None:
        clock = self._world.clock
        due = clock.monotonic() + self._tick_seconds
        while True:
            await clock.sleep(max(0.0, due - clock.monotonic()))
            now = clock.monotonic()
            due += self._tick_seconds
            if due <= now:  # late by more than a tick: the missed ones are gone
                due = now + self._tick_seconds
            self._tick_due = True
            self._wake()

    def _sweep(self) -> None:
        self._now = now = self._world.clock.monotonic()
        self._applier.sweep(now, rpc_errors.TIMEOUT)
        self._reads.sweep(now, rpc_errors.TIMEOUT)
        self._held = False
        if self._proposals:  # held for want of a leader: forget those whose clients have been answered
            waiters = self._applier.waiters
            self._proposals = [data for data in self._proposals if self._sequence_of(data) in waiters]

    def _note_soft_state(self, soft_state: SoftState) -> None:
        if soft_state.leader_id != self.leader_id:
            self._reads.leader_changed()
            self._held = False
        self.role = soft_state.role
        self.leader_id = soft_state.leader_id
        self.term = soft_state.current_term
        self._soft_state = soft_state

    def _tell_soft_state(self) -> None:
        soft_state, self._soft_state = self._soft_state, None
        assert soft_state is not None
        for listener in self.on_soft_state:
            listener(soft_state)

    def _wake(self) -> None:
        task, self._parked = self._parked, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    async def _park(self) -> None:
        self._parked = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
