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
from collections.abc import Callable
from typing import Final, Protocol

import trio

from tercet.core import raft, rpc_errors
from tercet.core.machine import Machine
from tercet.core.raft.types import (
    Applied,
    Effects,
    Event,
    Message,
    Persisted,
    Propose,
    ProposeRequest,
    ReadIndex,
    ReadIndexRequest,
    Receive,
    Role,
    SoftState,
    Tick,
)

from .apply import Applier
from .persist import Durable, LogStorage, Persister
from .reads import Reads
from .world import World

__all__ = ["COMMAND_HEADER", "CoreLoop", "Limits", "Outbox"]

#: What stands before the request in an entry: command, proposing member, its sequence.
COMMAND_HEADER: Final = struct.Struct(">BQQ")


class Outbox(Protocol):
    """What the loop needs of ``net.peers.Peers``."""

    def send(self, messages: list[Message]) -> list[Message]:
        """Best effort, as Raft repeats what is lost. Returns what has certainly not left."""

    async def call(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        """Ask another member; raises ``RpcError``."""


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


class CoreLoop:
    """One member's core and the loop around it; ``net.node.Node`` adds what services use.

    Args:
        sole_voter: Nobody else can be leader: campaign at once.
        incarnation: Counts the starts of this member, from 1: proposals and reads are numbered from it, so
            that no number is ever used twice.
    """

    def __init__(
        self,
        world: World,
        *,
        member_id: int,
        state: raft.RaftState,
        machine: Machine,
        storage: LogStorage,
        outbox: Outbox,
        limits: Limits,
        tick_seconds: float,
        incarnation: int,
        sole_voter: bool,
    ) -> None:
        self.member_id = member_id
        self.machine = machine
        self.limits = limits
        self.leader_id = 0
        self.role = Role.FOLLOWER
        self.term = state.current_term
        self.leader_changes = 0  # leaders seen since the start
        self.failed_proposals = 0  # that ran out of time
        #: Writes the dirty client connections; set once the front door is there.
        self.flush: Callable[[], None] = _nothing
        #: Called in the node's task when role, leader or term have changed.
        self.on_soft_state: list[Callable[[SoftState], None]] = []
        self._world = world
        self._state = state
        self._outbox = outbox
        self._tick_seconds = tick_seconds
        self._sole_voter = sole_voter
        self._applier = Applier(machine, member_id, state.log.last_index)
        self._reads = Reads(incarnation << 40)
        self._sequence = incarnation << 40
        self._persister = Persister(storage, world.clock, self._on_durable)
        self._now = world.clock.monotonic()
        self._latest = self._now + limits.request_timeout  # the deadline of what is asked now
        self._room = limits.max_request_bytes  # bytes a proposal may have now; -1: none is taken
        self._last_leader = 0  # the newest one known, even when it is lost
        self._leader_replaced_at = float("-inf")  # when another leader followed it
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

    def deliver(self, messages: tuple[Message, ...]) -> None:
        """Take messages from a peer; those beyond the inbox's bound are dropped."""
        inbox = self._inbox
        if len(inbox) + len(messages) > self.limits.inbox_messages:
            self._world.probe.count("tercet_peer_messages_dropped_total", len(messages))
            return
        inbox.extend(messages)
        if self._parked is not None:
            self._wake()

    async def run(self) -> None:
        """Run until cancelled. Raises what the disk, the core or the state machine raises."""
        record = self._world.probe.step
        if record is not None:  # a trace begins with the state before the first step
            record(None, raft.NO_EFFECTS, self._state)
        if self._sole_voter:
            while self._state.leader_id == 0 and self._state.role == Role.FOLLOWER:
                self._step(Tick())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._persister.run)
                nursery.start_soon(self._ticks)
                await self._loop()
        finally:
            self._stopped, self._room = True, -1
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
                self._send_now()
            if self._alone() and persister.may_sync_in_place():
                self._finish_batch(persister.sync_in_place())
                continue
            break
        persister.start()
        applier = self._applier
        if applier.has_work:
            applier.apply_chunk()
            self._step(Applied(applier.applied_index))
            behind = self._state.commit_index > applier.applied_index + self.limits.apply_gap
            self._room = -1 if behind else self.limits.max_request_bytes
            if self._send:
                self._send_now()
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

    def _send_now(self) -> None:
        """Send what was gathered; what was to be forwarded and did not leave waits for the leader."""
        send, self._send = self._send, []
        for message in self._outbox.send(send):
            if isinstance(message, ProposeRequest):
                self._hold_again(message.entries)
            elif isinstance(message, ReadIndexRequest):
                self._reads.drop((message.context,))

    def _send_when_durable(self, messages: tuple[Message, ...]) -> None:
        if not self._persister.after(messages):
            self._send += messages

    def _hold_again(self, dropped: tuple[bytes, ...]) -> None:
        """These proposals did not happen and will not; they wait for a leader, or for their deadline."""
        waiters = self._applier.waiters
        mine = [data for data in dropped if self._sequence_of(data) in waiters]
        self._proposals = mine + self._proposals
        self._held = True

    def _sequence_of(self, data: bytes) -> int:
        _, member, sequence = COMMAND_HEADER.unpack_from(data)
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
        self._latest = now + self.limits.request_timeout
        recent = self._leader_replaced_at > now - self.limits.request_timeout
        error = rpc_errors.TIMEOUT_LEADER_FAIL if recent else rpc_errors.TIMEOUT
        self.failed_proposals += self._applier.sweep(now, error)
        self._reads.sweep(now, error)
        self._held = False
        if self._proposals:  # held for want of a leader: forget those whose clients have been answered
            waiters = self._applier.waiters
            self._proposals = [data for data in self._proposals if self._sequence_of(data) in waiters]

    def _note_soft_state(self, soft_state: SoftState) -> None:
        if soft_state.leader_id != self.leader_id:
            if soft_state.leader_id:
                if self._last_leader:
                    self._leader_replaced_at = self._now
                self._last_leader = soft_state.leader_id
                self.leader_changes += 1
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
