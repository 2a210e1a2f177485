"""The canonical form of a global state: of all that differ by a renaming of nodes, always the same one."""

from __future__ import annotations

from .tables import Tables

__all__ = ["Parts", "Shapes", "State"]

State = tuple[int, ...]  # budget, history, nodes, messages
Parts = tuple[int, int, State, State]  # the same four, apart


class Shapes:
    """Renames states; remembers nothing but tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._free = tables.free
        # Who stands where: the renaming that brings the node at free position order[k] to the k-th one.
        self._places = {
            tuple([tables.renamings[tables.inverse[place]][node] - 1 for node in tables.free]): place
            for place in range(tables.count)
        }
        self._renamed_nodes: list[dict[int, int]] = [{} for _ in range(tables.count)]

    def canonical(self, parts: Parts) -> tuple[int, State]:
        """The renaming that was needed, and the canonical state."""
        budget, history, nodes, wire = parts
        tables = self._tables
        count = tables.count
        if count == 1:
            return 0, (budget, history, *nodes, *sorted(wire))
        ranked = sorted([(nodes[node - 1] // count, node - 1) for node in self._free])
        classes = [family for family, _ in ranked]
        if len(frozenset(classes)) == len(classes):
            place = self._places[tuple([position for _, position in ranked])]
            return place, self._renamed(place, budget, history, nodes, wire)
        best: tuple[State, int] | None = None
        for order, place in self._places.items():
            if [nodes[position] // count for position in order] == classes:
                state = self._renamed(place, budget, history, nodes, wire)
                if best is None or state < best[0]:
                    best = state, place
        assert best is not None
        return best[1], best[0]

    def _renamed(self, place: int, budget: int, history: int, nodes: State, wire: State) -> State:
        if place == 0:
            return (budget, history, *nodes, *sorted(wire))
        tables = self._tables
        known = self._renamed_nodes[place]
        image = tables.renamings[place]
        after = list(nodes)
        for position, node in enumerate(nodes):
            renamed = known.get(node)
            if renamed is None:
                renamed = known[node] = tables.renamed_node(place, node)
            after[image[position + 1] - 1] = renamed
        column = tables.renamed_messages[place]
        return (
            budget,
            tables.renamed_history(place, history),
            *after,
            *sorted([column[message] for message in wire]),
        )
