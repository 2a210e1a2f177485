"""A trace as the player sees it: steps with what changed, and messages with where they were when.

Pure: a ``Trace`` in, plain values out. States come from replaying the trace through the core; a node that
the core does not repeat (``verify`` tells why) is followed by its recorded effects alone.

A message is matched with its arrival by its value; what never arrives is lost, or was still under way
when the trace ended. Messages that had to wait for the disk leave when the node's next write is done.
"""

from __future__ import annotations

import re
from collections import deque

import msgspec

from tercet.core.raft import (
    Message,
    Persisted,
    ProposeConfChange,
    RaftState,
    Receive,
    Role,
    SnapshotInstalled,
    SnapshotReady,
    SnapshotSent,
    Tick,
    TransferLeader,
    Unreachable,
    step,
)
from tercet.core.raft.types import Effects, HeartbeatReply, HeartbeatRequest
from tercet.core.trace import Note, Start, Step, Trace, verify

from .trace_text import consequences, entry_label, event_text, message_text, refusal_text

__all__ = ["Flight", "StepView", "View", "view_of"]

QUIET, CHATTER, NEWS, MILESTONE = 0, 1, 2, 3
VOTES, LEARNS, OUTSIDE = 0, 1, 2

#: What is known of a node: ``base`` is the last entry that its log leaves to a snapshot.
_FACTS = ("role", "term", "vote", "leader", "commit", "applied", "base", "seat", "joint")


class Flight(msgspec.Struct, frozen=True):
    """A message under way. ``sender`` and ``to`` are positions in the list of nodes, steps count from 0."""

    sender: int
    to: int
    left: int  # the step after which it was under way
    arrived: int  # the step that received it; -1: never
    kind: str  # vote, append, beat, read, propose; replies end with "+"
    text: str


class StepView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record. ``change`` holds what is new about its node, by the names in ``_Node.facts``."""

    time_ns: int
    node: int  # position in the list of nodes; -1: no node in particular
    kind: str  # tick, receive, propose, read, persisted, applied, start, or a note's kind
    weight: int  # 0 nothing visible, 1 messages only, 2 something changed, 3 role, term, fault or life
    title: str
    details: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()  # why something was refused or ignored: sentence, source
    change: dict[str, object] = {}
    flight: int = -1  # the message received
    mismatch: str = ""
    downs: tuple[int, ...] = ()  # nodes that went down


class View(msgspec.Struct, frozen=True):
    """Everything the player draws."""

    title: str
    facts: tuple[tuple[str, str], ...]
    nodes: tuple[tuple[str, str], ...]  # name and id in hexadecimal
    steps: tuple[StepView, ...]
    flights: tuple[Flight, ...]


class _Node:
    """One node while the trace is walked."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.state: RaftState | None = None
        self.synced = False  # ``state`` is what the node really had
        self.up = False
        self.known = dict.fromkeys(_FACTS, 0)
        self.last_index = 0
        self.clock = (0, 0)
        self.held: list[Message] = []  # waiting for the disk
        self.unsynced = False

    def facts(self, effects: Effects, event_is_applied: int) -> dict[str, int]:
        """What is true now, from the replayed state or else from the effects."""
        state = self.state
        if state is not None and self.synced:
            return {
                "role": int(state.role), "term": state.current_term, "vote": state.voted_for,
                "leader": state.leader_id, "commit": state.commit_index, "applied": state.applied_index,
                "base": state.log.base_index, "seat": _seat(state),
                "joint": int(bool(state.configuration.outgoing)),
            }  # fmt: skip
        now = dict(self.known)
        if effects.hard_state is not None:
            now["term"], now["vote"] = effects.hard_state.current_term, effects.hard_state.voted_for
            now["commit"] = max(now["commit"], effects.hard_state.commit_index)
        if effects.soft_state is not None:
            soft = effects.soft_state
            now["role"], now["leader"], now["term"] = int(soft.role), soft.leader_id, soft.current_term
        if effects.committed:
            now["commit"] = max(now["commit"], effects.committed[-1].index)
        if effects.install is not None:
            now["base"] = now["commit"] = effects.install.index
        now["applied"] = max(now["applied"], event_is_applied)
        return now


def _seat(state: RaftState) -> int:
    """VOTES, LEARNS or OUTSIDE: what the configuration makes of the node."""
    node, configuration = state.config.node_id, state.configuration
    if node in configuration.voters or node in configuration.outgoing:
        return VOTES
    return LEARNS if node in configuration.learners else OUTSIDE


def view_of(trace: Trace, *, title: str = "") -> View:
    """Everything the player needs to draw ``trace``."""
    return _Walk(trace).view(title)


class _Walk:
    """The state of going through a trace once."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.ids = sorted(trace.nodes, key=lambda node: _natural(trace.name_of(node)))
        self.nodes = {node: _Node(place) for place, node in enumerate(self.ids)}
        self.steps: list[StepView] = []
        self.flights: list[Flight] = []
        self.under_way: dict[bytes, deque[int]] = {}
        self.verification = verify(trace.records)
        self.mismatches = {found.position: found for found in self.verification.mismatches}
        self.falls = _falls(trace)
        self.faults: dict[str, None] = {}

    def view(self, title: str) -> View:
        for position, record in enumerate(self.trace.records):
            match record:
                case Note():
                    self.steps.append(self._note(position, record))
                case Start():
                    self.steps.append(self._start(position, record))
                case Step():
                    self.steps.append(self._step(position, record))
        names = tuple((self.trace.name_of(node), f"{node:x}") for node in self.ids)
        flights = tuple(self.flights)
        return View(title or self._title(), self._facts(), names, tuple(self.steps), flights)

    def _title(self) -> str:
        header = self.trace.header
        seed = "" if header.seed is None else f", seed {header.seed}"
        return f"{len(self.ids)} members, {header.world} world{seed}"

    def _facts(self) -> tuple[tuple[str, str], ...]:
        header, result = self.trace.header, self.verification
        rows = [("world", header.world)]
        if header.seed is not None:
            rows.append(("seed", str(header.seed)))
        rows += [("steps", str(sum(isinstance(record, Step) for record in self.trace.records)))]
        if result.mismatches:
            replay = f"differs from the shipped core at {len(result.mismatches)} place(s)"
        else:
            replay = f"all {result.steps} steps equal" if result.steps else "nothing to repeat"
        rows.append(("replay", replay))
        if header.program:
            rows.append(("recorded by", header.program))
        if header.comment:
            rows.append(("comment", header.comment))
        return tuple(rows)

    def _note(self, position: int, record: Note) -> StepView:
        fallen = [self.nodes[node] for node in self.falls.get(position, ())]
        for node in fallen:
            node.up = False
            node.held.clear()
        downs = tuple(node.place for node in fallen)
        over = record.kind == "heal" and record.text in self.faults
        self.faults[record.text] = None
        title = f"over: {record.text}" if over else record.text
        weight = NEWS if record.kind == "client" else MILESTONE
        place = self._place(record.node) if record.node or len(downs) != 1 else downs[0]
        return StepView(record.time_ns, place, record.kind, weight, title, downs=downs)

    def _start(self, position: int, record: Start) -> StepView:
        node = self.nodes[record.node]
        try:
            node.state = record.state()
            node.synced = position not in self.mismatches
        except ValueError:
            node.state, node.synced = None, False
        node.up, node.held, node.unsynced = True, [], False
        hard = record.hard_state
        node.known = {
            "role": 0, "term": hard.current_term, "vote": hard.voted_for, "leader": 0,
            "commit": hard.commit_index if node.state is None else node.state.commit_index,
            "applied": record.applied,
            "base": 0 if node.state is None else node.state.log.base_index,
            "seat": 0 if node.state is None else _seat(node.state),
            "joint": 0 if node.state is None else int(bool(node.state.configuration.outgoing)),
        }  # fmt: skip
        entries = record.entries if node.state is None else node.state.log.entries(
            node.state.log.base_index + 1, node.state.log.last_index
        )
        node.last_index = node.known["base"] + len(entries)
        change: dict[str, object] = {"up": True, **node.known, "cut": node.known["base"]}
        change["vote"], change["leader"] = self._place(hard.voted_for), -1
        change["add"] = [(entry.term, entry_label(entry, self.trace.name_of)) for entry in entries]
        self._clock(node, change)
        held = f"its disk holds {len(record.entries)} entries" if record.entries else "its disk is empty"
        details = (f"{held}, term {hard.current_term}",)
        mismatch = self._mismatch(position)
        return StepView(
            record.time_ns, node.place, "start", MILESTONE, "starts", details, (), change, mismatch=mismatch
        )

    def _step(self, position: int, record: Step) -> StepView:
        node = self.nodes[record.node]
        self._advance(node, position, record)
        event, effects = record.event, record.effects
        applied = getattr(event, "index", 0) if type(event).__name__ == "Applied" else 0
        now = node.facts(effects, applied)
        lines = consequences(effects, self.trace.name_of, node.known, now)
        refused = tuple([refusal_text(refusal, self.trace.name_of) for refusal in effects.refusals])
        change = self._change(node, effects, now)
        node.known = now
        flight = self._arrival(event.message) if isinstance(event, Receive) else -1
        sent = self._departures(node, record)
        weight = self._weight(record, change, sent, lines)
        if not node.up:  # a trace that begins in the middle of a life
            node.up = change["up"] = True
        self._clock(node, change)
        return StepView(
            record.time_ns, node.place, type(event).__name__.lower(), weight,
            self._headline(record, change), tuple(lines), refused, change, flight, self._mismatch(position),
        )  # fmt: skip

    def _headline(self, record: Step, change: dict[str, object]) -> str:
        if isinstance(record.event, Tick) and change.get("role") in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            return "its election clock runs out"
        return event_text(record.event, self.trace.name_of)

    def _advance(self, node: _Node, position: int, record: Step) -> None:
        if position in self.mismatches or not node.synced or node.state is None:
            node.synced = False
            return
        node.state = step(node.state, record.event).state

    def _mismatch(self, position: int) -> str:
        found = self.mismatches.get(position)
        return "" if found is None else f"{found.what}: {found.text}"

    def _change(self, node: _Node, effects: Effects, now: dict[str, int]) -> dict[str, object]:
        change: dict[str, object] = {name: value for name, value in now.items() if value != node.known[name]}
        for name in ("vote", "leader"):
            if name in change:
                change[name] = self._place(now[name])
        if effects.install is not None:
            change["cut"] = effects.install.index
        if effects.entries:
            change["cut"] = effects.entries[0].index - 1
            name_of = self.trace.name_of
            change["add"] = [(entry.term, entry_label(entry, name_of)) for entry in effects.entries]
            node.last_index = effects.entries[-1].index
        return change

    def _place(self, node: int) -> int:
        return self.nodes[node].place if node in self.nodes else -1

    def _clock(self, node: _Node, change: dict[str, object]) -> None:
        """The election clock: ticks since a leader was heard, and how many start a campaign."""
        state = node.state
        if state is not None and node.synced:
            leads = state.role == Role.LEADER
            clock = (0, 0) if leads else (state.election_elapsed, state.election_timeout)
            if clock != node.clock:
                node.clock = clock
                change["clock"] = clock

    def _arrival(self, message: Message) -> int:
        waiting = self.under_way.get(_key(message))
        if not waiting:
            return -1
        flight = waiting.popleft()
        self.flights[flight] = msgspec.structs.replace(self.flights[flight], arrived=len(self.steps))
        return flight

    def _departures(self, node: _Node, record: Step) -> int:
        """Let messages leave; returns how many did."""
        effects = record.effects
        leaving: list[Message] = []
        if isinstance(record.event, Persisted):
            leaving += node.held
            node.held, node.unsynced = [], False
        if effects.entries:
            node.unsynced = True
        leaving += effects.send
        if node.unsynced:
            node.held += effects.send_after_persist
        else:
            leaving += effects.send_after_persist
        for message in leaving:
            if message.to not in self.nodes:
                continue
            self.under_way.setdefault(_key(message), deque()).append(len(self.flights))
            kind = _KINDS[type(message).__name__]
            to = self.nodes[message.to].place
            self.flights.append(Flight(node.place, to, len(self.steps), -1, kind, message_text(message)))
        return len(leaving)

    def _weight(self, record: Step, change: dict[str, object], sent: int, lines: list[str]) -> int:
        if change.keys() & {"role", "term", "leader", "up", "seat", "joint"} or record.effects.install:
            return MILESTONE
        if lines or record.effects.refusals or change.keys() - {"clock", "applied", "base"}:
            return NEWS
        if isinstance(record.event, Tick) and not sent:
            return QUIET
        if isinstance(record.event, _ORDERS):
            return NEWS
        if isinstance(record.event, Receive):
            message = record.event.message
            beat = isinstance(message, HeartbeatRequest | HeartbeatReply)
            return CHATTER if beat or not sent else NEWS
        return CHATTER


#: Events that somebody wanted, and what became of them.
_ORDERS = ProposeConfChange | TransferLeader | SnapshotReady | SnapshotInstalled | SnapshotSent | Unreachable

_KINDS = {
    "VoteRequest": "vote", "VoteReply": "vote+", "AppendRequest": "append", "AppendReply": "append+",
    "HeartbeatRequest": "beat", "HeartbeatReply": "beat+", "ProposeRequest": "propose",
    "ReadIndexRequest": "read", "ReadIndexReply": "read+", "SnapshotRequest": "snapshot",
    "TransferRequest": "transfer", "TimeoutNow": "transfer",
}  # fmt: skip


def _natural(name: str) -> list[tuple[int, str]]:
    """Orders n2 before n10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _falls(trace: Trace) -> dict[int, list[int]]:
    """Which nodes went down by which note: the one that names them (or all) after their last record."""
    found: dict[int, list[int]] = {}
    latest: dict[int, int] = {}  # the first note about a node since its last record
    lives: dict[int, None] = {}
    for position, record in enumerate(trace.records):
        if isinstance(record, Note):
            words = re.split(r"[\s,]+", record.text)
            for node in trace.nodes:
                about = record.node == node or trace.name_of(node) in words or words[0].endswith("-all")
                if about and record.kind in ("crash", "fault"):
                    latest.setdefault(node, position)
            continue
        fall = latest.pop(record.node, None)
        if isinstance(record, Start):
            if fall is not None and record.node in lives:
                found.setdefault(fall, []).append(record.node)
            lives[record.node] = None
    for node, position in sorted(latest.items()):  # down for good
        note = trace.records[position]
        if isinstance(note, Note) and note.kind == "crash":
            found.setdefault(position, []).append(node)
    return found


_encode = msgspec.msgpack.Encoder().encode


def _key(message: Message) -> bytes:
    return _encode(message)

