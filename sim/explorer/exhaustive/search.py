"""The search: breadth first, so that the first violation found has the fewest moves.

A global state is a tuple: what is left of the budget, the history, the nodes, the messages under way in
ascending order. Of all states that differ by a renaming of nodes only one is kept: nodes are ordered by
their class, and where classes tie the least tuple wins. A state counts as seen by a 64 bit hash of it, so
two states are taken for one with a probability of about n^2 / 2^65.

What is not searched, because another run that is searched shows the same:

- Losing a message: it may stay under way for ever.
- A delivery that changes nothing and sends nothing: not delivering is as good.
- Replies that their receiver can never use again: they are taken off the wire.

Source: Clarke et al. 1996, "Exploiting symmetry in temporal logic model checking"; Holzmann 1998 for hash
compaction.
"""

from __future__ import annotations

import gc
import resource
import time
from array import array
from collections.abc import Callable, Sequence

import msgspec

from .facts import History
from .scope import How, Kind, Scope, budget_unit, full_budget
from .shapes import Parts, Shapes, State
from .tables import Effect, Tables

__all__ = ["Finding", "Progress", "Search"]

_PERIOD = 2048  # states between two looks at the clock and at memory
_HOW_COSTS = {
    How.DONE: 0, How.LOST: budget_unit("crashes"), How.TORN: budget_unit("crashes"),
    How.SLOW: budget_unit("slow_writes"), How.STALL: budget_unit("stalls"),
}
_CRASHES, _DUPLICATES = budget_unit("crashes"), budget_unit("duplicates")
_KIND_COSTS = {
    Kind.CAMPAIGN: 0, Kind.PROPOSE: budget_unit("entries"), Kind.BEAT: budget_unit("beats"),
    Kind.CRASH: 0, Kind.READ: budget_unit("reads"), Kind.SYNC: 0,
    Kind.CHANGE: budget_unit("changes"), Kind.APPLY: 0, Kind.TRANSFER: budget_unit("transfers"),
}


class Progress(msgspec.Struct, frozen=True):
    """How far a search is."""

    states: int
    transitions: int
    depth: int
    waiting: int  # states found and not yet expanded
    cpu_seconds: float
    memory_mb: int


class Finding(msgspec.Struct, frozen=True):
    """What a search came to: verdict valid (all was searched), invalid or unknown (a limit was hit)."""

    scope: Scope
    verdict: str
    states: int
    transitions: int
    depth: int  # moves from the beginning to the farthest state
    node_states: int
    messages: int
    cpu_seconds: float
    memory_mb: int
    reason: str = ""  # why unknown
    rule: str = ""
    text: str = ""
    labels: tuple[int, ...] = ()  # the shortest run to the violation, see ``counterexample``


class _Limit(Exception):
    pass


class _Broken(Exception):
    """A successor breaks a rule."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(rule)
        self.rule, self.text = rule, text


class Search:
    """One search. ``run`` may be called once.

    Args:
        memory_mb: of the whole process at most, as far as the operating system tells; None: no limit.
        cpu_seconds: at most; None: no limit.
        max_states: at most; None: no limit.
        progress: told now and then.
    """

    def __init__(
        self, scope: Scope, *, memory_mb: int | None = None, cpu_seconds: float | None = None,
        max_states: int | None = None, progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.scope = scope
        self.tables = Tables(scope)
        self.limits = (memory_mb, cpu_seconds, max_states)
        self.progress = progress
        self.transitions = 0
        self.depth = 0
        self._begun = time.process_time()
        self._seen: set[int] = set()
        self._parents = array("I")  # by state, in the order found
        self._labels = array("Q")  # the event that led to each state, as its parent calls the nodes
        self._next: list[State] = []
        self._end = 2 + self.tables.size  # where the messages of a state begin
        self._shapes = Shapes(self.tables)

    def run(self) -> Finding:
        """Search until everything is seen, something is broken, or a limit is hit."""
        collecting = gc.isenabled()
        gc.disable()  # nothing here refers to itself; the collector would walk all states again and again
        try:
            self._visit(self.first(), 0, 0)
            return self._levels()
        except _Limit as limit:
            return self._finding("unknown", reason=str(limit))
        finally:
            if collecting:
                gc.enable()

    def first(self) -> Parts:
        """The beginning, not yet in its canonical form."""
        nodes = self.tables.start()
        if not self.scope.crashes:
            nodes = tuple([self.tables.without_hint(node) for node in nodes])
        return full_budget(self.scope), self.tables.history_number(History()), nodes, ()

    def _levels(self) -> Finding:
        index = 0
        while self._next:
            level, self._next = self._next, []
            for place, state in enumerate(level):
                if place % _PERIOD == 0:
                    self._look(len(level) - place)
                try:
                    self._expand(state, index)
                except _Broken as broken:
                    path = self._path(index)
                    return self._finding(
                        "invalid", rule=broken.rule, text=broken.text, labels=(*path, self._label)
                    )
                index += 1
            if self._next:
                self.depth += 1
        return self._finding("valid")

    def _expand(self, state: State, index: int) -> None:
        """Visit all successors of a state."""
        tables, end = self.tables, self._end
        budget, history = state[0], state[1]
        nodes, wire = state[2:end], state[end:]
        receivers = tables.receivers
        duplicates = budget & 15 * _DUPLICATES
        previous = -1
        for place, message in enumerate(wire):
            if message == previous:
                continue
            previous = message
            position = receivers[message]
            node = nodes[position]
            label = position << 8 | message << 16
            for effect in tables.effects(node, Kind.DELIVER, message):
                if effect[1] == node and not effect[2] and effect[4] is None and effect[3] < 0:
                    continue
                self._label = label | effect[0] << 4
                after = self.successor(
                    budget, history, nodes, wire[:place] + wire[place + 1 :], position, effect, 0
                )
                if after is not None:
                    self._visit(after, index, self._label)
                if duplicates:
                    self._label |= 1 << 7
                    after = self.successor(budget, history, nodes, wire, position, effect, _DUPLICATES)
                    if after is not None:
                        self._visit(after, index, self._label)
        for position, node in enumerate(nodes):
            for kind in tables.possible(node):
                self._happen(kind, position, state, index)

    def _happen(self, kind: Kind, position: int, state: State, index: int) -> None:
        """Visit what follows when something other than a delivery happens to a node."""
        budget, history, end = state[0], state[1], self._end
        cost = _KIND_COSTS[kind]
        if (cost and budget & 15 * cost < cost) or (kind == Kind.CRASH and budget & 15 * _CRASHES < _CRASHES):
            return
        nodes, wire = state[2:end], state[end:]
        node = nodes[position]
        for argument in self._arguments(kind, position, budget):
            if kind == Kind.READ:
                history = self.tables.with_read(history, argument)
            for effect in self.tables.effects(node, kind, argument):
                if effect[1] == node and not effect[2] and effect[4] is None and kind != Kind.READ:
                    continue
                self._label = kind | effect[0] << 4 | position << 8 | argument << 16
                after = self.successor(budget, history, nodes, wire, position, effect, cost)
                if after is not None:
                    self._visit(after, index, self._label)

    def _arguments(self, kind: Kind, position: int, budget: int) -> Sequence[int]:
        if kind == Kind.TRANSFER:
            return [node for node in range(1, self.tables.size + 1) if node != position + 1]
        unit = _KIND_COSTS[kind]
        if unit == 0:
            return (0,)
        left = (budget // unit) & 15
        return ((full_budget(self.scope) // unit & 15) - left + 1,)

    def successor(
        self, budget: int, history: int, nodes: State, wire: State, position: int, effect: Effect, cost: int
    ) -> Parts | None:
        """The state after ``effect`` at ``position``; None when the budget does not allow it.

        Raises:
            _Broken: the successor breaks a rule.
        """
        tables = self.tables
        how, node, sent, fact, broken = effect
        if how:
            unit = _HOW_COSTS[how]
            if budget & 15 * unit < unit:
                return None
            cost += unit
        self.transitions += 1
        if broken is not None:
            raise _Broken(*broken)
        budget -= cost
        if not budget & 15 * _CRASHES:
            if cost & 15 * _CRASHES:
                nodes = tuple([tables.without_hint(each) for each in nodes])
            node = tables.without_hint(node)
        changed = node != nodes[position]
        nodes = (*nodes[:position], node, *nodes[position + 1 :])
        if fact >= 0:
            remembered = tables.remembered(history, fact)
            if not isinstance(remembered, int):
                raise _Broken(*remembered)
            history = remembered
            story = tables.compare(fact, position, nodes)
            if story is not None:
                raise _Broken(*story)
        receivers = tables.receivers
        crashes = budget & 15 * _CRASHES > 0
        if changed:
            kept: list[int] = []
            for message in wire:
                if receivers[message] == position:
                    self._put(message, nodes, crashes, kept)
                else:
                    kept.append(message)
            wire = tuple(kept)
        if sent:
            fresh = list(wire)
            for message in sent:
                if receivers[message] >= 0:
                    self._put(message, nodes, crashes, fresh)
            wire = tuple(fresh)
        return budget, history, nodes, wire

    def _put(self, message: int, nodes: State, crashes: bool, wire: list[int]) -> None:
        """Put a message on the wire, unless it is dead, or what it comes to if that is settled."""
        tables = self.tables
        node = nodes[tables.receivers[message]]
        if tables.is_dead(message, node):
            return
        answers = tables.answers(message, node, crashes)
        if answers is None:
            wire.append(message)
            return
        for answer in answers:
            self._put(answer, nodes, crashes, wire)

    def _visit(self, parts: Parts, parent: int, label: int) -> None:
        _, state = self._shapes.canonical(parts)
        digest = hash(state)
        if digest in self._seen:
            return
        self._seen.add(digest)
        self._parents.append(parent)
        self._labels.append(label)
        self._next.append(state)

    def canonical(self, parts: Parts) -> tuple[int, State]:
        """See ``Shapes.canonical``."""
        return self._shapes.canonical(parts)

    def follow(self, state: State, label: int) -> tuple[int, State]:
        """The canonical state that a label leads to, and the renaming that made it canonical."""
        kind, how = Kind(label & 15), label >> 4 & 7
        position, argument = label >> 8 & 255, label >> 16
        end = self._end
        budget, history, nodes, wire = state[0], state[1], state[2:end], state[end:]
        cost = _KIND_COSTS.get(kind, 0)
        if kind == Kind.DELIVER:
            if label & 1 << 7:
                cost = _DUPLICATES
            else:
                place = wire.index(argument)
                wire = wire[:place] + wire[place + 1 :]
        elif kind == Kind.READ:
            history = self.tables.with_read(history, argument)
        for effect in self.tables.effects(nodes[position], kind, argument):
            if effect[0] == how:
                parts = self.successor(budget, history, nodes, wire, position, effect, cost)
                assert parts is not None
                return self._shapes.canonical(parts)
        raise ValueError(f"need a label of this search, got {label}")

    def _path(self, index: int) -> tuple[int, ...]:
        """The labels that lead from the beginning to a state."""
        labels = []
        while index:
            labels.append(self._labels[index])
            index = self._parents[index]
        return tuple(reversed(labels))

    # --- limits and results ----------------------------------------------------------------------------

    def _look(self, left: int) -> None:
        used, memory = time.process_time() - self._begun, _memory_mb()
        memory_mb, cpu_seconds, max_states = self.limits
        if self.progress is not None:
            waiting = left + len(self._next)
            self.progress(
                Progress(len(self._seen), self.transitions, self.depth, waiting, used, memory)
            )
        if memory_mb is not None and memory > memory_mb:
            raise _Limit(f"memory: {memory} MB of {memory_mb}")
        if cpu_seconds is not None and used > cpu_seconds:
            raise _Limit(f"time: {used:.0f} s of {cpu_seconds:g}")
        if max_states is not None and len(self._seen) > max_states:
            raise _Limit(f"states: {len(self._seen)} of {max_states}")

    def _finding(
        self, verdict: str, *, reason: str = "", rule: str = "", text: str = "", labels: Sequence[int] = ()
    ) -> Finding:
        return Finding(
            self.scope, verdict, len(self._seen), self.transitions, self.depth, self.tables.classes,
            len(self.tables.messages), time.process_time() - self._begun, _memory_mb(), reason, rule, text,
            tuple(labels),
        )


def _memory_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
