"""Which configurations a cluster has had, from the outside: by what has been committed.

The explorer needs to know who is a member without asking any node: to wipe only disks that nobody counts on,
and to leave a majority alive at the end that can decide whatever configuration may be in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from tercet.core.raft import Entry, EntryKind, RaftState
from tercet.core.raft.membership import ImpossibleChange, changed, decoded
from tercet.core.raft.quorum import Configuration, VoteResult, configuration_of, vote_result

from ..invariants import Violation
from .disk import Disk

__all__ = ["Configurations", "after_change", "quorums_meet"]


class Configurations:
    """The chain of committed configurations, read from the committed log as it grows."""

    def __init__(self, voters: Sequence[int], committed: list[Entry]) -> None:
        self._committed = committed
        self._read = 0
        self._chain: list[tuple[int, Configuration]] = [(0, configuration_of(voters))]
        self._voted = dict.fromkeys(voters)

    def _catch_up(self) -> None:
        for entry in self._committed[self._read :]:
            if entry.kind == EntryKind.CONF_CHANGE:
                before = self._chain[-1][1]
                configuration = after_change(before, entry)
                if not quorums_meet(before, configuration):
                    story = f"{before} and {configuration}, made by entry {entry.index}, decide apart"
                    raise Violation("joint safety", story)
                self._chain.append((entry.index, configuration))
                self._voted.update(dict.fromkeys(configuration.voters))
        self._read = len(self._committed)

    def has_voted(self, node: int) -> bool:
        """Whether it ever was a voter."""
        self._catch_up()
        return node in self._voted

    def is_member(self, node: int) -> bool:
        """Whether it is in the newest committed configuration."""
        self._catch_up()
        return node in self._chain[-1][1].members

    def decides(self, nodes: Sequence[int]) -> bool:
        """Whether ``nodes`` are a majority of the newest committed configuration."""
        self._catch_up()
        return vote_result(self._chain[-1][1], nodes) == VoteResult.WON

    def able(self, mask: int, nodes: Iterable[tuple[Disk, RaftState | None]], size: int) -> int:
        """``mask`` with as many of ``size`` nodes more as it needs to decide, whoever believes what.

        Somebody may not know yet that the newest configurations are in force, and what is not committed yet
        may become so.
        """
        self._catch_up()
        possible = self._possible(tuple(nodes))
        for node in range(1, size + 1):
            chosen = [each for each in range(1, size + 1) if mask >> each & 1]
            if all(vote_result(each, chosen) == VoteResult.WON for each in possible):
                break
            mask |= 1 << node
        return mask

    def _possible(self, nodes: tuple[tuple[Disk, RaftState | None], ...]) -> list[Configuration]:
        newest_index, newest = self._chain[-1]
        if not newest_index and all(_no_changes(disk, state) for disk, state in nodes):
            return [newest]
        known = min(_known(disk, state) for disk, state in nodes)
        current = max(index for index, _ in self._chain if index <= known)
        found = [configuration for index, configuration in self._chain if index >= current]
        for disk, state in nodes:
            found += _ahead(newest, _log(disk, state), len(self._committed))
            if state is not None and state.configuration.members:
                found.append(state.configuration)
        return found


@lru_cache(maxsize=4096)
def quorums_meet(one: Configuration, other: Configuration) -> bool:
    """Whether nothing can be decided in both without a node that takes part in both decisions.

    Of two configurations that follow each other this must hold (section 6). It need not hold of those that
    any two nodes believe in: whoever lags behind several changes is kept from deciding by its log. Counted
    from all subsets and not with the core's own arithmetic, so that a wrong count does not hide itself.
    Without voters nothing is decided.
    """
    if not one.voters or not other.voters:
        return True
    either = sorted({*one.voters, *one.outgoing, *other.voters, *other.outgoing})
    place = {node: 1 << number for number, node in enumerate(either)}
    groups, others = (
        [
            (sum([place[node] for node in group]), len(group))
            for group in (each.voters, each.outgoing)
            if group
        ]
        for each in (one, other)
    )
    full = (1 << len(either)) - 1
    return not any(
        all(2 * (side & mask).bit_count() > size for mask, size in groups)
        and all(2 * (~side & mask).bit_count() > size for mask, size in others)
        for side in range(full + 1)
    )


def after_change(configuration: Configuration, entry: Entry) -> Configuration:
    """What the change in ``entry`` makes of a configuration; the same one if that is impossible."""
    try:
        return changed(configuration, decoded(entry.data))
    except ImpossibleChange:
        return configuration


def _log(disk: Disk, state: RaftState | None) -> Sequence[Entry]:
    if state is None:
        return disk.entries
    return state.log.entries(state.log.base_index + 1, state.log.last_index)


def _no_changes(disk: Disk, state: RaftState | None) -> bool:
    return not any(entry.kind for entry in _log(disk, state)) and disk.snapshot is None


def _known(disk: Disk, state: RaftState | None) -> int:
    if state is not None:
        return state.applied_index
    return max(disk.hard_state.commit_index, 0 if disk.snapshot is None else disk.snapshot.index)


def _ahead(newest: Configuration, log: Iterable[Entry], committed: int) -> list[Configuration]:
    found = []
    for entry in log:
        if entry.kind == EntryKind.CONF_CHANGE and entry.index > committed:
            newest = after_change(newest, entry)
            found.append(newest)
    return found
