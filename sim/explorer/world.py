"""One run of the explored world: the pure core of every node under one heap of events.

No drivers, no codec, no coroutines: an event is a tuple in a heap, ordered by virtual time and then by the
order in which it was put there. Everything that is not the quiet course comes from ``Choices``. After
every step the invariants of ``sim.invariants`` are checked; at the end faults stop and a majority, chosen
at random, must elect a leader and commit by itself.

Times are even numbers of microseconds for everything that follows from something else, and odd ones for
acts, so that an act never ties with another event and leaving one out does not reorder the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

import msgspec

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
from .schedule import Act, Deviation, Settings, unpack_changes

__all__ = ["TICK_US", "Node", "Recorder", "World"]

TICK_US = 100_000
_LIVENESS_US = 30_000_000  # a majority alone must commit within this time
_FINAL_PROPOSALS_US = 400_000
_SETTLE_US = 1_000_000  # after the last commit, before one follower is cut off from the leader
_BRIDGE_US = 4_000_000  # for so long: longer than any election timeout
_MASK = (1 << 64) - 1
_TICK, _DELIVER, _WRITTEN, _APPLIED, _RESTART, _POWER_CUT, _ANSWER, _ACT = range(8)
_TRANSFER_FACTOR = 5  # a snapshot takes so many times the latency of a message
_MIX = 0x9E3779B97F4A7C15
_PROMISES = (AppendReply, VoteReply)
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
        "applied", "apply_end", "disk", "life", "node_id", "paused_until", "state", "tick_us"
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
        self._sequence = 0
        self._begun_at = [-1] * 256  # by link (to 0: applications): when the last one began
        self._begun = [0] * 256  # how many have begun just then, but for the last
        self._cut_until = [0] * 256  # by link
        self._slower = [0] * 16  # by receiver: how much longer messages to it take
        self._leader = 0  # the newest leader elected
        self._proposals = 0
        self._reads = 0
        self._faults = True
        self._bridged = False  # links are cut although faults have ended

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
            self._start(node)
            self._push(node.node_id * 14_000, _TICK, node.node_id, 0)
        self._next_act()
        self._until(self.settings.duration_us)
        self._finale()

    def _until(self, end: int) -> None:
        heap = self._heap
        while heap and heap[0][0] < end:
            now, _, kind, node_id, load = heappop(heap)
            self.now = now
            self._dispatch(kind, self.nodes[node_id], load)
        self.now = end

    def _dispatch(self, kind: int, node: Node, load: Any) -> None:
        if node.paused_until > self.now and kind < _ANSWER:
            if kind == _TICK:
                self._push(self.now + node.tick_us, _TICK, node.node_id, 0)
            else:
                self._push(node.paused_until, kind, node.node_id, load)
        elif kind == _TICK:
            self._push(self.now + node.tick_us, _TICK, node.node_id, 0)
            if node.state is not None:
                self._step(node, _TICKED)
        elif kind == _DELIVER:
            if node.state is not None:
                self._step(node, load)
        elif kind == _WRITTEN:
            if load == node.life and node.state is not None:
                self._written(node)
        elif kind == _APPLIED:
            life, index = load
            if life == node.life:
                self._applied(node, index)
        elif kind == _RESTART:
            if load == node.life:
                self._start(node)
        elif kind == _POWER_CUT:
            life, deviation = load
            if life == node.life and self._faults:
                self._crash(node, deviation)
        elif self._faults:
            if kind == _ACT:
                self._next_act()
            self._act(load)

    def _push(self, at: int, kind: int, node_id: int, load: Any) -> None:
        self._sequence += 1
        heappush(self._heap, (at, self._sequence, kind, node_id, load))

    # --- one step and its duties -----------------------------------------------------------------------

    def _step(self, node: Node, event: Event) -> None:
        before = node.state
        assert before is not None
        node_id = node.node_id
        self.steps += 1
        try:
            after, effects = step(before, event)
        except Exception as error:  # whatever the core raises is a finding, not a failure of ours
            raise _finding(node_id, event, error) from error
        node.state = after
        self.digest = (
            (self.digest ^ (self.now + (node_id << 52) + (after.log.last_index << 32))) * _MIX
            + after.current_term
            + (after.commit_index << 20)
            + (after.role << 56)
        ) & _MASK
        if self.recorder is not None:
            self.recorder.step(self.now, event, effects, after)
        self.invariants.observe(node_id, after, effects)
        if effects is not NO_EFFECTS:
            self._do(node, effects)

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
            if self._faults:
                for answer in self.choices.elected(self.now, node.node_id):
                    heappush(self._heap, (answer.at, 0, _ANSWER, 0, answer))

    def _begin_write(self, node: Node) -> None:
        state = node.state
        assert state is not None
        if not node.disk.begin(state.current_term):
            return
        latency = self.settings.write_us
        if self._faults:
            deviation = self.choices.write(node.node_id, self.now)
            if deviation is not None:
                self._note(deviation)
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
                self._step(node, SnapshotInstalled(install.index))
                break
            if entries:
                self._step(node, Persisted(entries[-1].index, entries[-1].term, batch.under))
                break

    def _apply(self, node: Node, last: Entry) -> None:
        if node.disk.term_at(last.index) != last.term:
            raise Violation("applied before durable", f"node {node.node_id} may apply entry {last.index}")
        latency = self.settings.apply_us
        if self._faults:
            deviation = self.choices.apply(node.node_id, self.now, self._nth(node.node_id * 16))
            if deviation is not None:
                self._note(deviation)
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
        self._step(node, Applied(index))
        state = node.state
        assert state is not None
        every = self.settings.snapshot_every
        newest = 0 if state.snapshot is None else state.snapshot.index
        if not every or index - newest < every or state.installing is not None:
            return
        meta = snapshot_meta(state)
        release = max(state.log.base_index, meta.index - self.settings.snapshot_keep)
        node.disk.save(meta, min(release, node.disk.last_index))
        self._step(node, SnapshotReady(meta, release))

    def _send_snapshot(self, message: SnapshotRequest) -> None:
        """A connection of its own carries the snapshot; both ends learn how it ended."""
        link = message.sender * 16 + message.to
        nth = self._nth(link)
        took = self.settings.latency_us * _TRANSFER_FACTOR
        lost = False
        if self._faults:
            deviation = self.choices.message(link, self.now, nth)
            if deviation is not None:
                self._note(deviation)
                lost = deviation.act == Act.DROP
                took += deviation.amount
            lost = lost or self._cut_until[link] > self.now + took // 2
        at = self.now + took
        to = self.nodes[message.to]
        lost = lost or to.state is None
        if not lost:
            self._push(at, _DELIVER, message.to, Receive(message))
        self._push(at, _DELIVER, message.sender, SnapshotSent(message.to, not lost))

    # --- the network -----------------------------------------------------------------------------------

    def _send(self, node_id: int, messages: Sequence[Message]) -> None:
        arrival = self.now + self.settings.latency_us
        strict = self.settings.strict
        for message in messages:
            if strict and type(message) in _PROMISES:
                self._check_promise(self.nodes[node_id].disk, message)
            to = message.to
            if type(message) is SnapshotRequest:
                self._send_snapshot(message)
                continue
            link = node_id * 16 + to
            load = Receive(message)
            if self._faults:
                deviation = self.choices.message(link, self.now, self._nth(link))
                if self._cut_until[link] > self.now:
                    continue
                if deviation is not None:
                    self._note(deviation)
                    if deviation.act == Act.DROP:
                        continue
                    self._push(self.now + deviation.amount, _DELIVER, to, load)
                    if deviation.act == Act.DELAY:
                        continue
            elif self._bridged and self._cut_until[link] > self.now:
                continue
            self._sequence += 1
            heappush(self._heap, (arrival + self._slower[to], self._sequence, _DELIVER, to, load))

    def _nth(self, link: int) -> int:
        """How many have begun at this very moment on this link."""
        if self._begun_at[link] == self.now:
            self._begun[link] += 1
        else:
            self._begun_at[link] = self.now
            self._begun[link] = 0
        return self._begun[link]

    def _check_promise(self, disk: Disk, message: Message) -> None:
        """A vote or an acknowledgement leaves: what it promises must be on the disk."""
        durable = disk.hard_state
        if type(message) is VoteReply and message.vote_granted and not message.pre_vote:
            kept = durable.current_term > message.term or (
                durable.current_term == message.term and durable.voted_for == message.to
            )
        elif type(message) is AppendReply and message.success:
            kept = durable.current_term > message.term or (
                durable.current_term == message.term and disk.last_index >= message.match_index
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
        self._note(deviation)
        act = deviation.act
        if act == Act.PARTITION:
            self._cut(deviation)
            return
        node = self.nodes[deviation.node]
        if act == Act.PRIORITY:
            self._slower[deviation.node] = deviation.amount
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
            self._step(node, Propose(tuple([b"%d" % number for number in range(first, first + count)])))
        elif act == Act.CHANGE:
            change = ConfChange(unpack_changes(deviation.amount), TransitionKind(deviation.extra))
            self._step(node, ProposeConfChange(change))
        elif act == Act.TRANSFER:
            self._step(node, TransferLeader(deviation.amount))
        elif act == Act.READ:
            self._read(node)
        elif act == Act.HURRY:
            self._hurry(node, deviation.amount)
            other = self.nodes[deviation.extra]
            if other is not node and other.state is not None and other.paused_until <= self.now:
                self._hurry(other, deviation.amount)

    def _note(self, deviation: Deviation) -> None:
        if self.recorder is not None:
            self.recorder.note(self.now, deviation)

    def _hurry(self, node: Node, ticks: int) -> None:
        for _ in range(ticks):
            self._step(node, _TICKED)

    def _read(self, node: Node) -> None:
        self._reads += 1
        self.invariants.read_asked(node.node_id, self._reads)
        self._step(node, ReadIndex(self._reads))

    def _cut(self, deviation: Deviation) -> None:
        end = self.now + deviation.amount
        mask, way = deviation.node, deviation.extra
        for one in range(1, len(self.nodes)):
            if not mask >> one & 1:
                continue
            for other in range(1, len(self.nodes)):
                if mask >> other & 1:
                    continue
                for cut, link in ((way != 2, one * 16 + other), (way != 1, other * 16 + one)):
                    if cut and self._cut_until[link] < end:
                        self._cut_until[link] = end

    def _crash(self, node: Node, deviation: Deviation) -> None:
        if node.state is not None:
            self._stop(node, deviation.extra)
            self._push((self.now | 1) - 1 + deviation.amount, _RESTART, node.node_id, node.life)

    def _wipe(self, node: Node, deviation: Deviation) -> None:
        """Give a node an empty disk; refused unless nobody counts with it and it never promised a vote."""
        node_id = node.node_id
        if self.configurations.has_voted(node_id) or self.configurations.is_member(node_id):
            return
        if any(other.state is not None and node_id in _counted_by(other.state) for other in self.nodes[1:]):
            return
        self._stop(node, 0)
        node.disk = Disk()
        node.applied = 0
        self._push((self.now | 1) - 1 + deviation.amount, _RESTART, node.node_id, node.life)

    def _stop(self, node: Node, extra: int) -> None:
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

    def _start(self, node: Node) -> None:
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
        self.invariants.restarted(node.node_id, node.state)
        if self.recorder is not None:
            self.recorder.step(self.now, None, NO_EFFECTS, node.state)

    # --- liveness --------------------------------------------------------------------------------------

    def _finale(self) -> None:
        """Faults end and only a majority goes on: within a bound it must commit something new."""
        finale = self.choices.finale(self.now)
        states = [(node.disk, node.state) for node in self.nodes[1:]]
        mask = self.configurations.able(finale.node, states, self.settings.nodes)
        self._note(msgspec.structs.replace(finale, node=mask))
        self._faults = False
        self._cut_until = [0] * len(self._cut_until)
        self._slower = [0] * len(self._slower)
        chosen = [node for node in self.nodes[1:] if mask >> node.node_id & 1]
        for node in self.nodes[1:]:
            node.paused_until = 0
            if node not in chosen:
                self._stop(node, 1)
            elif node.state is None:
                node.life += 1
                self._start(node)
        self._commit_something(chosen)
        self._catch_up(chosen)
        if finale.extra:
            self._bridge(chosen)

    def _commit_something(self, chosen: list[Node]) -> None:
        base = len(self.invariants.committed)
        end = self.now + _LIVENESS_US
        while not any(entry.data == b"final" for entry in self.invariants.committed[base:]):
            if self.now >= end:
                side = ", ".join(str(node.node_id) for node in chosen)
                waited = f"{_LIVENESS_US // 1000} ms"
                raise Violation("liveness", f"nodes {side} alone committed nothing in {waited}")
            for node in chosen:
                self._step(node, Propose((b"final",)))
            self._until(self.now + _FINAL_PROPOSALS_US)

    def _catch_up(self, chosen: list[Node]) -> None:
        """Every member among them must learn what has been committed."""
        goal = len(self.invariants.committed)
        end = self.now + _LIVENESS_US
        while True:
            behind = [node.node_id for node in chosen if self._is_behind(node, goal)]
            if not behind:
                return
            if self.now >= end:
                story = f"nodes {behind} have not learnt of entry {goal} in {_LIVENESS_US // 1000} ms"
                raise Violation("liveness", story)
            self._until(self.now + _FINAL_PROPOSALS_US)

    def _is_behind(self, node: Node, goal: int) -> bool:
        assert node.state is not None
        return node.state.commit_index < goal and self.configurations.is_member(node.node_id)

    def _bridge(self, chosen: list[Node]) -> None:
        """Cut one follower off from the leader alone: under pre-vote and check-quorum the leader stays.

        Source: Howard and Abraham 2020, "Raft does not guarantee liveness in the face of network faults".
        """
        self._until(self.now + _SETTLE_US)
        leaders = [node for node in chosen if node.state is not None and node.state.leadership is not None]
        leader = max(leaders, key=lambda node: node.state.current_term if node.state else 0, default=None)
        if leader is None or leader.state is None:
            return
        voters = [node.node_id for node in chosen if node.node_id in leader.state.configuration.voters]
        cut = next((node for node in voters if node != leader.node_id), 0)
        if not cut or not self.configurations.decides([node for node in voters if node != cut]):
            return
        term = leader.state.current_term
        for link in (cut * 16 + leader.node_id, leader.node_id * 16 + cut):
            self._cut_until[link] = self.now + _BRIDGE_US
        self._bridged = True
        self._until(self.now + _BRIDGE_US)
        if leader.state.leadership is None or leader.state.current_term != term:
            story = f"leader {leader.node_id} fell because node {cut} does not hear it, but all others do"
            raise Violation("stable leader", story)


def _counted_by(state: RaftState) -> tuple[int, ...]:
    """The members a node counts with as long as it may lead."""
    return state.configuration.members if state.leadership is not None else ()


def _finding(node_id: int, event: Event, error: Exception) -> Violation:
    rule = "corruption" if isinstance(error, Corruption) else "core failed"
    return Violation(rule, f"node {node_id} at {event}: {type(error).__name__}: {error}")
