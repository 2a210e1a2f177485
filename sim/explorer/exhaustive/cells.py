"""Cells: a node together with the messages under way to it, as one number.

Whatever happens next happens to one node, and depends on that node, on what is under way to it, and on what
is left of the budget; nothing else. So a global state is a handful of cells, all that can follow from a cell
is worked out once (``steps``), and a transition is a few look-ups.

What is not searched, because another run that is searched shows the same:

- Losing a message: it may stay under way for ever.
- A delivery that changes nothing and sends nothing: not delivering is as good.
- Replies that their receiver can never use again: they are taken off the wire.
- Where messages last, a second copy: one that stays can arrive as often as two. And when to answer a message
  that changes nothing: a reply may stay under way for as long as one likes, so it is sent at once
  (``Tables.echoes``). What can happen only grows with what is under way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .scope import How, Kind, budget_unit, full_budget
from .tables import Broken, Effect, Tables, is_echo

__all__ = ["Cells", "Step"]

#: label, budget afterwards, cell afterwards, messages that leave, fact or -1, what is broken or None,
#: context of the read that is asked or 0
Step = tuple[int, int, int, tuple[int, ...], int, "Broken | None", int]

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
_MANY_MESSAGES = 1 << 24


class Cells:
    """All cells found so far; every list is by the number of a cell."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.nodes: list[int] = []  # the number of its node
        self.families: list[int] = []  # equal for cells that differ by a renaming
        self.renamed: list[list[int]] = [[] for _ in range(tables.count)]  # by renaming
        self._inboxes: list[tuple[int, ...]] = []
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        self._count = 0  # of families
        self._steps: dict[int, dict[int, tuple[Step, ...]]] = {}  # by budget
        self._put: tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]] = ({}, {})
        self._calm: dict[int, int] = {}

    def number(self, node: int, inbox: tuple[int, ...]) -> int:
        """The number of a node with ``inbox`` (ascending); a new cell is entered with all its renamings."""
        found = self._numbers.get((node, inbox))
        if found is not None:
            return found
        tables = self.tables
        copies = []
        for place in range(tables.count):
            column = tables.renamed_messages[place]
            copies.append(
                (tables.renamed_node(place, node), tuple(sorted([column[message] for message in inbox])))
            )
        for copy in copies:
            if copy not in self._numbers:
                self._numbers[copy] = len(self.nodes)
                self.nodes.append(copy[0])
                self._inboxes.append(copy[1])
                self.families.append(self._count)
                for column in self.renamed:
                    column.append(-1)
        self._count += 1
        for place, copy in enumerate(copies):
            number = self._numbers[copy]
            for other in range(tables.count):
                self.renamed[other][number] = self._numbers[copies[tables.after[other][place]]]
        return self._numbers[node, inbox]

    def put(self, message: int, cells: list[int], crashes: bool) -> None:
        """Put a message under way, unless it is dead, or what it comes to if that is settled."""
        position = self.tables.receivers[message]
        if position < 0:
            return
        known = self._put[crashes]
        key = cells[position] * _MANY_MESSAGES + message
        found = known.get(key)
        if found is None:
            found = known[key] = self._worked_put(message, cells[position], crashes)
        cells[position] = found[0]
        for answer in found[1:]:
            self.put(answer, cells, crashes)

    def _worked_put(self, message: int, cell: int, crashes: bool) -> tuple[int, ...]:
        if self.tables.scope.lasting and message in self._inboxes[cell]:
            return (cell,)
        inbox, answers = self._settled((message,), self.nodes[cell], self._inboxes[cell], crashes)
        return self.number(self.nodes[cell], inbox), *answers

    def _settled(
        self, messages: Sequence[int], node: int, inbox: Sequence[int], crashes: bool
    ) -> tuple[tuple[int, ...], list[int]]:
        """``inbox`` with ``messages``, and the answers of those that need not wait."""
        tables = self.tables
        lasting = tables.scope.lasting
        after = list(inbox)
        answers: list[int] = []
        for message in messages:
            message = tables.normal(message, node)
            if lasting and message in after:
                continue
            if tables.is_dead(message, node, crashes):
                continue
            found = tables.answers(message, node, crashes)
            if found is not None:
                answers += found
            else:
                after.append(message)
                if lasting:
                    answers += tables.echoes(message, node)
        return tuple(sorted(after)), answers

    def calm(self, cell: int) -> int:
        """The same cell when there will be no crashes any more."""
        found = self._calm.get(cell)
        if found is None:
            node = self.tables.without_hint(self.nodes[cell])
            inbox = self._inboxes[cell]
            if self.tables.scope.lasting:  # all answers have been given
                inbox, _ = self._settled(inbox, node, (), False)
            found = self._calm[cell] = self.number(node, inbox)
        return found

    def steps(self, cell: int, budget: int) -> tuple[Step, ...]:
        """All that can happen to the node of ``cell``."""
        known = self._steps.setdefault(budget, {})
        found = known.get(cell)
        if found is None:
            found = known[cell] = (*self._deliveries(cell, budget), *self._events(cell, budget))
        return found

    def _deliveries(self, cell: int, budget: int) -> Iterator[Step]:
        tables = self.tables
        node, inbox = self.nodes[cell], self._inboxes[cell]
        lasting = tables.scope.lasting
        for place, message in enumerate(inbox):
            if place and message == inbox[place - 1]:
                continue
            label = tables.receivers[message] << 8 | message << 16
            rest = inbox if lasting else inbox[:place] + inbox[place + 1 :]
            for effect in tables.effects(node, Kind.DELIVER, message):
                if _is_nothing(effect, node) or (lasting and is_echo(effect, node)):
                    continue
                yield from self._step(label, budget, node, rest, effect, 0, 0)
                if budget & 15 * _DUPLICATES and not lasting:
                    twice = label | 1 << 7
                    yield from self._step(twice, budget, node, inbox, effect, _DUPLICATES, 0)

    def _events(self, cell: int, budget: int) -> Iterator[Step]:
        """What is no delivery."""
        tables = self.tables
        node, inbox = self.nodes[cell], self._inboxes[cell]
        position = tables.position(node)
        for kind in tables.possible(node):
            cost = _KIND_COSTS[kind]
            needs = _CRASHES if kind == Kind.CRASH else cost
            if budget & 15 * needs < needs:
                continue
            for argument in self._arguments(kind, position, budget):
                label = kind | position << 8 | argument << 16
                read = argument if kind == Kind.READ else 0
                for effect in tables.effects(node, kind, argument):
                    if read or not _is_nothing(effect, node):
                        yield from self._step(label, budget, node, inbox, effect, cost, read)

    def _arguments(self, kind: Kind, position: int, budget: int) -> Sequence[int]:
        if kind == Kind.TRANSFER:
            return [node for node in range(1, self.tables.size + 1) if node != position + 1]
        unit = _KIND_COSTS[kind]
        if unit == 0:
            return (0,)
        left = (budget // unit) & 15
        return ((full_budget(self.tables.scope) // unit & 15) - left + 1,)

    def _step(
        self, label: int, budget: int, node: int, inbox: tuple[int, ...], effect: Effect, cost: int, read: int
    ) -> Iterator[Step]:
        """The step that ``effect`` is; nothing when the budget does not allow it."""
        how, after, sent, fact, broken = effect
        unit = _HOW_COSTS[how]
        if budget & 15 * unit < unit:
            return
        budget -= cost + unit
        crashes = budget & 15 * _CRASHES > 0
        if not crashes:
            after = self.tables.without_hint(after)
        answers: list[int] = []
        if after != node:
            inbox, answers = self._settled(inbox, after, (), crashes)
        yield label | how << 4, budget, self.number(after, inbox), (*answers, *sent), fact, broken, read


def _is_nothing(effect: Effect, node: int) -> bool:
    _, after, sent, fact, broken = effect
    return after == node and not sent and fact < 0 and broken is None
