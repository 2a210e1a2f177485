"""Configuration arithmetic, exhaustively and against dumb twins written as the paper says it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercet.core.raft import (
    Change,
    ChangeKind,
    ConfChange,
    Configuration,
    TransitionKind,
    configuration_of,
    encode_conf_change,
)
from tercet.core.raft.membership import (
    ImpossibleChange,
    changed,
    configuration_in,
    decoded,
    entered,
    left,
    meta_of,
    simply_changed,
    voters_changed,
)
from tercet.core.raft.quorum import VoteResult, reached, vote_result
from tercet.core.raft.refusals import RULES

ADD, REMOVE, LEARN = ChangeKind.ADD_VOTER, ChangeKind.REMOVE, ChangeKind.ADD_LEARNER
IDS = (1, 2, 3, 4, 5)


def subsets(ids: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(ids, size) for size in range(len(ids) + 1))


#: Every configuration of up to five voters, joint ones too (without learners).
EVERY = [
    configuration_of(voters, outgoing)
    for voters in subsets(IDS)
    for outgoing in subsets(IDS)
    if voters
]


def majorities(group: tuple[int, ...]) -> list[frozenset[int]]:
    """Every set of voters that is more than half of the group."""
    return [frozenset(some) for some in subsets(group) if 2 * len(some) > len(group)]


def naive_wins(configuration: Configuration, granted: frozenset[int]) -> bool:
    """The paper's words: a majority of each group."""
    groups = [group for group in (configuration.voters, configuration.outgoing) if group]
    return all(any(majority <= granted for majority in majorities(group)) for group in groups)


def test_votes_are_counted_right_in_every_configuration_and_every_way_to_vote() -> None:
    checked = 0
    for configuration in EVERY:
        members = configuration.members
        wins = {some: naive_wins(configuration, frozenset(some)) for some in subsets(members)}
        for ballots in product((None, True, False), repeat=len(members)):
            granted = tuple(member for member, vote in zip(members, ballots, strict=True) if vote)
            refused = tuple(m for m, vote in zip(members, ballots, strict=True) if vote is False)
            possible = tuple(member for member in members if member not in refused)
            expected = VoteResult.PENDING
            if wins[granted]:
                expected = VoteResult.WON
            elif not wins[possible]:
                expected = VoteResult.LOST
            assert vote_result(configuration, granted, refused) == expected
            checked += 1
    assert checked == 98_976


def orders(size: int) -> Iterator[tuple[int, ...]]:
    """Every way in which so many members can be ahead of, level with and behind each other, from 0 on."""
    for indexes in product(range(size), repeat=size):
        if set(indexes) == set(range(max(indexes) + 1)):
            yield indexes


def ranks(indexes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Each index from the highest on, with the members at or beyond it: a bit for each."""
    return [
        (index, sum(1 << place for place, other in enumerate(indexes) if other >= index))
        for index in sorted(set(indexes), reverse=True)
    ]


def test_what_is_reached_is_right_in_every_configuration_and_every_order() -> None:
    """An index is reached when those at or beyond it would win. Whatever only compares indexes sees nothing
    of them but their order, so these are all there are; ``test_raft_quorum`` draws other numbers."""
    ahead = {size: [(indexes, ranks(indexes)) for indexes in orders(size)] for size in range(1, 6)}
    checked = 0
    for configuration in EVERY:
        members = configuration.members
        wins = [
            naive_wins(configuration, frozenset(m for place, m in enumerate(members) if bits >> place & 1))
            for bits in range(1 << len(members))
        ]
        for indexes, steps in ahead[len(members)]:
            expected = next(index for index, bits in steps if wins[bits])
            assert reached(configuration, indexes) == expected
            checked += 1
    assert checked == 164_552


# --- the changer ----------------------------------------------------------------------------------------


def naive_made(configuration: Configuration, changes: tuple[Change, ...]) -> tuple[set[int], set[int]]:
    """Who votes and who learns after ``changes``, had there never been joint configurations."""
    voters, learners = set(configuration.voters), set(configuration.learners)
    for change in changes:
        voters.discard(change.node_id)
        learners.discard(change.node_id)
        if change.kind == ADD:
            voters.add(change.node_id)
        elif change.kind == LEARN:
            learners.add(change.node_id)
    return voters, learners


def every_change(ids: tuple[int, ...] = IDS) -> Iterator[tuple[Change, ...]]:
    """Every assignment of a kind of change, or none, to each of these ids, but for no change at all."""
    for kinds in product((None, ADD, REMOVE, LEARN), repeat=len(ids)):
        changes = tuple(Change(kind, i) for i, kind in zip(ids, kinds, strict=True) if kind is not None)
        if changes:
            yield changes


def every_simple(ids: tuple[int, ...]) -> Iterator[Configuration]:
    """Every way to be voter, learner or neither, for each of these ids."""
    for voters in subsets(ids):
        for learners in subsets(tuple(i for i in ids if i not in voters)):
            if voters:
                yield configuration_of(voters, (), learners)


#: Of five members, one configuration of each size. The others are the same under other names, and names do
#: not matter: ``test_a_change_treats_all_ids_alike``.
OF_FIVE = [
    configuration_of(IDS[:voters], (), IDS[voters : voters + learners])
    for voters in range(1, 6)
    for learners in range(6 - voters)
]


@pytest.mark.parametrize(
    ("configurations", "ids"),
    [pytest.param([*every_simple(IDS[:4])], IDS[:4], id="four"), pytest.param(OF_FIVE, IDS, id="five")],
)
def test_every_change_of_every_configuration_ends_where_its_words_say(
    configurations: list[Configuration], ids: tuple[int, ...]
) -> None:
    for configuration in configurations:
        for changes in every_change(ids):
            voters, learners = naive_made(configuration, changes)
            change = ConfChange(changes)
            if not voters:
                with pytest.raises(ImpossibleChange, match="conf/no-voters"):
                    changed(configuration, change)
                continue
            after = changed(configuration, change)
            if len(set(configuration.voters) ^ voters) <= 1:
                assert not after.outgoing
            else:
                assert after.outgoing == configuration.voters
                assert after.auto_leave
                assert set(after.voters) == voters
                after = left(after)
            assert after == configuration_of(voters, (), learners)


SOME_IDS = st.integers(1, 6)  # few, so that a list of changes often names one of them twice
CHANGES = st.lists(st.builds(Change, st.sampled_from(list(ChangeKind)), SOME_IDS), min_size=1, max_size=7)


@st.composite
def simple_configurations(draw: st.DrawFn) -> Configuration:
    voters = draw(st.sets(SOME_IDS, min_size=1))
    return configuration_of(voters, (), draw(st.sets(SOME_IDS)) - voters)


@settings(deadline=None, max_examples=300)
@given(simple_configurations(), CHANGES, st.sampled_from(TransitionKind))
@example(configuration_of((1, 2)), [Change(ADD, 4), Change(REMOVE, 4)], TransitionKind.AUTO)
@example(configuration_of((1, 2)), [Change(ADD, 4), Change(REMOVE, 4)], TransitionKind.IMPLICIT)
@example(configuration_of((1,)), [Change(REMOVE, 1), Change(ADD, 1)], TransitionKind.AUTO)
@example(configuration_of((1, 2)), [Change(LEARN, 2), Change(REMOVE, 2)], TransitionKind.EXPLICIT)
def test_any_list_of_changes_ends_where_its_words_say_though_it_names_an_id_twice(
    before: Configuration, changes: list[Change], transition: TransitionKind
) -> None:
    voters, learners = naive_made(before, tuple(changes))
    change = ConfChange(tuple(changes), transition)
    if not voters:
        with pytest.raises(ImpossibleChange, match="conf/no-voters"):
            changed(before, change)
        return
    after = changed(before, change)
    if transition == TransitionKind.AUTO and len(set(before.voters) ^ voters) <= 1:
        assert after == configuration_of(voters, (), learners)
        return
    old = set(before.voters)
    assert (set(after.voters), after.outgoing) == (voters, before.voters)
    assert (set(after.learners), set(after.learners_next)) == (learners - old, learners & old)
    assert after.auto_leave == (transition != TransitionKind.EXPLICIT)
    assert left(after) == configuration_of(voters, (), learners)


@settings(deadline=None)
@given(simple_configurations(), CHANGES, st.sampled_from(TransitionKind), st.permutations(range(1, 7)))
def test_a_change_treats_all_ids_alike(
    before: Configuration, changes: list[Change], transition: TransitionKind, names: list[int]
) -> None:
    """Under other names the same change of the same configuration has the same end, under those names."""

    def renamed(configuration: Configuration) -> Configuration:
        voters, outgoing, learners, learners_next = (
            [names[i - 1] for i in group]
            for group in (
                configuration.voters,
                configuration.outgoing,
                configuration.learners,
                configuration.learners_next,
            )
        )
        auto_leave = configuration.auto_leave
        return configuration_of(voters, outgoing, learners, learners_next, auto_leave=auto_leave)

    mine = ConfChange(tuple(changes), transition)
    theirs = ConfChange(tuple(Change(each.kind, names[each.node_id - 1]) for each in changes), transition)
    try:
        after = renamed(changed(before, mine))
    except ImpossibleChange as impossible:
        with pytest.raises(ImpossibleChange, match=impossible.rule):
            changed(renamed(before), theirs)
        return
    assert changed(renamed(before), theirs) == after


def test_neighbours_share_a_voter_in_any_two_majorities() -> None:
    """The one property that all of section 6 is about: no two disjoint majorities decide."""
    seen = 0
    for old in subsets(IDS):
        if not old:
            continue
        configuration = configuration_of(old)
        winners = majorities(old)
        possible = (changes for changes in every_change() if naive_made(configuration, changes)[0])
        ends = dict.fromkeys(changed(configuration, ConfChange(changes)) for changes in possible)
        seen += len(ends)
        for after in ends:
            if after.outgoing:
                joint = [some for some in map(frozenset, subsets(after.members)) if naive_wins(after, some)]
                assert all(mine & theirs for mine in winners for theirs in joint)
                new = majorities(left(after).voters)
                assert all(mine & theirs for mine in joint for theirs in new)
            else:
                assert len(set(old) ^ set(after.voters)) <= 1
                assert all(mine & theirs for mine in winners for theirs in majorities(after.voters))
    assert seen > 5_000


def test_a_demoted_voter_stays_a_voter_until_the_joint_configuration_is_left() -> None:
    joint = entered(configuration_of((1, 2, 3)), (Change(LEARN, 3), Change(ADD, 4)), auto_leave=False)
    assert (joint.voters, joint.outgoing, joint.learners) == ((1, 2, 4), (1, 2, 3), ())
    assert joint.learners_next == (3,)
    assert joint.members == (1, 2, 3, 4)
    assert left(joint) == configuration_of((1, 2, 4), (), (3,))


def test_who_is_demoted_and_promoted_again_in_one_change_is_no_learner() -> None:
    joint = entered(configuration_of((1, 2)), (Change(LEARN, 2), Change(ADD, 2)), auto_leave=False)
    assert (joint.voters, joint.learners_next) == ((1, 2), ())


def test_a_change_of_learners_alone_is_simple_however_many() -> None:
    after = changed(configuration_of((1,)), ConfChange(tuple(Change(LEARN, i) for i in range(2, 9))))
    assert after == configuration_of((1,), (), range(2, 9))


@pytest.mark.parametrize(
    ("transition", "auto_leave"), [(TransitionKind.IMPLICIT, True), (TransitionKind.EXPLICIT, False)]
)
def test_the_proposer_may_ask_for_the_joint_way(transition: TransitionKind, auto_leave: bool) -> None:
    after = changed(configuration_of((1, 2)), ConfChange((Change(ADD, 3),), transition))
    assert after == configuration_of((1, 2, 3), (1, 2), auto_leave=auto_leave)


def test_the_first_configuration_is_made_in_one_step() -> None:
    nobody = configuration_of(())
    after = changed(nobody, ConfChange(tuple(Change(ADD, i) for i in (1, 2, 3))))
    assert after == configuration_of((1, 2, 3))
    with pytest.raises(ImpossibleChange, match="conf/no-voters"):
        entered(nobody, (Change(ADD, 1),), auto_leave=True)


JOINT = configuration_of((1, 2, 3), (1, 2))


@pytest.mark.parametrize(
    ("rule", "configuration", "change"),
    [
        ("conf/joint", JOINT, ConfChange((Change(ADD, 4),))),
        ("conf/joint", JOINT, ConfChange((Change(ADD, 4),), TransitionKind.EXPLICIT)),
        ("conf/not-joint", configuration_of((1,)), ConfChange()),
        ("conf/no-voters", configuration_of((1,)), ConfChange((Change(REMOVE, 1),))),
        ("conf/no-voters", configuration_of((1,)), ConfChange((Change(LEARN, 1),))),
        ("conf/no-voters", configuration_of((1, 2)), ConfChange((Change(REMOVE, 1), Change(REMOVE, 2)))),
        ("conf/bad-id", configuration_of((1,)), ConfChange((Change(ADD, 0),))),
    ],
)
def test_an_impossible_change_names_its_rule(
    rule: str, configuration: Configuration, change: ConfChange
) -> None:
    with pytest.raises(ImpossibleChange) as caught:
        changed(configuration, change)
    assert caught.value.rule == rule
    assert rule in RULES


def test_data_that_is_no_change_is_told() -> None:
    with pytest.raises(ImpossibleChange, match="conf/malformed"):
        decoded(b"\xc1")
    change = ConfChange((Change(ADD, 7),), TransitionKind.EXPLICIT, b"context")
    assert decoded(encode_conf_change(change)) == change


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    voters = draw(st.sets(st.integers(1, 9), min_size=1, max_size=5))
    learners = draw(st.sets(st.integers(1, 9), max_size=3)) - voters
    simple = configuration_of(voters, (), learners)
    if draw(st.booleans()):
        return simple
    changes = tuple(
        Change(draw(st.sampled_from(list(ChangeKind))), draw(st.integers(1, 9)))
        for _ in range(draw(st.integers(1, 4)))
    )
    try:
        return entered(simple, changes, auto_leave=draw(st.booleans()))
    except ImpossibleChange:
        return simple


@settings(deadline=None)
@given(configurations(), st.integers(1, 99), st.integers(1, 9))
def test_a_snapshot_carries_its_configuration_whole(
    configuration: Configuration, index: int, term: int
) -> None:
    meta = meta_of(configuration, index, term)
    assert (meta.index, meta.term) == (index, term)
    assert configuration_in(meta) == configuration


@settings(deadline=None)
@given(configurations())
def test_nobody_is_voter_and_learner_at_once(configuration: Configuration) -> None:
    voting = set(configuration.voters) | set(configuration.outgoing)
    assert not voting & set(configuration.learners)
    assert set(configuration.learners_next) <= set(configuration.outgoing) - set(configuration.voters)
    assert set(configuration.members) == voting | set(configuration.learners)


def test_simple_changes_tell_how_many_voters_they_change() -> None:
    before = configuration_of((1, 2, 3), (), (4,))
    after = simply_changed(before, (Change(ADD, 4), Change(LEARN, 3), Change(LEARN, 9)))
    assert after == configuration_of((1, 2, 4), (), (3, 9))
    assert voters_changed(before, after) == 2
