"""Quorum arithmetic against dumb twins that count as the paper says it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.core.raft import Configuration, configuration_of
from tercet.core.raft.quorum import VoteResult, quorum_value, reached, vote_result

IDS = st.sets(st.integers(1, 9), min_size=1, max_size=7)


def naive_quorum_value(values: list[int]) -> int:
    """The greatest value v for which a majority has reached at least v."""
    return max(v for v in [0, *values] if 2 * sum(other >= v for other in values) > len(values))


def naive_won(group: tuple[int, ...], granted: set[int]) -> bool:
    return 2 * len(granted & set(group)) > len(group)


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=9))
def test_a_quorum_value_is_what_a_majority_has_reached(values: list[int]) -> None:
    assert quorum_value(values) == naive_quorum_value(values)


def test_nobody_has_reached_anything() -> None:
    assert quorum_value([]) == 0


@settings(deadline=None)
@given(IDS, IDS, st.data())
def test_a_joint_configuration_needs_both_majorities(
    voters: set[int], outgoing: set[int], data: st.DataObject
) -> None:
    configuration = configuration_of(voters, outgoing)
    values = [data.draw(st.integers(0, 9)) for _ in configuration.members]
    by_id = dict(zip(configuration.members, values, strict=True))
    expected = min(
        naive_quorum_value([by_id[v] for v in voters]), naive_quorum_value([by_id[v] for v in outgoing])
    )
    assert reached(configuration, values) == expected


@settings(deadline=None)
@given(IDS, st.one_of(st.just(set()), IDS), st.data())
def test_votes_are_counted_in_each_group(voters: set[int], outgoing: set[int], data: st.DataObject) -> None:
    configuration = configuration_of(voters, outgoing)
    granted = data.draw(st.sets(st.sampled_from(configuration.members)))
    refused = data.draw(st.sets(st.sampled_from(configuration.members))) - granted
    groups = [group for group in (configuration.voters, configuration.outgoing) if group]
    best_case = granted | (set(configuration.members) - refused)
    if all(naive_won(group, granted) for group in groups):
        expected = VoteResult.WON
    elif not all(naive_won(group, best_case) for group in groups):
        expected = VoteResult.LOST
    else:
        expected = VoteResult.PENDING
    assert vote_result(configuration, granted, refused) == expected


@settings(deadline=None)
@given(IDS, st.data())
def test_learners_do_not_count(voters: set[int], data: st.DataObject) -> None:
    learners = data.draw(st.sets(st.integers(10, 14), min_size=1))
    configuration = configuration_of(voters, (), learners)
    values = [9 if member >= 10 else 1 for member in configuration.members]
    assert reached(configuration, values) == 1


@pytest.mark.parametrize(
    ("groups", "auto_leave", "what"),
    [
        ([(1, 1)], False, r"distinct ids > 0 in voters, got \(1, 1\)"),
        ([(0, 1)], False, r"distinct ids > 0 in voters, got \(0, 1\)"),
        ([(1,), (-2,)], False, r"distinct ids > 0 in outgoing, got \(-2,\)"),
        ([(1,), (), (4, 4)], False, r"distinct ids > 0 in learners, got \(4, 4\)"),
        ([(1,), (2, 3), (), (3, 3)], False, r"distinct ids > 0 in learners_next, got \(3, 3\)"),
        ([(1,), (), (1,)], False, r"learners apart from voters, got \(1,\) and \(1,\)"),
        ([(1,), (2,), (2,)], False, r"learners apart from voters, got \(2,\) and \(1,\)"),
        ([(1,), (), (), (2,)], False, r"learners_next among outgoing only, got \(2,\) and \(\)"),
        ([(1,), (2,), (), (3,)], False, r"learners_next among outgoing only, got \(3,\) and \(2,\)"),
        ([(1, 2), (2, 3), (), (2,)], False, r"learners_next among outgoing only, got \(2,\) and \(2, 3\)"),
        ([(1, 2)], True, r"a joint configuration to leave by itself, got voters \(1, 2\) alone"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    groups: list[tuple[int, ...]], auto_leave: bool, what: str
) -> None:
    with pytest.raises(ValueError, match=f"^need {what}$"):
        configuration_of(*groups, auto_leave=auto_leave)


def test_a_joint_configuration_may_say_how_it_is_left() -> None:
    joint = configuration_of((1, 2), (2, 3), (7,), (3,), auto_leave=True)
    assert joint == Configuration((1, 2), (2, 3), (7,), (1, 2, 3, 7), (3,), True)


def test_members_are_everybody_in_order() -> None:
    assert configuration_of((3, 1), (2, 1), (7,)) == Configuration((1, 3), (1, 2), (7,), (1, 2, 3, 7))
