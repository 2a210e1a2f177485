"""Majorities as functions of values: who has won, and what a majority has reached.

A ``Configuration`` is one majority group, or two while a joint change is under way (``outgoing`` is then
not empty): a decision needs a majority of each. Learners are replicated to and count nowhere. How one
configuration becomes another is in ``membership``.

Source: Ongaro and Ousterhout 2014, sections 5.2 to 5.4 and 6.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum

import msgspec

__all__ = ["Configuration", "VoteResult", "configuration_of", "quorum_value", "reached", "vote_result"]


class VoteResult(IntEnum):
    PENDING = 0
    WON = 1
    LOST = 2


class Configuration(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who takes part. ``members`` is everybody, in ascending order; build with ``configuration_of``."""

    voters: tuple[int, ...]
    outgoing: tuple[int, ...] = ()  # the old voters during a joint change, else empty
    learners: tuple[int, ...] = ()
    members: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()  # voters of ``outgoing`` that become learners when it is left
    auto_leave: bool = False  # the leader leaves the joint configuration by itself


def configuration_of(
    voters: Collection[int],
    outgoing: Collection[int] = (),
    learners: Collection[int] = (),
    learners_next: Collection[int] = (),
    *,
    auto_leave: bool = False,
) -> Configuration:
    """Build a configuration; ids must be positive, and no id may be both voter and learner.

    Raises:
        ValueError: an id is not positive, repeated, or in two places, or a member of ``learners_next`` is
            not on its way out of the voters, or a configuration that is not joint says how to be left.
    """
    groups = (voters, outgoing, learners, learners_next)
    for name, group in zip(("voters", "outgoing", "learners", "learners_next"), groups, strict=True):
        if len(frozenset(group)) != len(group) or any(member <= 0 for member in group):
            raise ValueError(f"need distinct ids > 0 in {name}, got {tuple(group)}")
    either = frozenset(voters) | frozenset(outgoing)
    if either & frozenset(learners):
        raise ValueError(f"need learners apart from voters, got {tuple(learners)} and {tuple(voters)}")
    if not frozenset(learners_next) <= frozenset(outgoing) - frozenset(voters):
        raise ValueError(
            f"need learners_next among outgoing only, got {tuple(learners_next)} and {tuple(outgoing)}"
        )
    if auto_leave and not outgoing:
        raise ValueError(f"need a joint configuration to leave by itself, got voters {tuple(voters)} alone")
    return Configuration(
        tuple(sorted(voters)),
        tuple(sorted(outgoing)),
        tuple(sorted(learners)),
        tuple(sorted(either | frozenset(learners))),
        tuple(sorted(learners_next)),
        auto_leave,
    )


def quorum_value(values: Sequence[int]) -> int:
    """The highest value that a majority has reached: at least that many values are >= it. 0 for nobody."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0


def reached(configuration: Configuration, values: Sequence[int]) -> int:
    """What ``configuration`` as a whole has reached (6: both groups); ``values`` follow its ``members``."""
    members = configuration.members
    if configuration.voters == members and not configuration.outgoing:
        return quorum_value(values)
    by_id = dict(zip(members, values, strict=True))
    incoming = quorum_value([by_id[voter] for voter in configuration.voters])
    if not configuration.outgoing:
        return incoming
    return min(incoming, quorum_value([by_id[voter] for voter in configuration.outgoing]))


def _group_result(group: Sequence[int], granted: Collection[int], refused: Collection[int]) -> VoteResult:
    need = len(group) // 2 + 1
    if not group or sum(voter in granted for voter in group) >= need:
        return VoteResult.WON
    if sum(voter in refused for voter in group) > len(group) - need:
        return VoteResult.LOST
    return VoteResult.PENDING


def vote_result(
    configuration: Configuration, granted: Collection[int], refused: Collection[int] = ()
) -> VoteResult:
    """Count votes (5.2; 6): WON with a majority of every group, LOST once some group cannot reach one."""
    incoming = _group_result(configuration.voters, granted, refused)
    outgoing = _group_result(configuration.outgoing, granted, refused)
    if VoteResult.LOST in (incoming, outgoing):
        return VoteResult.LOST
    return VoteResult.WON if incoming == outgoing == VoteResult.WON else VoteResult.PENDING
