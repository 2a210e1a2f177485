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

from collections.abc import Callable
from typing import Final

import trio

from tercet.core import raft, rpc_errors
from tercet.core.machine import Machine
from tercet.core.raft.types import (
    Applied,
    ConfChange,
    Effects,
    Event,
    HardState,
    Message,
    Persisted,
    Propose,
    ProposeConfChange,
    ProposeRequest,
    ReadIndex,
    ReadIndexRequest,
    Receive,
    Role,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotRequest,
    SnapshotSent,
    SoftState,
    Tick,
    decode_conf_change,
)

from .apply import Applier
from .forwarded import Forwarded, proposer_of
from .loop_ports import Outbox, Snapshots
from .persist import Durable, LogStorage, Persister
from .reads import Reads
from .world import World

__all__ = ["CoreLoop", "Limits"]

#: How often is looked whether the log is at rest before a snapshot takes its place.
INSTALL_POLL_SECONDS: Final = 0.001


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
    ) -> None:
        self.member_id = member_id
        self.machine = machine
        self.limits = limits
        self.leader_id = 0
        self.role = Role.FOLLOWER
        self.term = state.current_term
        self.leader_changes = 0  # leaders seen since the start
        self.failed_proposals = 0  # that ran out of time
        self.is_learner = False
        #: Set once this member has applied its own removal, or was told of it.
        self.removed = trio.Event()
        #: Called in the node's task when the machine's members have changed.
        self.on_members: list[Callable[[], None]] = []
        #: Writes the dirty client connections; set once the front door is there.
        self.flush: Callable[[], None] = _nothing
        #: Called in the node's task when role, leader or term have changed.
        self.on_soft_state: list[Callable[[SoftState], None]] = []
        #: Set before ``run`` by who builds the member; without it members that need a snapshot wait.
        self.snapshots: Snapshots | None = None
        #: Called when a snapshot has replaced the machine, with the revision of the one before.
        self.on_installed: list[Callable[[int], None]] = []
        self._world = world
        self._state = state
        self._outbox = outbox
        self._tick_seconds = tick_seconds
        self._hurry = True  # just started: a sole voter need not wait for an election
        self._members_version = -1
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
        self._conf_changes: list[ConfChange] = []
        self._events: list[Event] = []  # what drivers report
        self._forwarded = Forwarded(member_id)
        self._install: SnapshotMeta | None = None  # a snapshot is to be put in place
        self._install_due = trio.Event()
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

    def happen(self, event: Event) -> None:
        """Let something that a driver saw happen to the core, e.g. a lost connection, with the next turn.

        A snapshot that has been received whole comes this way, too, as ``Receive(SnapshotRequest)``.
        """
        self._events.append(event)
        if self._parked is not None:
            self._wake()

    async def run(self) -> None:
        """Run until cancelled. Raises what the disk, the core or the state machine raises."""
        record = self._world.probe.step
        if record is not None:  # a trace begins with the state before the first step
            record(None, raft.NO_EFFECTS, self._state)
        self._note_members()
        self._step(Tick())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._persister.run)
                nursery.start_soon(self._ticks)
                nursery.start_soon(self._install_snapshots)
                await self._loop()
        finally:
            self._stopped, self._room = True, -1
            self._applier.fail_all(rpc_errors.STOPPED)
            self._reads.fail_all(rpc_errors.STOPPED)
            self.flush()

    # The loop.

    async def _loop(self) -> None:
        while True:
            if self._idle() and not (self._hurry and self._hurry_up()):
                await self._park()
            else:
                await trio.lowlevel.checkpoint()
            self._turn()

    def _hurry_up(self) -> bool:
        """Once all that was committed before the start is applied: a sole voter campaigns now."""
        self._hurry = False
        state = self._state
        if state.leader_id or state.configuration.voters != (self.member_id,):
            return False
        for _ in range(2 * state.config.election_ticks):
            self._step(Tick())
            if self._state.role != Role.FOLLOWER:
                return True
        return False

    def _note_members(self) -> None:
        """The machine's members have changed, or may have."""
        members = self.machine.members
        self._members_version = members.version
        mine = members.get(self.member_id)
        self.is_learner = mine is not None and mine.is_learner
        if self.member_id in members.removed:
            self.removed.set()
        for listener in self.on_members:
            listener()

    def _idle(self) -> bool:
        return not (
            self._inbox
            or self._durable
            or self._tick_due
            or self._events
            or (self._wants_leader() and self.leader_id and not self._held)
            or (self._reads.has_waiting and self.leader_id)
            or self._applier.has_work
        )

    def _wants_leader(self) -> bool:
        return bool(self._proposals or self._conf_changes or self._forwarded)

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
        if self._events:
            events, self._events = self._events, []
            for event in events:
                self._step(event)
                if type(event) is Receive and self._install is None and self.snapshots is not None:
                    self.snapshots.forget()  # a snapshot that Raft does not want
        if self.leader_id and not self._held:
            if self._proposals:
                self._take_proposals()
            if self._conf_changes:
                self._take_conf_changes()
            if self._forwarded:
                for event in self._forwarded.take():
                    self._step(event)
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
            refused, applier.refused = tuple(applier.refused), []
            if self.machine.members.version != self._members_version:
                self._note_members()
            self._step(Applied(applier.applied_index, refused))
            behind = self._state.commit_index > applier.applied_index + self.limits.apply_gap
            self._room = -1 if behind or self.is_learner else self.limits.max_request_bytes
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
            and not self._events
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
        if effects.dropped_conf_changes:
            self._hold_changes_again(effects.dropped_conf_changes)
        if effects.install is not None:
            self._install = effects.install
            self._applier.forget_queue()  # the snapshot stands for all of it
            self._install_due.set()

    def _send_now(self) -> None:
        """Send what was gathered; what was to be forwarded and did not leave waits for the leader."""
        send, self._send = self._send, []
        if any(type(message) is SnapshotRequest for message in send):
            send = self._divert_snapshots(send)
        for message in self._outbox.send(send):
            if isinstance(message, ProposeRequest):
                self._hold_again(message.entries)
                self._hold_changes_again(tuple(map(decode_conf_change, message.conf_changes)))
            elif isinstance(message, ReadIndexRequest):
                self._reads.drop((message.context,))

    def _divert_snapshots(self, messages: list[Message]) -> list[Message]:
        """Snapshots go on connections of their own."""
        rest: list[Message] = []
        for message in messages:
            if not isinstance(message, SnapshotRequest):
                rest.append(message)
            elif self.snapshots is not None:
                self.snapshots.send(message)
            else:
                self.happen(SnapshotSent(message.to, False))
        return rest

    async def _install_snapshots(self) -> None:
        """Put snapshots in place, one after the other, while the loop goes on with everything else."""
        persister = self._persister
        while True:
            await self._install_due.wait()
            self._install_due = trio.Event()
            meta = self._install
            assert meta is not None and self.snapshots is not None
            while not persister.idle:  # what was promised so far belongs to the log that is replaced
                await self._world.clock.sleep(INSTALL_POLL_SECONDS)
            persister.held = True
            state, before = self._state, self.machine.revision
            hard_state = HardState(state.current_term, state.voted_for, meta.index)
            self.machine = await self.snapshots.install(meta, hard_state)
            self._applier.replace(self.machine)
            persister.held = False
            self._note_members()
            for listener in self.on_installed:
                listener(before)
            self._install = None
            self.happen(SnapshotInstalled(meta.index))

    def _send_when_durable(self, messages: tuple[Message, ...]) -> None:
        if not self._persister.after(messages):
            self._send += messages

    def _hold_again(self, dropped: tuple[bytes, ...]) -> None:
        """These proposals did not happen and will not; they wait for a leader, or for their deadline.

        Those of other members come back while leadership is handed over. They sent them and forgot them, so
        they are passed on to the next leader from here.
        """
        waiters = self._applier.waiters
        mine = [data for data in dropped if self._sequence_of(data) in waiters]
        self._proposals = mine + self._proposals
        self._held = True
        if len(mine) < len(dropped):
            self._forwarded.keep(dropped, (), self._now)

    def _hold_changes_again(self, dropped: tuple[ConfChange, ...]) -> None:
        """As ``_hold_again``: a change is refused while another is under way, and may be taken after it."""
        waiters = self._applier.waiters
        mine = [change for change in dropped if self._sequence_of(change.context) in waiters]
        self._conf_changes = mine + self._conf_changes
        self._held = True
        if len(mine) < len(dropped):
            self._forwarded.keep((), dropped, self._now)

    def _sequence_of(self, data: bytes) -> int:
        """The sequence of a proposal of ours; 0 for those of others."""
        member, sequence = proposer_of(data)
        return sequence if member == self.member_id else 0

    def _take_conf_changes(self) -> None:
        changes, self._conf_changes = self._conf_changes, []
        for change in changes:
            self._step(ProposeConfChange(change))

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
        if self._proposals and not self.leader_id:
            sequences = map(self._sequence_of, self._proposals)
            self.failed_proposals += self._applier.give_up(sequences, now, rpc_errors.NOT_PROPOSED)
        self.failed_proposals += self._applier.sweep(now, error)
        self._reads.sweep(now, error)
        self._held = False
        self._forwarded.sweep(now)
        waiters = self._applier.waiters
        if self._proposals:  # held for want of a leader: forget those whose clients have been answered
            self._proposals = [data for data in self._proposals if self._sequence_of(data) in waiters]
        if self._conf_changes:
            changes = self._conf_changes
            self._conf_changes = [one for one in changes if self._sequence_of(one.context) in waiters]

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
