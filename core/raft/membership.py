"""From one configuration to the next: the arithmetic of membership changes, as functions of values.

A change of at most one voter keeps every old majority and every new one in touch, so it may be made at once
(a simple change). Anything larger goes through a joint configuration, in which a decision needs a majority
of the old voters and one of the new, and then leaves it by a second entry. A voter that is to become a
learner stays a voter of the old group as long as the configuration is joint (``learners_next``).

Here is only what follows from the values; when a change may be proposed and how it takes effect is in
``reconfigure``.

Source: Ongaro and Ousterhout 2014, section 6; thesis 4.1 (one server at a time), 4.2.1 (learners) and 4.3
(joint consensus).
"""

from __future__ import annotations

import msgspec

from .quorum import Configuration, configuration_of
from .types import Change, ChangeKind, ConfChange, SnapshotMeta, TransitionKind, decode_conf_change

__all__ = [
    "ImpossibleChange", "changed", "configuration_in", "decoded", "entered", "left", "meta_of",
    "simply_changed", "voters_changed",
]


class ImpossibleChange(ValueError):
    """The change cannot be made to this configuration; ``rule`` says why (a key of ``refusals.RULES``)."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


def decoded(data: bytes) -> ConfChange:
    """The change in an entry's ``data``. Raises ``ImpossibleChange`` when there is none."""
    try:
        return decode_conf_change(data)
    except msgspec.MsgspecError as error:
        raise ImpossibleChange("conf/malformed", str(error)) from error


def changed(configuration: Configuration, change: ConfChange) -> Configuration:
    """The configuration in force after ``change``.

    Raises:
        ImpossibleChange: it cannot be made to this configuration.
    """
    if not change.changes:
        return left(configuration)
    if change.transition == TransitionKind.AUTO:
        simple = simply_changed(configuration, change.changes)
        # Nobody could have decided anything before the first configuration: it is made in one step.
        if not configuration.voters or voters_changed(configuration, simple) <= 1:
            return simple
    # Left by the leader itself, unless the proposer wants to leave by an entry of its own.
    return entered(configuration, change.changes, auto_leave=change.transition != TransitionKind.EXPLICIT)


def voters_changed(before: Configuration, after: Configuration) -> int:
    """How many members became voters or ceased to be."""
    return len(frozenset(before.voters) ^ frozenset(after.voters))


def simply_changed(configuration: Configuration, changes: tuple[Change, ...]) -> Configuration:
    """All ``changes`` made at once; safe only while at most one voter changes (thesis 4.1).

    Raises:
        ImpossibleChange: the configuration is joint, or nobody would be left to vote.
    """
    if configuration.outgoing:
        raise ImpossibleChange("conf/joint", f"old voters {configuration.outgoing}")
    return _made(configuration.voters, (), configuration.learners, changes, auto_leave=False)


def entered(configuration: Configuration, changes: tuple[Change, ...], *, auto_leave: bool) -> Configuration:
    """The joint configuration in which ``changes`` are made among the incoming voters (section 6).

    Raises:
        ImpossibleChange: it is joint already, has no voters, or nobody would be left to vote.
    """
    if configuration.outgoing:
        raise ImpossibleChange("conf/joint", f"old voters {configuration.outgoing}")
    if not configuration.voters:
        raise ImpossibleChange("conf/no-voters", "before the change")
    voters = configuration.voters
    return _made(voters, voters, configuration.learners, changes, auto_leave=auto_leave)


def left(configuration: Configuration) -> Configuration:
    """The joint configuration without its old voters; demoted ones become learners (section 6).

    Raises:
        ImpossibleChange: it is not joint.
    """
    if not configuration.outgoing:
        raise ImpossibleChange("conf/not-joint", f"voters {configuration.voters}")
    learners = configuration.learners + configuration.learners_next
    return configuration_of(configuration.voters, (), learners)


def _made(
    voters: tuple[int, ...],
    outgoing: tuple[int, ...],
    learners: tuple[int, ...],
    changes: tuple[Change, ...],
    *,
    auto_leave: bool,
) -> Configuration:
    """Make ``changes`` one after the other among incoming voters and learners."""
    voting, learning = dict.fromkeys(voters), dict.fromkeys(learners)
    learning_next: dict[int, None] = {}
    for change in changes:
        node_id = change.node_id
        if node_id <= 0:
            raise ImpossibleChange("conf/bad-id", f"member {node_id}")
        if change.kind == ChangeKind.ADD_LEARNER and node_id in learning:
            continue
        for group in (voting, learning, learning_next):
            group.pop(node_id, None)
        if change.kind == ChangeKind.ADD_VOTER:
            voting[node_id] = None
        elif change.kind == ChangeKind.ADD_LEARNER:
            # No member may be voter and learner at once, so an old voter learns only when it has left.
            (learning_next if node_id in outgoing else learning)[node_id] = None
    if not voting:
        raise ImpossibleChange("conf/no-voters", "after the change")
    return configuration_of(voting, outgoing, learning, learning_next, auto_leave=auto_leave)


def meta_of(configuration: Configuration, index: int, term: int) -> SnapshotMeta:
    """What a snapshot at ``index`` of ``term`` says of the configuration in force there."""
    return SnapshotMeta(
        index,
        term,
        configuration.voters,
        configuration.outgoing,
        configuration.learners,
        configuration.learners_next,
        configuration.auto_leave,
    )


def configuration_in(meta: SnapshotMeta) -> Configuration:
    """The configuration that a snapshot carries. Raises ``ValueError`` when it is none."""
    return configuration_of(
        meta.voters, meta.outgoing, meta.learners, meta.learners_next, auto_leave=meta.auto_leave
    )
