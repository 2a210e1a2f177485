"""The canonical form of a global state: of all that differ by a renaming of nodes, always the same one."""

from __future__ import annotations

from itertools import permutations

from .cells import Cells

__all__ = ["Shapes", "State"]

State = tuple[int, ...]  # budget, history, cells


class Shapes:
    """Renames states: nodes are ordered by their cells' families; where these tie the least wins."""

    def __init__(self, cells: Cells) -> None:
        tables = cells.tables
        self._cells = cells
        self._tables = tables
        self._free = [node - 1 for node in tables.free]
        # Who stands where: the renaming that brings the node at free position order[k] to the k-th one.
        self._places = {
            tuple([tables.renamings[tables.inverse[place]][node] - 1 for node in tables.free]): place
            for place in range(tables.count)
        }
        self._origins = [  # by renaming: from which position the cell of each position comes
            tuple([tables.renamings[tables.inverse[place]][node] - 1 for node in range(1, tables.size + 1)])
            for place in range(tables.count)
        ]

        self._three = self._by_comparisons() if tables.count == 6 else []

    def _by_comparisons(self) -> list[int]:
        """For three nodes: the renaming by which of them are in order: first two, last two, outer two."""
        known = [0] * 8
        for ranks in permutations(range(3)):
            one, two, three = ranks
            order = tuple([self._free[ranks.index(rank)] for rank in range(3)])
            known[(one < two) + 2 * (two < three) + 4 * (one < three)] = self._places[order]
        return known

    def canonical(self, budget: int, history: int, cells: list[int]) -> tuple[int, State]:
        """The renaming that was needed, and the canonical state."""
        if len(self._places) == 1:
            return 0, (budget, history, *cells)
        families = self._cells.families
        if self._three:
            one, two, three = [families[cells[position]] for position in self._free]
            if one != two and two != three and one != three:
                place = self._three[(one < two) + 2 * (two < three) + 4 * (one < three)]
                return place, self._renamed(place, budget, history, cells)
        ranked = sorted([families[cells[position]] << 3 | position for position in self._free])
        previous, tie = -1, False
        for rank in ranked:
            tie = tie or rank >> 3 == previous
            previous = rank >> 3
        if not tie:
            place = self._places[tuple([rank & 7 for rank in ranked])]
            return place, self._renamed(place, budget, history, cells)
        classes = [rank >> 3 for rank in ranked]
        return min(
            [
                (place, self._renamed(place, budget, history, cells))
                for order, place in self._places.items()
                if [families[cells[position]] for position in order] == classes
            ],
            key=_state_of,
        )

    def _renamed(self, place: int, budget: int, history: int, cells: list[int]) -> State:
        if place == 0:
            return (budget, history, *cells)
        renamed = self._cells.renamed[place]
        history = self._tables.renamed_history(place, history)
        return (budget, history, *[renamed[cells[origin]] for origin in self._origins[place]])


def _state_of(renamed: tuple[int, State]) -> State:
    return renamed[1]
