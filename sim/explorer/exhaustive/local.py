"""One node as the exhaustive search sees it: core and disk as one value, and what an event makes of it.

Three reductions live here, each of which loses no behaviour that matters:

- Timers are gone. That a timeout passes is a move of its own, so whatever only counts ticks is kept at 0.
- Writes are done, and entries applied, within the move that asked for it, or else the power fails during the
  write (a crash of the budget), or the write is slow, or the state machine stands still (budgets, too).
- A crashed node restarts at once: being down is not receiving messages, and those may always stay under way.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from tercet.core.errors import Corruption
from tercet.core.raft import (
    AppendReply,
    Applied,
    Config,
    Effects,
    Entry,
    Event,
    HardState,
    Log,
    Message,
    Persisted,
    RaftState,
    Role,
    SnapshotMeta,
    VoteReply,
    restart,
    state_digest,
    step,
)
from tercet.core.raft.log import empty_log
from tercet.core.raft.membership import meta_of
from tercet.core.raft.quorum import configuration_of

from ...invariants import Violation, check_decided
from ..configurations import after_change, quorums_meet
from .facts import Fact, fact_of
from .scope import How

__all__ = [
    "Local", "Outcome", "Steps", "born", "crashed", "digest_of", "happen", "resume", "silent",
    "sync", "without_hint",
]

_LEADER = int(Role.LEADER)
Steps = list[tuple[Event | None, Effects, RaftState]]  # what was stepped, for a trace; event None: a new life
_Write = tuple[HardState | None, tuple[Entry, ...]]


class Local(msgspec.Struct, frozen=True, gc=False):
    """One node. ``pending`` and ``held`` are empty unless a slow write is under way."""

    config: Config
    state: RaftState
    hard: HardState
    disk: Log  # durable entries
    pending: tuple[_Write, ...] = ()
    held: tuple[Message, ...] = ()  # what may be sent once ``pending`` is durable
    stalled: bool = False


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one event can make of a node."""

    how: How
    local: Local
    sent: tuple[Message, ...]
    fact: Fact | None
    broken: tuple[str, str] | None = None  # rule and story of a violation seen at this node alone


def born(config: Config) -> Local:
    """A node that starts for the first time."""
    return Local(config, _plain(restart(config, HardState())), HardState(), empty_log())


def digest_of(local: Local) -> bytes:
    """Equal for two nodes that will always behave alike."""
    parts = (local.hard, local.disk.digest(), local.pending, local.held, local.stalled)
    return state_digest(local.state) + msgspec.msgpack.encode(parts)


def _plain(state: RaftState) -> RaftState:
    """``state`` without what only counts time or keeps the order of what has none."""
    leadership = state.leadership
    if leadership is not None:
        progress = tuple([replace(peer, active=True) for peer in leadership.progress])
        leadership = replace(leadership, progress=progress, heartbeat_elapsed=0, transfer_elapsed=0)
    return replace(
        state,
        election_elapsed=0,
        election_timeout=state.config.election_ticks,
        campaigns=0,
        conflict_term=0 if state.persisted_index == state.log.last_index else state.conflict_term,
        granted=tuple(sorted(state.granted)),
        refused=tuple(sorted(state.refused)),
        leadership=leadership,
    )


def without_hint(local: Local) -> Local:
    """A node that will not crash any more: its durable commit hint does not matter."""
    return replace(local, hard=replace(local.hard, commit_index=0))


def silent(message: Message) -> Message:
    """The message without the rule that refused, if it is a refusal."""
    if isinstance(message, VoteReply | AppendReply) and message.refusal:
        return replace(message, refusal="")
    return message


class _Run:
    """The steps of one node within one move."""

    def __init__(self, local: Local, strict: bool, steps: Steps | None) -> None:
        self.before = local
        self.local = local
        self.strict = strict
        self.steps = steps
        self.sent: list[Message] = []
        self.reads: list[tuple[int, int]] = []

    def step(self, event: Event) -> Effects:
        state = self.local.state
        try:
            after, effects = step(state, event)
        except Corruption as error:
            raise Violation("corruption", f"node {state.config.node_id}: {error}") from error
        except Exception as error:  # whatever the core raises is a finding, not a failure of ours
            story = f"node {state.config.node_id} at {event}: {type(error).__name__}: {error}"
            raise Violation("core failed", story) from error
        _check_step(state, after, effects)
        if self.steps is not None:
            self.steps.append((event, effects, after))
        self.local = replace(self.local, state=after)
        self.reads += [(read.context, read.read_index) for read in effects.reads]
        return effects

    def send(self, messages: tuple[Message, ...]) -> None:
        if self.strict:
            for message in messages:
                _check_promise(self.local, message)
        self.sent += messages

    def queue(self, effects: Effects) -> None:
        """The duties wait behind a slow write."""
        local = self.local
        pending = local.pending
        if effects.hard_state is not None or effects.entries:
            pending = (*pending, (effects.hard_state, effects.entries))
        self.local = replace(local, pending=pending, held=local.held + effects.send_after_persist)

    def write(self, effects: Effects) -> None:
        """The duties are done at once."""
        self.local = _written(self.local, effects.hard_state, effects.entries)
        self.send(effects.send_after_persist)
        if effects.entries:
            last = effects.entries[-1]
            self.settle(self.step(Persisted(last.index, last.term, self.local.state.current_term)))

    def settle(self, effects: Effects) -> None:
        """Do all that ``effects`` ask for, and what follows from it."""
        self.send(effects.send)
        if self.local.pending:
            self.queue(effects)
        else:
            self.write(effects)
        self.apply()

    def apply(self) -> None:
        state = self.local.state
        while not self.local.stalled and state.applied_index < state.released_index:
            self.settle(self.step(Applied(state.released_index)))
            state = self.local.state

    def told(self) -> tuple[Message, ...]:
        """What has been sent; without a trace the rules of refusals, which nobody acts on, are left out."""
        if self.steps is not None:
            return tuple(self.sent)
        return tuple([silent(message) for message in self.sent])

    def outcome(self, how: How, broken: Violation | None = None) -> Outcome:
        faithful = self.steps is not None
        local = self.local if faithful else replace(self.local, state=_plain(self.local.state))
        fact = fact_of(self.before.state, local.state, tuple(self.reads))
        story = None if broken is None else (broken.rule, broken.text)
        return Outcome(how, local, self.told(), fact, story)

    def died(self, how: How, hard: HardState, disk: Log) -> Outcome:
        """The outcome when the power fails now."""
        config = self.before.config
        try:
            state = restart(config, hard, disk.entries(1, disk.last_index))
        except ValueError as error:
            broken = ("lost on disk", f"node {config.node_id} cannot start: {error}")
            return Outcome(how, self.before, self.told(), None, broken)
        if self.steps is not None:
            self.steps.append((None, Effects(), state))
        else:
            state = _plain(state)
        return Outcome(how, Local(config, state, hard, disk), self.told(), None)


def _written(local: Local, hard: HardState | None, entries: tuple[Entry, ...]) -> Local:
    disk = local.disk
    if entries:
        disk = (disk.truncated(entries[0].index - 1) if entries[0].index <= disk.last_index else disk)
        disk = disk.append(entries)
    return replace(local, hard=hard or local.hard, disk=disk)


def happen(
    local: Local, events: tuple[Event, ...], *, strict: bool = True, steps: Steps | None = None,
    only: How | None = None,
) -> list[Outcome]:
    """All that can become of ``local`` when ``events`` happen to it, one for each way the disk may answer.

    Args:
        steps: filled with each step taken, and states are kept as they are; only with ``only``.
        only: the one outcome wanted.
    """
    found: list[Outcome] = []
    run = _Run(local, strict, steps)
    try:
        effects = run.step(events[0])
        for event in events[1:]:
            run.settle(effects)
            effects = run.step(event)
        run.send(effects.send)
    except Violation as violation:
        return [run.outcome(How.DONE, violation)]
    writes = effects.hard_state is not None or bool(effects.entries)
    if writes and not run.local.pending:
        found += _failed_writes(run, effects, only)
    if only in (None, How.DONE):
        found.append(_done(run, effects))
    if only in (None, How.STALL) and not local.stalled:
        stalled = _done(run, effects, stall=True)
        if stalled.local.state.applied_index < stalled.local.state.released_index:
            found.append(stalled)
    return found


def _fork(run: _Run) -> _Run:
    other = _Run(run.before, run.strict, run.steps)
    other.local, other.sent, other.reads = run.local, list(run.sent), list(run.reads)
    return other


def _done(run: _Run, effects: Effects, stall: bool = False) -> Outcome:
    run = _fork(run)
    if stall:
        run.local = replace(run.local, stalled=True)
    try:
        if run.local.pending:
            run.queue(effects)
        else:
            run.write(effects)
        run.apply()
    except Violation as violation:
        return run.outcome(How.STALL if stall else How.DONE, violation)
    return run.outcome(How.STALL if stall else How.DONE)


def _failed_writes(run: _Run, effects: Effects, only: How | None) -> list[Outcome]:
    found = []
    local = run.local
    if only in (None, How.LOST):
        found.append(_fork(run).died(How.LOST, local.hard, local.disk))
    half = effects.entries[: len(effects.entries) // 2]
    if only in (None, How.TORN) and (half or (effects.entries and effects.hard_state is not None)):
        torn = _written(local, effects.hard_state, half)
        found.append(_fork(run).died(How.TORN, torn.hard, torn.disk))
    if only in (None, How.SLOW):
        slow = _fork(run)
        slow.queue(effects)
        try:
            slow.apply()
            found.append(slow.outcome(How.SLOW))
        except Violation as violation:
            found.append(slow.outcome(How.SLOW, violation))
    return found


def crashed(local: Local, steps: Steps | None = None) -> Outcome:
    """The power fails between two events; what waits for the disk is lost."""
    return _Run(local, False, steps).died(How.LOST, local.hard, local.disk)


def sync(local: Local, strict: bool = True, steps: Steps | None = None) -> Outcome:
    """The slow write, and what gathered behind it, is durable."""
    run = _Run(local, strict, steps)
    last: Entry | None = None
    for hard, entries in local.pending:
        run.local = _written(run.local, hard, entries)
        last = entries[-1] if entries else last
    run.local = replace(run.local, pending=(), held=())
    try:
        run.send(local.held)
        if last is not None:
            run.settle(run.step(Persisted(last.index, last.term, run.local.state.current_term)))
    except Violation as violation:
        return run.outcome(How.DONE, violation)
    return run.outcome(How.DONE)


def resume(local: Local, strict: bool = True, steps: Steps | None = None) -> Outcome:
    """The state machine goes on."""
    run = _Run(local, strict, steps)
    run.local = replace(local, stalled=False)
    try:
        run.apply()
    except Violation as violation:
        return run.outcome(How.DONE, violation)
    return run.outcome(How.DONE)


def _check_step(before: RaftState, after: RaftState, effects: Effects) -> None:
    """What one node alone can break."""
    node = after.config.node_id
    if after.current_term < before.current_term:
        raise Violation("term", f"node {node} fell from {before.current_term} to {after.current_term}")
    if after.commit_index < before.commit_index:
        story = f"node {node} fell from {before.commit_index} to {after.commit_index}"
        raise Violation("commit index", story)
    if after.commit_index > after.log.last_index:
        story = f"node {node} committed {after.commit_index} of {after.log.last_index} entries"
        raise Violation("commit beyond log", story)
    if after.leadership is not None and after.commit_index > before.commit_index:
        check_decided(node, after)
    if effects.configuration is not None:
        _check_configuration(after, effects.configuration)
    if before.role == _LEADER == after.role and before.current_term == after.current_term:
        last = before.log.last_index
        if (effects.entries and effects.entries[0].index != last + 1) or after.log.last_index < last:
            raise Violation("leader append-only", f"node {node} changed its log before {last + 1}")


def _check_configuration(state: RaftState, meta: SnapshotMeta) -> None:
    """It follows from the log alone, and each one from the one before without a gap between their quorums."""
    configuration = configuration_of(state.config.voters)
    for entry in state.log.entries(1, meta.index):
        if entry.kind:
            before, configuration = configuration, after_change(configuration, entry)
            if not quorums_meet(before, configuration):
                story = f"{before} and {configuration}, made by entry {entry.index}, decide apart"
                raise Violation("joint safety", story)
    if meta_of(configuration, meta.index, meta.term) != meta:
        story = f"node {state.config.node_id} comes to {meta} where its log makes {configuration}"
        raise Violation("configuration", story)


def _check_promise(local: Local, message: Message) -> None:
    """A vote or an acknowledgement leaves: what it promises must be on the disk."""
    hard = local.hard
    if type(message) is VoteReply and message.vote_granted and not message.pre_vote:
        voted = hard.current_term == message.term and hard.voted_for == message.to
        kept = voted or hard.current_term > message.term
    elif type(message) is AppendReply and message.success:
        held = hard.current_term == message.term and _is_durable(local, message)
        kept = held or hard.current_term > message.term
    else:
        return
    if not kept:
        raise Violation("promise before disk", f"{message} with {hard} and {local.disk.last_index} entries")


def _is_durable(local: Local, reply: AppendReply) -> bool:
    """Whether the disk holds what is acknowledged: not some log of that length, but that very one."""
    index = reply.match_index
    if local.state.current_term != reply.term:  # the log in memory is not that one any more
        return local.disk.last_index >= index
    return local.disk.term_at(index) == local.state.log.term_at(index)
