"""One task owns one Raft core: it drains its mailbox, steps the core, and does what the effects owe.

Everything that happens to a member arrives here as a plain call that queues and returns: ticks, peers'
messages, clients' proposals and reads, finished disk writes. The loop takes all that is queued as one
turn: it steps each event, gathers the effects, and then, in the order of duty, sends what may leave now,
starts the write of what must be durable (the loop goes on meanwhile; the finished write comes back as an
event), applies what is committed, answers, and flushes the dirty client connections once. The more that
waits, the more one turn, one frame, one sync and one flush carry.

An unexpected exception ends ``run`` and with it the member: a node that guesses is worse than one that
is down. Ticks that were missed (a paused process) are not made up for, but by a leader with leases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from tercet.core import raft, rpc_errors
from tercet.core.machine import Machine
from tercet.core.raft.quorum import reached
from tercet.core.raft.types import (
    Applied,
    Effects,
    Event,
    HardState,
    Message,
    Persisted,
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
from tercet.core.rpc_errors import RpcError

from .apply import Applier
from .installing import Installing
from .loop_ports import Outbox, Snapshots
from .parking import Bed
from .persist import Durable, LogStorage, Persister
from .proposing import Proposing
from .reads import Reads
from .world import World

__all__ = ["CoreLoop", "Limits"]

#: Of a tick: what a sum of floats may lack.
ROUNDING: Final = 1e-6
#: Why the core drops a proposal that is not worth another try.
TOO_MUCH_WAITS: Final = "propose/uncommitted-limit"


class Limits:
    """Bounds of one node; bytes, counts and seconds."""

    def __init__(
        self, *, max_request_bytes: int, request_timeout: float, slow_apply_seconds: float = 0.1
    ) -> None:
        self.max_request_bytes = max_request_bytes
        self.request_timeout = request_timeout
        self.apply_gap = 5000  # committed but unapplied entries beyond which proposals are refused
        self.waiting_bytes = 256 << 20  # proposals under way
        self.inbox_messages = 8192  # peers' messages; beyond it they are dropped
        self.propose_bytes = 1 << 20  # one Propose event
        self.slow_apply_seconds = slow_apply_seconds  # applying a batch for longer is worth a warning


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
        self.led_when_removed = False
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
        self._proposing = Proposing(member_id, self._applier, limits.propose_bytes)
        self._persister = Persister(storage, world.clock, self._on_durable)
        self._installing = Installing(world.clock, self._persister)
        self._now = world.clock.monotonic()
        self._latest = self._now + limits.request_timeout  # the deadline of what is asked now
        self._room = limits.max_request_bytes  # bytes a proposal may have now; -1: none is taken
        self._last_leader = 0  # the newest one known, even when it is lost
        self._leader_replaced_at = float("-inf")  # when another leader followed it
        self._stopped = False
        self._lease = state.config.read_only_lease
        self._ticked_until = self._now  # what the newest tick stands for, or earlier
        self._bed = Bed()
        # The mailbox, besides proposals and reads.
        self._tick_due = False
        self._durable: list[Durable] = []
        self._inbox: list[Message] = []
        self._events: list[Event] = []  # what drivers report
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
        if self._bed.task is not None:
            self._bed.wake()

    def happen(self, event: Event) -> None:
        """Let something that a driver saw happen to the core, e.g. a lost connection, with the next turn.

        A snapshot that has been received whole comes this way, too, as ``Receive(SnapshotRequest)``.
        """
        self._events.append(event)
        if self._bed.task is not None:
            self._bed.wake()

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
                nursery.start_soon(self._installing.run, self._install)
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
                await self._bed.sleep()
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
        if self.member_id in members.removed and not self.removed.is_set():
            self.led_when_removed = self.role == Role.LEADER
            self.removed.set()
        for listener in self.on_members:
            listener()

    def _idle(self) -> bool:
        return not (
            self._inbox
            or self._durable
            or self._tick_due
            or self._events
            or (self.leader_id and self._proposing.ready)
            or (self._reads.has_waiting and self.leader_id)
            or self._applier.has_work
        )

    def _turn(self) -> None:
        if self._lease and self.role == Role.LEADER:
            self._tick_by_clock()
        elif self._tick_due:
            self._ticked_until = self._world.clock.monotonic()
            self._step(Tick())
            self._sweep()
        self._tick_due = False
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
                if type(event) is Receive and not self._installing.wanted and self.snapshots is not None:
                    self.snapshots.forget()  # a snapshot that Raft does not want
        if self.leader_id and self._proposing.ready:
            for event in self._proposing.take():
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
            began = self._world.clock.monotonic()
            entries = applier.apply_chunk()
            took = self._world.clock.monotonic() - began
            if took > self.limits.slow_apply_seconds:
                self._warn_of_slow_apply(entries, took)
            refused, applier.refused = tuple(applier.refused), []
            if self.machine.members.version != self._members_version:
                self._note_members()
            self._step(Applied(applier.applied_index, refused))
            if self._send:
                self._send_now()
        # Also when nothing could be applied: the own disk may be behind a majority without it.
        behind = self._state.commit_index > applier.applied_index + self.limits.apply_gap
        self._room = -1 if behind or self.is_learner else self.limits.max_request_bytes
        if self._soft_state is not None:
            self._tell_soft_state()
        self._reads.release(applier.applied_index)
        self.flush()

    def _warn_of_slow_apply(self, entries: int, took: float) -> None:
        self._world.probe.count("etcd_server_slow_apply_total")
        self._world.probe.log(
            "warn", "apply request took too long", took=f"{took * 1000:.3f}ms", entries=entries,
            expected_duration=f"{self.limits.slow_apply_seconds * 1000:g}ms",
        )  # fmt: skip

    def _alone(self) -> bool:
        """One entry to write at most, and nobody else waits: a sync in place delays no one."""
        return (
            self._persister.owed_entries <= 1
            and not self._inbox
            and not self._proposing.entries
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
        if effects.dropped or effects.dropped_conf_changes:
            self._take_back(effects)
        if effects.install is not None:
            self._applier.forget_queue()  # the snapshot stands for all of it
            self._installing.want(effects.install)

    def _take_back(self, effects: Effects) -> None:
        """What the core did not take waits for another try, unless too much waits already.

        One step takes or drops all its entries, so the rule that it names holds for all of them.
        """
        dropped = effects.dropped
        if any(refusal.rule == TOO_MUCH_WAITS for refusal in effects.refusals):
            self.failed_proposals += self._proposing.refuse(dropped, rpc_errors.TOO_MANY_REQUESTS)
            dropped = ()
        if dropped or effects.dropped_conf_changes:
            self._proposing.hold(dropped, effects.dropped_conf_changes, self._now)

    def _send_now(self) -> None:
        """Send what was gathered; what was to be forwarded and did not leave waits for the leader."""
        send, self._send = self._send, []
        if any(type(message) is SnapshotRequest for message in send):
            send = self._divert_snapshots(send)
        for message in self._outbox.send(send):
            if isinstance(message, ProposeRequest):
                changes = tuple(map(decode_conf_change, message.conf_changes))
                self._proposing.hold(message.entries, changes, self._now)
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

    async def _install(self, meta: SnapshotMeta) -> None:
        """Go on with the snapshot that was received: another log, another machine."""
        assert self.snapshots is not None
        state, before = self._state, self.machine.revision
        hard_state = HardState(state.current_term, state.voted_for, meta.index)
        self.machine = await self.snapshots.install(meta, hard_state)
        self._applier.replace(self.machine)
        self._note_members()
        for listener in self.on_installed:
            listener(before)
        self.happen(SnapshotInstalled(meta.index))

    def _send_when_durable(self, messages: tuple[Message, ...]) -> None:
        if not self._persister.after(messages):
            self._send += messages

    # The disk.

    def _on_durable(self, batch: Durable) -> None:
        self._durable.append(batch)
        if self._bed.task is not None:
            self._bed.wake()

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
            if now - due > self._tick_seconds and self.role == Role.LEADER:
                self._world.probe.count("etcd_server_heartbeat_send_failures_total")
            due += self._tick_seconds
            if due <= now:  # late by more than a tick: the missed ones are gone
                due = now + self._tick_seconds
            self._tick_due = True
            self._bed.wake()

    def _tick_by_clock(self) -> None:
        """A lease is counted in ticks: all whose time has come have to be there before a turn's reads.

        So neither a stopped process nor a loop that is always late counts slower than its clock runs. What
        exceeds an election timeout changes nothing any more. Who follows loses ticks, like everybody without
        leases: it may keep a promise for longer, never for less.
        """
        passed = (self._world.clock.monotonic() - self._ticked_until) / self._tick_seconds
        whole = int(passed + ROUNDING)
        if whole:
            self._ticked_until += whole * self._tick_seconds
            for _ in range(min(whole, self._state.config.election_ticks)):
                self._step(Tick())
            self._sweep()

    def _sweep(self) -> None:
        self._now = now = self._world.clock.monotonic()
        self._latest = now + self.limits.request_timeout
        error = self._why_late(now - self.limits.request_timeout)
        proposing = self._proposing
        if proposing.entries and not self.leader_id:
            self.failed_proposals += self._applier.give_up(
                proposing.sequences(), now, rpc_errors.NOT_PROPOSED
            )
        self.failed_proposals += self._applier.sweep(now, error)
        self._reads.sweep(now, error)
        proposing.sweep(now)

    def _why_late(self, began: float) -> RpcError:
        """What to tell who has waited since ``began``, as etcd does."""
        if self._leader_replaced_at > began:
            return rpc_errors.TIMEOUT_LEADER_FAIL
        if self.leader_id and not self._connected_since(began):
            return rpc_errors.TIMEOUT_CONNECTION_LOST
        return rpc_errors.TIMEOUT

    def _connected_since(self, moment: float) -> bool:
        """Whether our connections to whom a proposal needs, the leader or its quorum, are as old as that."""

        def whole(member_id: int) -> bool:
            since = self._outbox.connected_since(member_id)
            return member_id == self.member_id or (since is not None and since <= moment)

        if self.role != Role.LEADER:
            return whole(self.leader_id)
        configuration = self._state.configuration
        return bool(reached(configuration, [whole(member) for member in configuration.members]))

    def _note_soft_state(self, soft_state: SoftState) -> None:
        if soft_state.leader_id != self.leader_id:
            if soft_state.leader_id:
                if self._last_leader:
                    self._leader_replaced_at = self._now
                self._last_leader = soft_state.leader_id
                self.leader_changes += 1
            self._reads.leader_changed()
            self._proposing.held = False
        self.role = soft_state.role
        self.leader_id = soft_state.leader_id
        self.term = soft_state.current_term
        self._soft_state = soft_state

    def _tell_soft_state(self) -> None:
        soft_state, self._soft_state = self._soft_state, None
        assert soft_state is not None
        for listener in self.on_soft_state:
            listener(soft_state)
