"""Traces: what a node's core was told, what it answered, and a digest of the state after each step.

Because the core is pure, a trace of any world (a real member, a simulation, an explored schedule) replays
through the shipped core: ``verify`` starts from the recorded first state, repeats every step, and compares
effects and digests. A trace made by changed code (a planted mutation) disagrees at the first step where the
change mattered.

The file: eight bytes of magic, then frames of a length (u32, little-endian) and msgpack. The first frame is
the ``Header``, every other a record. A file may end inside a frame, as a killed member leaves it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from .errors import Corruption, Rejected
from .raft.starting import restart
from .raft.state import Config, RaftState, state_digest
from .raft.step import step
from .raft.types import Effects, Entry, Event, HardState, SnapshotMeta

__all__ = [
    "BadTrace", "Header", "Mismatch", "Note", "Record", "Start", "Step", "Trace", "TraceEncoder",
    "Verification", "merge", "read_trace", "verify",
]  # fmt: skip

FORMAT_VERSION = 1
_MAGIC = b"TERCETTR"
_LENGTH = struct.Struct("<I")


class BadTrace(Rejected):
    """The file is not a trace, or one of another version, or damaged before its end."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is true of the whole trace."""

    format_version: int = FORMAT_VERSION
    program: str = ""  # who wrote it, with its version
    world: str = "real"  # real, simulated or explored: what the times mean
    seed: int | None = None  # of the simulation; None on a real machine
    members: tuple[tuple[int, str], ...] = ()  # node id and name
    comment: str = ""  # e.g. the command that repeats the run


class Start(msgspec.Struct, frozen=True, array_like=True, tag="Start"):
    """A node begins a life with what its disk held. Times are nanoseconds: virtual, or Unix time."""

    node: int
    time_ns: int
    config: Config
    hard_state: HardState
    entries: tuple[Entry, ...]
    applied: int
    digest: bytes
    snapshot: SnapshotMeta | None = None  # as ``restart`` takes it
    base_term: int = 0  # of the entry before ``entries``

    def state(self) -> RaftState:
        """The state that ``restart`` makes of all this, or its ``ValueError``."""
        return restart(
            self.config,
            self.hard_state,
            self.entries,
            self.applied,
            self.snapshot,
            base_term=self.base_term,
        )


class Step(msgspec.Struct, frozen=True, array_like=True, tag="Step"):
    """One step of a node's core. ``sequence`` counts from 1 within a life."""

    node: int
    sequence: int
    time_ns: int
    event: Event
    effects: Effects
    digest: bytes  # of the state after the step


class Note(msgspec.Struct, frozen=True, array_like=True, tag="Note"):
    """Something that happened around the nodes: a fault, a crash, a client's call. ``node`` 0: to all."""

    node: int
    time_ns: int
    kind: str  # fault, heal, crash, client or other
    text: str


Record: TypeAlias = Start | Step | Note

_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(Header)
_decoder = msgspec.msgpack.Decoder(Record)


def _frame(value: Header | Record) -> bytes:
    data = _encoder.encode(value)
    return _LENGTH.pack(len(data)) + data


class TraceEncoder:
    """Turns what happens into the bytes of a trace. The caller writes them somewhere, in order."""

    def __init__(self) -> None:
        self._sequences: dict[int, int] = {}

    def begin(self, header: Header) -> bytes:
        """The first bytes of the file."""
        return _MAGIC + _frame(header)

    def record(self, time_ns: int, event: Event | None, effects: Effects, state: RaftState) -> bytes:
        """One step, or with ``event`` None the beginning of a life: ``state`` is what ``restart`` gave."""
        node = state.config.node_id
        digest = state_digest(state)
        if event is None:
            self._sequences[node] = 0
            log = state.log
            entries = log.entries(log.base_index + 1, log.last_index)
            hard = HardState(state.current_term, state.voted_for, state.commit_index)
            start = Start(
                node,
                time_ns,
                state.config,
                hard,
                entries,
                state.applied_index,
                digest,
                state.snapshot,
                log.base_term,
            )
            return _frame(start)
        self._sequences[node] = sequence = self._sequences.get(node, 0) + 1
        return _frame(Step(node, sequence, time_ns, event, effects, digest))

    def note(self, time_ns: int, kind: str, text: str, node: int = 0) -> bytes:
        """A note, e.g. that a fault began."""
        return _frame(Note(node, time_ns, kind, text))


class Trace(msgspec.Struct, frozen=True):
    """A trace that was read."""

    header: Header
    records: tuple[Record, ...]
    truncated: bool  # the file ended inside a frame

    def name_of(self, node: int) -> str:
        """A node's name, or its id in hexadecimal."""
        return dict(self.header.members).get(node) or f"{node:x}"

    @property
    def nodes(self) -> tuple[int, ...]:
        """Every node that takes part, members first, in ascending order of id."""
        found = {member: None for member, _ in self.header.members}
        found.update((record.node, None) for record in self.records if not isinstance(record, Note))
        return tuple(sorted(found))


def read_trace(data: bytes) -> Trace:
    """Read a trace from a file's bytes.

    Raises:
        BadTrace: not a trace, another version, or a frame that cannot be decoded.
    """
    if data[: len(_MAGIC)] != _MAGIC:
        raise BadTrace("not a trace: the first bytes are wrong")
    frames = _frames(data)
    try:
        first = next(frames)
    except StopIteration:
        raise BadTrace("the trace ends before its header does") from None
    try:
        header = _header_decoder.decode(first[1])
    except msgspec.DecodeError as problem:
        raise BadTrace(f"the header cannot be decoded: {problem}") from None
    if header.format_version != FORMAT_VERSION:
        raise BadTrace(f"the trace has format {header.format_version}, this program reads {FORMAT_VERSION}")
    records: list[Record] = []
    end = first[0]
    for end, frame in frames:  # noqa: B007
        try:
            records.append(_decoder.decode(frame))
        except msgspec.DecodeError as problem:
            raise BadTrace(f"record {len(records) + 1} cannot be decoded: {problem}") from None
    return Trace(header, tuple(records), truncated=end < len(data))


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole frames, each with the offset of its end."""
    offset = len(_MAGIC)
    while offset + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, offset)
        start = offset + _LENGTH.size
        offset = start + length
        if offset > len(data):
            return
        yield offset, data[start:offset]


def merge(traces: Iterable[Trace]) -> Trace:
    """One trace of several, e.g. of the members of a real cluster, ordered by time.

    Records of one file keep their order. Clocks of different machines may disagree: then a message may
    seem to arrive before it was sent, which ``verify`` does not mind.
    """
    several = list(traces)
    if len(several) == 1:
        return several[0]
    members: dict[int, str] = {}
    for trace in several:
        members.update((node, name) for node, name in trace.header.members if name or node not in members)
    keyed: list[tuple[int, int, int, Record]] = []
    for place, trace in enumerate(several):
        latest = 0
        for number, record in enumerate(trace.records):
            latest = max(latest, record.time_ns)
            keyed.append((latest, place, number, record))
    keyed.sort(key=lambda row: row[:3])
    header = msgspec.structs.replace(several[0].header, members=tuple(sorted(members.items())))
    return Trace(header, tuple(row[3] for row in keyed), any(trace.truncated for trace in several))


class Mismatch(msgspec.Struct, frozen=True):
    """A record that the core does not repeat. The node is not looked at again until it starts anew."""

    position: int  # of the record in the trace, from 0
    node: int
    sequence: int  # 0: the start
    what: str  # start, effects, digest, error or order
    text: str


class Verification(msgspec.Struct, frozen=True):
    """What replaying a trace has shown."""

    steps: int  # repeated with equal effects and digest
    skipped: int  # of nodes without a start, or after a mismatch
    nodes: tuple[int, ...]
    mismatches: tuple[Mismatch, ...]
    truncated: bool

    @property
    def verdict(self) -> str:
        """valid, invalid, or unknown when there was nothing to repeat."""
        if self.mismatches:
            return "invalid"
        return "valid" if self.steps else "unknown"


class _Replay:
    """The nodes of a trace, stepped through the shipped core."""

    def __init__(self) -> None:
        self.states: dict[int, RaftState] = {}
        self._sequences: dict[int, int] = {}

    def apply(self, position: int, record: Record) -> Mismatch | None:
        """Repeat one record. After a mismatch the node has no state."""
        if isinstance(record, Note):
            return None
        found = self._start(record) if isinstance(record, Start) else self._step(record)
        if found is None:
            return None
        self.states.pop(record.node, None)
        sequence = record.sequence if isinstance(record, Step) else 0
        return Mismatch(position, record.node, sequence, *found)

    def _start(self, record: Start) -> tuple[str, str] | None:
        try:
            state = record.state()
        except ValueError as problem:
            return "start", str(problem)
        self.states[record.node] = state
        self._sequences[record.node] = 0
        if state_digest(state) != record.digest:
            return "start", "the state it started with differs from what its disk gives"
        return None

    def _step(self, record: Step) -> tuple[str, str] | None:
        state = self.states.get(record.node)
        if state is None:
            return None
        self._sequences[record.node] += 1
        if record.sequence != self._sequences[record.node]:
            return "order", f"step {self._sequences[record.node]} is missing"
        try:
            after, effects = step(state, record.event)
        except (Corruption, AssertionError, KeyError) as problem:
            return "error", f"the core refuses the event: {type(problem).__name__}: {problem}"
        if effects != record.effects:
            return "effects", _difference(effects, record.effects)
        if state_digest(after) != record.digest:
            return "digest", "equal effects, but the states after it differ"
        self.states[record.node] = after
        return None


def _difference(ours: Effects, recorded: Effects) -> str:
    for name in Effects.__struct_fields__:
        if getattr(ours, name) != getattr(recorded, name):
            return f"{name}: the core gives {getattr(ours, name)!r}, recorded was {getattr(recorded, name)!r}"
    return "the effects differ"


def verify(records: Iterable[Record], *, truncated: bool = False) -> Verification:
    """Replay records through the shipped core and compare every digest and all effects."""
    replay = _Replay()
    steps = skipped = 0
    nodes: dict[int, None] = {}
    mismatches: list[Mismatch] = []
    for position, record in enumerate(records):
        if isinstance(record, Note):
            continue
        nodes[record.node] = None
        known = record.node in replay.states
        mismatch = replay.apply(position, record)
        if mismatch is not None:
            mismatches.append(mismatch)
        elif isinstance(record, Step):
            steps += known
            skipped += not known
    return Verification(steps, skipped, tuple(sorted(nodes)), tuple(mismatches), truncated)
