"""Linearizability by search: is there one order of the operations that explains every answer?

The search of Wing and Gong as improved by Lowe: the calls and returns of a partition form a linked list in
the order of time; an operation may be placed next if its call stands before the first return that is left;
placing it lifts both its entries out of the list, and going back puts them in again. A configuration (which
operations are placed, and the state they led to) that was met before is not searched twice.

Four things make it fast here. Placed operations are a bit mask over a window that starts at the first
operation not placed, so its size is the concurrency and not the length. Operations alike in what was asked
and answered share one row of a transition table over numbered states, so the model is asked once for each
(kind, state). A read that fits the state is placed at once and never reconsidered: whatever order explains
the rest does so with the read first. And operations with unknown outcomes stand apart from the list: they
are tried last, only when they change the state, only the earliest of equals, and a configuration that used
a superset of those used before in the same place is dominated by it and dropped.

Sources: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing for
linearizability", 2017; Horn and Kroening, "Faster linearizability checking via P-compositionality", 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ..history import Operation
from .models import Impossible, Model, State
from .verdict import Limits, Meter, Status

__all__ = ["Search", "partitions", "search"]

_BASE_BITS = 32  # a window's start and its mask share one integer


class Search(msgspec.Struct, frozen=True):
    """The result for one partition.

    ``frontier`` is the time of the first return that no order explains: the history before it is
    linearizable, the history up to and including it is not (None when valid). ``order`` is a witness:
    indexes of the operations in an order that explains everything, when valid.
    """

    verdict: Status
    reason: str = ""
    frontier: int | None = None
    order: tuple[int, ...] = ()


def partitions(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    """Operations by key, in the order of first appearance, without those known to have had no effect."""
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.outcome != "fail":
            found.setdefault(operation.key, []).append(operation)
    return found


class _Table:
    """Transitions between numbered states, by kind of operation."""

    __slots__ = ("_kinds", "_model", "_numbers", "_states", "kinds", "looks", "rows")

    def __init__(self, model: Model, operations: Sequence[Operation]) -> None:
        self._model = model
        self._states: list[State] = [model.initial()]
        self._numbers: dict[State, int] = {self._states[0]: 0}
        numbers: dict[object, int] = {}
        self._kinds: list[Operation] = []
        self.kinds: list[int] = []  # by operation
        for operation in operations:
            unknown = operation.outcome == "info"
            # bool and int are kept apart: True == 1 would join two kinds
            sort = (
                operation.f,
                operation.value,
                unknown,
                None if unknown else operation.result,
                operation.result is False,
            )
            number = numbers.setdefault(sort, len(numbers))
            if number == len(self._kinds):
                self._kinds.append(operation)
            self.kinds.append(number)
        self.rows: list[dict[int, int]] = [{} for _ in self._kinds]
        self.looks = [model.observes(operation) for operation in operations]

    def work_out(self, kind: int, state: int) -> int:
        """The number of the state after, -1 when impossible; remembered in ``rows``."""
        after = self._model.step(self._states[state], self._kinds[kind])
        number: int = -1
        if not isinstance(after, Impossible):
            number = self._numbers.setdefault(after, len(self._states))
            if number == len(self._states):
                self._states.append(after)
        self.rows[kind][state] = number
        return number


def search(operations: Sequence[Operation], model: Model, meter: Meter | None = None) -> Search:
    """Search one partition for an order that explains every answer.

    Args:
        operations: one partition; failed operations must have been left out.
        meter: what may be spent; shared between partitions by the caller. None: the default limits.
    """
    spent = meter or Meter(Limits())
    table = _Table(model, operations)
    known = sorted(
        (i for i, o in enumerate(operations) if o.returned is not None), key=lambda i: operations[i].invoke
    )
    unknown = sorted(
        (i for i, o in enumerate(operations) if o.returned is None and not model.observes(o)),
        key=lambda i: operations[i].invoke,
    )
    return _Searcher(operations, known, unknown, table, spent).run()


def _placed(mask: int, base: int, number: int) -> tuple[int, int]:
    """The window after placing one more operation: it moves on over all that are placed at its start."""
    wider = mask | (1 << (number - base))
    if not wider & 1:
        return wider, base
    ones = (~wider & (wider + 1)).bit_length() - 1
    return wider >> ones, base + ones


class _Searcher:
    """One search: the linked list, the stack and the memory of configurations."""

    def __init__(
        self,
        operations: Sequence[Operation],
        known: list[int],
        unknown: list[int],
        table: _Table,
        meter: Meter,
    ) -> None:
        self.known, self.unknown, self.table, self.meter = known, unknown, table, meter
        self.kinds = [table.kinds[i] for i in known]
        self.looks = [table.looks[i] for i in known]
        self.unknown_kinds = [table.kinds[i] for i in unknown]
        self.unknown_times = [operations[i].invoke for i in unknown]
        events: list[tuple[int, int, int]] = []
        for number, i in enumerate(known):
            returned = operations[i].returned
            assert returned is not None
            events.append((operations[i].invoke, 0, number))
            events.append((returned, 1, number))
        events.sort()
        size = len(events)
        self.end = size + 1  # entries 1..size; 0 is the head, size + 1 the end
        self.time = [0, *(event[0] for event in events), 0]
        self.op = [-1] * (size + 2)
        self.other = [0] * (size + 2)  # a call's return; 0 for a return
        calls = [0] * len(known)
        for position, (_, is_return, number) in enumerate(events, 1):
            self.op[position] = number
            if is_return:
                self.other[calls[number]] = position
            else:
                calls[number] = position
        self.next: list[int] = [*range(1, size + 2), 0]
        self.previous: list[int] = [0, *range(size + 1)]

    def run(self) -> Search:
        meter, rows, work_out = self.meter, self.table.rows, self.table.work_out
        following, op, other, kinds, looks = self.next, self.op, self.other, self.kinds, self.looks
        seen: dict[tuple[int, int], list[int]] = {(0, 0): [0]}
        stack: list[
            tuple[int, int, int, int, int]
        ] = []  # entry (~unknown), then state, mask, base, used before
        state = mask = base = used = 0
        entry, resume, furthest = following[0], 0, 0
        steps = meter.steps
        check_at = steps + 512
        while following[0] != self.end:
            steps += 1
            if steps >= check_at:
                meter.steps, check_at = steps, steps + 512
                if (limit := meter.exceeded()) is not None:
                    return Search("unknown", limit, self.time[furthest] if furthest else None)
            if other[entry]:  # a call: try to place its operation next
                number = op[entry]
                after = rows[kinds[number]].get(state)
                if after is None:
                    after = work_out(kinds[number], state)
                if after < 0:
                    entry = following[entry]
                    continue
                wider, start = _placed(mask, base, number)
                if self._is_new(seen, (wider << _BASE_BITS | start, after), used):
                    stack.append((entry, state, mask, base, used))
                    self._lift(entry)
                    state, mask, base = after, wider, start
                    entry = following[0]
                    continue
                if not looks[number]:
                    entry = following[entry]
                    continue
            else:  # the first return left: its operation must be placed before. Perhaps an unknown one helps
                furthest = max(furthest, entry)
                found = self._unknown(seen, resume, entry, state, mask, base, used)
                resume = 0
                if found is not None:
                    candidate, after = found
                    stack.append((~candidate, state, mask, base, used))
                    state, used = after, used | (1 << candidate)
                    entry = following[0]
                    continue
            while True:  # go back to the last choice: a look that fits is none, it can always go first
                if not stack:
                    meter.steps = steps
                    return Search("invalid", frontier=self.time[furthest])
                entry, state, mask, base, used = stack.pop()
                if entry < 0:
                    resume, entry = ~entry + 1, self._first_return()
                    break
                self._drop(entry)
                if not looks[op[entry]]:
                    entry = following[entry]
                    break
        meter.steps = steps
        placed = tuple(self.unknown[~item[0]] if item[0] < 0 else self.known[op[item[0]]] for item in stack)
        return Search("valid", order=placed)

    def _lift(self, entry: int) -> None:
        """Take a call and its return out of the list."""
        following, previous, back = self.next, self.previous, self.other[entry]
        following[previous[entry]] = following[entry]
        previous[following[entry]] = previous[entry]
        following[previous[back]] = following[back]
        previous[following[back]] = previous[back]

    def _drop(self, entry: int) -> None:
        """Put them back; the last pair lifted must be the first dropped."""
        following, previous, back = self.next, self.previous, self.other[entry]
        previous[following[back]] = back
        following[previous[back]] = back
        previous[following[entry]] = entry
        following[previous[entry]] = entry

    def _first_return(self) -> int:
        entry = self.next[0]
        while self.other[entry]:
            entry = self.next[entry]
        return entry

    def _is_new(self, seen: dict[tuple[int, int], list[int]], place: tuple[int, int], used: int) -> bool:
        """Remember a configuration unless one was met that had as much in hand or more."""
        before = seen.get(place)
        if before is None:
            seen[place] = [used]
            self.meter.states += 1
            return True
        for spent in before:
            if spent & ~used == 0:
                return False
        before.append(used)
        self.meter.states += 1
        return True

    def _unknown(
        self,
        seen: dict[tuple[int, int], list[int]],
        start: int,
        entry: int,
        state: int,
        mask: int,
        base: int,
        used: int,
    ) -> tuple[int, int] | None:
        """The next unknown operation, from ``start`` on, worth placing before the return at ``entry``."""
        limit = self.time[entry]
        tried = 0
        for candidate, kind in enumerate(self.unknown_kinds):
            if self.unknown_times[candidate] > limit:
                return None
            if used >> candidate & 1 or tried >> kind & 1:
                continue
            tried |= 1 << kind  # the earliest of equals that is left stands for all of them
            if candidate < start:
                continue
            after = self.table.rows[kind].get(state)
            if after is None:
                after = self.table.work_out(kind, state)
            if after < 0 or after == state:
                continue
            if self._is_new(seen, (mask << _BASE_BITS | base, after), used | (1 << candidate)):
                return candidate, after
        return None
