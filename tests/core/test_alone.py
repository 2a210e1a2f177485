"""What a survivor writes to become a cluster of one, and that the pure core then leads alone."""

from __future__ import annotations

import pytest

from tercet.core import raft
from tercet.core.alone import CannotStandAlone, stand_alone
from tercet.core.members import bootstrap_entries, first_voters
from tercet.core.raft.types import ChangeKind, Entry, EntryKind, HardState, SnapshotMeta, decode_conf_change

FIRST = bootstrap_entries([(number, f"n{number}", (f"http://h{number}:1",)) for number in (1, 2, 3)])
LOG = (*FIRST, Entry(2, 4), Entry(2, 5))


def changes(entries: tuple[Entry, ...]) -> list[tuple[ChangeKind, int]]:
    assert all(entry.kind == EntryKind.CONF_CHANGE for entry in entries)
    return [(one.kind, one.node_id) for entry in entries for one in decode_conf_change(entry.data).changes]


def test_everybody_else_is_removed_behind_the_whole_log_in_a_new_term() -> None:
    hard_state, added = stand_alone(2, HardState(7, 3, 4), LOG, None)
    assert changes(added) == [(ChangeKind.REMOVE, 1), (ChangeKind.REMOVE, 3)]
    assert [(entry.term, entry.index) for entry in added] == [(8, 6), (8, 7)]
    assert hard_state == HardState(8, 0, 7)


def test_the_configuration_begins_where_the_log_was_let_go() -> None:
    meta = SnapshotMeta(9, 2, voters=(2, 4), learners=(5,))
    _, added = stand_alone(2, HardState(3, 0, 9), (Entry(2, 10),), meta)
    assert changes(added) == [(ChangeKind.REMOVE, 4), (ChangeKind.REMOVE, 5)]
    assert [entry.index for entry in added] == [11, 12]
    _, added = stand_alone(2, HardState(3, 0, 9), (), meta)
    assert [entry.index for entry in added] == [10, 11]


def test_a_learner_is_promoted_first() -> None:
    meta = SnapshotMeta(9, 2, voters=(1,), learners=(2,))
    _, added = stand_alone(2, HardState(3, 0, 9), (), meta)
    assert changes(added) == [(ChangeKind.ADD_VOTER, 2), (ChangeKind.REMOVE, 1)]


def test_doing_it_again_changes_nothing_but_the_term() -> None:
    hard_state, added = stand_alone(2, HardState(3, 0, 9), LOG, None)
    again = stand_alone(2, hard_state, (*LOG, *added), None)
    assert again == (HardState(hard_state.current_term + 1, 0, added[-1].index), ())


@pytest.mark.parametrize(("own_id", "meta", "reason"), [
    (9, None, "no member by its own log"),
    (2, SnapshotMeta(9, 2, voters=(1, 3)), "no member by its own log"),
    (2, SnapshotMeta(9, 2, voters=(1, 2), outgoing=(2, 3)), "several at once"),
])  # fmt: skip
def test_who_cannot_stand_alone_is_told_why(own_id: int, meta: SnapshotMeta | None, reason: str) -> None:
    with pytest.raises(CannotStandAlone, match=reason):
        stand_alone(own_id, HardState(3, 0, 9), () if meta else LOG, meta)


def test_the_core_commits_the_changes_and_leads_alone() -> None:
    hard_state, added = stand_alone(2, HardState(2, 0, 3), LOG, None)
    entries = (*LOG, *added)
    config = raft.Config(node_id=2, voters=first_voters(entries), election_ticks=4, seed=1)
    state = raft.restart(config, hard_state, entries)
    assert state.commit_index == len(entries)
