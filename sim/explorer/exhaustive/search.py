"""The search: breadth first, so that the first violation found has the fewest moves.

A global state is a tuple: what is left of the budget, the history, and each node's cell, which is the node
with what is under way to it (``cells``). Of all states that differ by a renaming of nodes only one is kept
(``shapes``). A state counts as seen by a 64 bit hash of it, so two states are taken for one with a
probability of about n^2 / 2^65.

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

from .cells import Cells, Step
from .digests import Digests
from .facts import History
from .scope import Scope, budget_unit, full_budget
from .shapes import Shapes, State
from .tables import Tables

__all__ = ["Finding", "Progress", "Search"]

_PERIOD = 2048  # states between two looks at the clock and at memory
_CRASHES = 15 * budget_unit("crashes")


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
        self._seen = Digests()
        self._parents = array("I")  # by state, in the order found
        self._labels = array("I")  # the event that led to each state, as its parent calls the nodes: a number
        self._label_numbers: dict[int, int] = {}
        self._next = array("Q")  # the states of the next level, one after the other
        self._width = 2 + self.tables.size  # of a state
        self.cells = Cells(self.tables)
        self._shapes = Shapes(self.cells)

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

    def first(self) -> State:
        """The beginning, in its canonical form."""
        nodes = self.tables.start()
        if not self.scope.crashes:
            nodes = tuple([self.tables.without_hint(node) for node in nodes])
        cells = [self.cells.number(node, ()) for node in nodes]
        return self.canonical(full_budget(self.scope), self.tables.history_number(History()), cells)[1]

    def _levels(self) -> Finding:
        index, width = 0, self._width
        while self._next:
            level, self._next = self._next, array("Q")
            for start in range(0, len(level), width):
                if index % _PERIOD == 0:
                    self._look((len(level) - start) // width)
                try:
                    self._expand(tuple(level[start : start + width]), index)
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
        budget = state[0]
        known = self.cells.steps
        for position in range(2, len(state)):
            for step in known(state[position], budget):
                self._label = step[0]
                self._visit(self.successor(state, position - 2, step)[1], index, step[0])

    def successor(self, state: State, position: int, step: Step) -> tuple[int, State]:
        """The renaming and the canonical state to which ``step`` of the node at ``position`` leads.

        Raises:
            _Broken: it breaks a rule.
        """
        _, budget, cell, sent, fact, broken, read = step
        self.transitions += 1
        if broken is not None:
            raise _Broken(*broken)
        history = state[1]
        cells = list(state[2:])
        crashes = budget & _CRASHES > 0
        if not crashes and state[0] & _CRASHES:
            cells = [self.cells.calm(each) for each in cells]
        cells[position] = cell
        if read:
            history = self.tables.with_read(history, read)
        if fact >= 0:
            history = self._judged(history, fact, position, cells)
        for message in sent:
            self.cells.put(message, cells, crashes)
        return self._shapes.canonical(budget, history, cells)

    def _judged(self, history: int, fact: int, position: int, cells: list[int]) -> int:
        """The history after a fact."""
        remembered = self.tables.remembered(history, fact)
        if not isinstance(remembered, int):
            raise _Broken(*remembered)
        nodes = self.cells.nodes
        story = self.tables.compare(fact, position, tuple([nodes[cell] for cell in cells]))
        if story is not None:
            raise _Broken(*story)
        return remembered

    def _visit(self, state: State, parent: int, label: int) -> None:
        if self._seen.add(hash(state)):
            self._parents.append(parent)
            self._labels.append(self._label_numbers.setdefault(label, len(self._label_numbers)))
            self._next.extend(state)

    def canonical(self, budget: int, history: int, cells: list[int]) -> tuple[int, State]:
        """See ``Shapes.canonical``."""
        return self._shapes.canonical(budget, history, cells)

    def follow(self, state: State, label: int) -> tuple[int, State]:
        """The canonical state that a label leads to, and the renaming that made it canonical."""
        position = label >> 8 & 255
        for step in self.cells.steps(state[2 + position], state[0]):
            if step[0] == label:
                return self.successor(state, position, step)
        raise ValueError(f"need a label of this search, got {label}")

    def _path(self, index: int) -> tuple[int, ...]:
        """The labels that lead from the beginning to a state."""
        known = list(self._label_numbers)
        labels = []
        while index:
            labels.append(known[self._labels[index]])
            index = self._parents[index]
        return tuple(reversed(labels))

    # --- limits and results ----------------------------------------------------------------------------

    def _look(self, left: int) -> None:
        used, memory = time.process_time() - self._begun, _memory_mb()
        memory_mb, cpu_seconds, max_states = self.limits
        if self.progress is not None:
            waiting = left + len(self._next) // self._width
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
