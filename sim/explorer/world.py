"""One run of the explored world: the pure core of every node under one heap of events.

No drivers, no codec, no coroutines: an event is a tuple in a heap, ordered by virtual time and then by the
order in which it was put there. Everything that is not the quiet course comes from ``Choices``. After
every step the invariants of ``sim.invariants`` are checked; ``finale`` says what must happen at the end.

Times are even numbers of microseconds for everything that follows from something else, and odd ones for
acts, so that an act never ties with another event and leaving one out does not reorder the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Protocol

from tercet.core.errors import Corruption
from tercet.core.raft import (
    NO_EFFECTS,
    AppendReply,
    Applied,
    ConfChange,
    Config,
    Effects,
    Entry,
    Event,
    Message,
    Persisted,
    Propose,
    ProposeConfChange,
    RaftState,
    ReadIndex,
    Receive,
    Role,
    SnapshotInstalled,
    SnapshotReady,
    SnapshotRequest,
    SnapshotSent,
    Tick,
    TransferLeader,
    TransitionKind,
    Unreachable,
    VoteReply,
    restart,
    snapshot_meta,
    step,
)

from ..invariants import Invariants, Violation
from .choices import Choices
from .configurations import Configurations
from .disk import Disk
from .finale import finish
from .links import Links
from .schedule import Act, Deviation, Settings, unpack_changes

__all__ = ["TICK_US", "Node", "Recorder", "World"]

TICK_US = 100_000
_MASK = (1 << 64) - 1
_TICK, _DELIVER, _WRITTEN, _APPLIED, _RESTART, _POWER_CUT, _ANSWER, _ACT, _END = range(9)
_TRANSFER_FACTOR = 5  # a snapshot takes so many times the latency of a message
_MIX = 0x9E3779B97F4A7C15
_SPECIAL = (AppendReply, VoteReply, SnapshotRequest)  # messages that are more than passed on
_TICKED = Tick()


class Recorder(Protocol):
    """Told everything that happens; must not change anything."""

    def step(self, now_us: int, event: Event | None, effects: Effects, state: RaftState) -> None:
        """A step that led to ``state``; ``event`` None: a life begins."""

    def note(self, now_us: int, deviation: Deviation) -> None:
        """A deviation bites now."""


class Node:
    """One node: its core while it is up, its disk always."""

    __slots__ = (
        "applied", "apply_end", "digest_added", "digest_mixed", "disk", "life", "node_id", "paused_until",
        "state", "tick_us",
    )

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.state: RaftState | None = None
        self.disk = Disk()
        self.life = 0  # counts restarts: what an earlier life scheduled is void
        self.applied = 0
        self.apply_end = 0  # when the last application under way ends
        self.paused_until = 0
        self.tick_us = TICK_US
        self.digest_mixed = self.digest_added = 0  # what is visible of ``state``, for the world's digest

    def show(self, state: RaftState) -> None:
        """What is visible of the node is now that of ``state``."""
        self.digest_mixed = (self.node_id << 52) + (state.log.last_index << 32)
        self.digest_added = state.current_term + (state.commit_index << 20) + (state.role << 56)


class World:
    """The nodes, the heap and the clock of one run; ``run`` raises ``Violation`` or returns."""

    def __init__(self, settings: Settings, choices: Choices, recorder: Recorder | None = None) -> None:
        self.settings = settings
        self.choices = choices
        self.recorder = recorder
        self.invariants = Invariants()
        self._voters = () if settings.voters else tuple(range(1, settings.nodes + 1))
        self.configurations = Configurations(self._voters, self.invariants.committed)
        self.now = 0
        self.steps = 0
        self.digest = settings.seed & _MASK
        self.nodes = [Node(node_id) for node_id in range(settings.nodes + 1)]  # position 0 is unused
        self._heap: list[tuple[int, int, int, int, Any]] = []
        self._place = count(1).__next__  # among the events of one moment
        self.links = Links()
        self._leader = 0  # the newest leader elected
        self._proposals = 0
        self._reads = 0
        self.faults = True
        self.bridged = False  # links are cut although faults have ended

    # --- the run ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end: the phase with faults, then the finale.

        Raises:
            Violation: a property does not hold; the world stays as it was at that moment.
        """
        drift = self.settings.drift_permille
        for node in self.nodes[1:]:
            off = (node.node_id * 7919 + self.settings.seed) % (2 * drift + 1) - drift
            node.tick_us = TICK_US * (1000 + off) // 2000 * 2
            if node.node_id <= self.settings.voters:
                node.disk.bootstrap(self.settings.voters)
            self.start(node)
            self._push(node.node_id * 14_000, _TICK, node.node_id, _TICKED)
        self._next_act()
        self.until(self.settings.duration_us)
        finish(self)

    def lose_under_way(self, which: Callable[[Event], bool]) -> None:
        """Messages that have not arrived yet are lost, however late they were meant to come."""
        self._heap[:] = [event for event in self._heap if event[2] != _DELIVER or not which(event[4])]
        heapify(self._heap)

    def until(self, end: int) -> None:
        """Let everything happen that is due before ``end``."""
        heap, nodes, place = self._heap, self.nodes, self._place
        heappush(heap, (end, -1, _END, 0, None))
        while True:
            now, _, kind, node_id, load = heappop(heap)
            self.now = now
            node = nodes[node_id]
            if kind == _TICK:
                heappush(heap, (now + node.tick_us, place(), _TICK, node_id, _TICKED))
            if node.paused_until > now and kind < _ANSWER:
                if kind != _TICK:
                    self._push(node.paused_until, kind, node_id, load)
            elif kind <= _DELIVER:
                if node.state is not None:
                    self.step(node, load)
            elif kind == _END:
                return
            else:
                self._dispatch(kind, node, load)

    def _dispatch(self, kind: int, node: Node, load: Any) -> None:
        """Let anything else happen than a tick or a delivery."""
        if kind == _WRITTEN:
            if load == node.life and node.state is not None:
                self._written(node)
        elif kind == _APPLIED:
            life, index = load
            if life == node.life:
                self._applied(node, index)
        elif kind == _RESTART:
            if load == node.life:
                self.start(node)
        elif kind == _POWER_CUT:
            life, deviation = load
            if life == node.life and self.faults:
                self._crash(node, deviation)
        elif self.faults:
            if kind == _ACT:
                self._next_act()
            self._act(load)

    def _push(self, at: int, kind: int, node_id: int, load: Any) -> None:
        heappush(self._heap, (at, self._place(), kind, node_id, load))

    # --- one step and its duties -----------------------------------------------------------------------

    def step(self, node: Node, event: Event) -> None:
        """Let ``event`` happen to a node that is up, and begin what it owes for it."""
        before = node.state
        assert before is not None
        self.steps += 1
        try:
            after, effects = step(before, event)
        except Exception as error:  # whatever the core raises is a finding, not a failure of ours
            raise _finding(node.node_id, event, error) from error
        node.state = after
        changed = (
            after.log is not before.log
            or after.commit_index != before.commit_index
            or after.current_term != before.current_term
            or after.role != before.role
        )
        if changed:
            node.show(after)
        self.digest = ((self.digest ^ (self.now + node.digest_mixed)) * _MIX + node.digest_added) & _MASK
        if self.recorder is not None:
            self.recorder.step(self.now, event, effects, after)
        if effects is not NO_EFFECTS:
            self.invariants.observe(node.node_id, after, effects)
            self._do(node, effects)
        elif changed or after.leadership is not before.leadership:  # else there is nothing new to check
            self.invariants.observe(node.node_id, after, effects)

    def _do(self, node: Node, effects: Effects) -> None:
        if effects.send:
            self._send(node.node_id, effects.send)
        if effects.send_after_persist or effects.hard_state is not None or effects.install is not None:
            if node.disk.add(effects):
                self._begin_write(node)
            else:
                self._send(node.node_id, effects.send_after_persist)
        if effects.committed:
            self._apply(node, effects.committed[-1])
        for read in effects.reads:
            self.invariants.read_confirmed(node.node_id, read.context, read.read_index)
        if effects.soft_state is not None and effects.soft_state.role == Role.LEADER:
            self._leader = node.node_id
            if self.faults:
                for answer in self.choices.elected(self.now, node.node_id):
                    heappush(self._heap, (answer.at, 0, _ANSWER, 0, answer))

    def _begin_write(self, node: Node) -> None:
        state = node.state
        assert state is not None
        if not node.disk.begin(state.current_term):
            return
        latency = self.settings.write_us
        if self.faults:
            deviation = self.choices.write(node.node_id, self.now)
            if deviation is not None:
                self.note(deviation)
                if deviation.act == Act.CRASH_WRITE:
                    half = latency // 4 * 2
                    self._push(self.now + half, _POWER_CUT, node.node_id, (node.life, deviation))
                else:
                    latency = deviation.amount
        self._push(self.now + latency, _WRITTEN, node.node_id, node.life)

    def _written(self, node: Node) -> None:
        batch = node.disk.complete()
        self._send(node.node_id, batch.messages)
        self._begin_write(node)
        for _, entries, install in reversed(batch.steps):
            if install is not None:
                node.applied = max(node.applied, install.index)
                self.step(node, SnapshotInstalled(install.index))
                break
            if entries:
                self.step(node, Persisted(entries[-1].index, entries[-1].term, batch.under))
                break

    def _apply(self, node: Node, last: Entry) -> None:
        if node.disk.term_at(last.index) != last.term:
            raise Violation("applied before durable", f"node {node.node_id} may apply entry {last.index}")
        latency = self.settings.apply_us
        if self.faults:
            nth = self.links.begin(node.node_id * 16, self.now)
            deviation = self.choices.apply(node.node_id, self.now, nth)
            if deviation is not None:
                self.note(deviation)
                latency = deviation.amount
        node.apply_end = max(node.apply_end, self.now) + latency
        self._push(node.apply_end, _APPLIED, node.node_id, (node.life, last.index))

    def _applied(self, node: Node, index: int) -> None:
        """The state machine has got so far; now and then it is made durable and the log cut."""
        state = node.state
        assert state is not None
        if state.installing is not None or index <= state.applied_index:
            return
        node.applied = index
        self.step(node, Applied(index))
        state = node.state
        assert state is not None
        every = self.settings.snapshot_every
        newest = 0 if state.snapshot is None else state.snapshot.index
        if not every or index - newest < every or state.installing is not None:
            return
        meta = snapshot_meta(state)
        release = max(state.log.base_index, meta.index - self.settings.snapshot_keep)
        node.disk.save(meta, min(release, node.disk.last_index))
        self.step(node, SnapshotReady(meta, release))

    def _send_snapshot(self, message: SnapshotRequest) -> None:
        """A connection of its own carries the snapshot; both ends learn how it ended."""
        link = message.sender * 16 + message.to
        took = self.settings.latency_us * _TRANSFER_FACTOR
        lost = False
        if self.faults:
            nth = self.links.begin(link, self.now)
            if self.choices.calm:
                self.choices.calm -= 1
                deviation = None
            else:
                deviation = self.choices.message(link, self.now, nth)
            if deviation is not None:
                self.note(deviation)
                lost = deviation.act == Act.DROP
                took += deviation.amount
            lost = lost or self.links.cut_until[link] > self.now + took // 2
        at = self.now + took
        to = self.nodes[message.to]
        lost = lost or to.state is None
        if not lost:
            self._push(at, _DELIVER, message.to, Receive(message))
        self._push(at, _DELIVER, message.sender, SnapshotSent(message.to, not lost))

    # --- the network -----------------------------------------------------------------------------------

    def _send(self, node_id: int, messages: Sequence[Message]) -> None:
        now, links, choices = self.now, self.links, self.choices
        arrival = now + self.settings.latency_us
        cut_until, slower = links.cut_until, links.slower
        faults, begun = self.faults, links.begun(now)
        heap, place = self._heap, self._place
        for message in messages:
            to = message.to
            if type(message) in _SPECIAL:
                if type(message) is SnapshotRequest:
                    self._send_snapshot(message)
                    continue
                if self.settings.strict:
                    self._check_promise(self.nodes[node_id], message)
            link = node_id * 16 + to
            if faults:
                begun.append(link)
                if choices.calm:
                    choices.calm -= 1
                    deviation = None
                else:
                    deviation = choices.message(link, now, begun.count(link) - 1)
                if cut_until[link] > now:
                    continue
                if deviation is not None:
                    self.note(deviation)
                    if deviation.act == Act.DROP:
                        continue
                    self._push(now + deviation.amount, _DELIVER, to, Receive(message))
                    if deviation.act == Act.DELAY:
                        continue
            elif self.bridged and cut_until[link] > now:
                continue
            heappush(heap, (arrival + slower[to], place(), _DELIVER, to, Receive(message)))

    def _check_promise(self, node: Node, message: Message) -> None:
        """A vote or an acknowledgement leaves: what it promises must be on the disk."""
        disk = node.disk
        durable = disk.hard_state
        if type(message) is VoteReply and message.vote_granted and not message.pre_vote:
            kept = durable.current_term > message.term or (
                durable.current_term == message.term and durable.voted_for == message.to
            )
        elif type(message) is AppendReply and message.success:
            kept = durable.current_term > message.term or (
                durable.current_term == message.term and _is_durable(node, message)
            )
        else:
            return
        if not kept:
            held = f"{durable} and a log up to {disk.last_index}"
            raise Violation("promise before disk", f"{message} with {held} on disk")

    # --- acts ------------------------------------------------------------------------------------------

    def _next_act(self) -> None:
        deviation = self.choices.next_act(self.now, self._leader)
        if deviation is not None:
            heappush(self._heap, (deviation.at, 0, _ACT, 0, deviation))

    def _act(self, deviation: Deviation) -> None:
        self.note(deviation)
        act = deviation.act
        if act == Act.PARTITION:
            self.links.cut(deviation, self.now, len(self.nodes))
            return
        node = self.nodes[deviation.node]
        if act == Act.PRIORITY:
            self.links.slower[deviation.node] = deviation.amount
        elif act == Act.STALL:
            node.apply_end = max(node.apply_end, self.now - 1 + deviation.amount)
        elif act == Act.WIPE:
            self._wipe(node, deviation)
        elif act == Act.PAUSE:
            node.paused_until = max(node.paused_until, self.now - 1 + deviation.amount)
        elif act == Act.CRASH:
            self._crash(node, deviation)
        elif node.state is None or node.paused_until > self.now:
            return
        elif act == Act.PROPOSE:
            first, count = self._proposals + 1, max(1, deviation.amount)
            self._proposals += count
            self.step(node, Propose(tuple([b"%d" % number for number in range(first, first + count)])))
        elif act == Act.CHANGE:
            change = ConfChange(unpack_changes(deviation.amount), TransitionKind(deviation.extra))
            self.step(node, ProposeConfChange(change))
        elif act == Act.TRANSFER:
            self.step(node, TransferLeader(deviation.amount))
        elif act == Act.READ:
            self._read(node)
        elif act == Act.HURRY:
            self._hurry(node, deviation.amount)
            other = self.nodes[deviation.extra]
            if other is not node and other.state is not None and other.paused_until <= self.now:
                self._hurry(other, deviation.amount)

    def note(self, deviation: Deviation) -> None:
        """Tell the recorder that a deviation bites."""
        if self.recorder is not None:
            self.recorder.note(self.now, deviation)

    def _hurry(self, node: Node, ticks: int) -> None:
        for _ in range(ticks):
            self.step(node, _TICKED)

    def _read(self, node: Node) -> None:
        self._reads += 1
        self.invariants.read_asked(node.node_id, self._reads)
        self.step(node, ReadIndex(self._reads))

    def _crash(self, node: Node, deviation: Deviation) -> None:
        if node.state is not None:
            self.stop(node, deviation.extra)
            self._push((self.now | 1) - 1 + deviation.amount, _RESTART, node.node_id, node.life)

    def _wipe(self, node: Node, deviation: Deviation) -> None:
        """Give a node an empty disk; refused unless nobody counts with it and it never promised a vote."""
        node_id = node.node_id
        if self.configurations.has_voted(node_id) or self.configurations.is_member(node_id):
            return
        if any(other.state is not None and node_id in _counted_by(other.state) for other in self.nodes[1:]):
            return
        self.stop(node, 0)
        node.disk = Disk()
        node.applied = 0
        self._push((self.now | 1) - 1 + deviation.amount, _RESTART, node.node_id, node.life)

    def stop(self, node: Node, extra: int) -> None:
        """End a life of ``node``; ``extra`` as for CRASH."""
        if node.state is not None:
            for other in self.nodes[1:]:
                if other is not node:
                    self._push(self.now // 2 * 2 + self.settings.latency_us, _DELIVER, other.node_id,
                               Unreachable(node.node_id))
        node.state = None
        node.life += 1
        node.disk.crash(extra % 3)
        if extra < 3:  # the state machine was in memory; else it is as durable as the log
            node.applied = 0 if node.disk.snapshot is None else node.disk.snapshot.index

    def start(self, node: Node) -> None:
        """Begin a life of ``node`` from its disk."""
        settings = self.settings
        config = Config(
            node_id=node.node_id,
            voters=self._voters,
            seed=settings.seed,
            election_ticks=settings.election_ticks,
            pre_vote=settings.pre_vote,
            check_quorum=settings.check_quorum,
            max_append_entries=settings.max_append_entries,
            max_inflight_appends=settings.max_inflight_appends,
            max_inflight_bytes=settings.max_inflight_bytes,
            max_uncommitted_bytes=settings.max_uncommitted_bytes,
            read_only_lease=settings.lease,
        )
        disk = node.disk
        try:
            node.state = restart(
                config, disk.hard_state, tuple(disk.entries), node.applied, disk.snapshot,
                base_term=disk.base_term,
            )
        except ValueError as error:
            raise Violation("lost on disk", f"node {node.node_id} cannot start: {error}") from error
        node.apply_end = self.now
        node.show(node.state)
        self.invariants.restarted(node.node_id, node.state)
        if self.recorder is not None:
            self.recorder.step(self.now, None, NO_EFFECTS, node.state)


def _is_durable(node: Node, reply: AppendReply) -> bool:
    """Whether the disk holds what a node acknowledges: not some log of that length, but that very one."""
    disk, state, index = node.disk, node.state, reply.match_index
    if state is None or state.current_term != reply.term or index < state.log.base_index:
        return disk.last_index >= index  # the log in memory is not the one of the acknowledgement any more
    return index <= disk.base_index or disk.term_at(index) == state.log.term_at(index)


def _counted_by(state: RaftState) -> tuple[int, ...]:
    """The members a node counts with as long as it may lead."""
    return state.configuration.members if state.leadership is not None else ()


def _finding(node_id: int, event: Event, error: Exception) -> Violation:
    rule = "corruption" if isinstance(error, Corruption) else "core failed"
    return Violation(rule, f"node {node_id} at {event}: {type(error).__name__}: {error}")
