"""Compaction, sending and loading snapshots, and restarting from one: single rules."""

from __future__ import annotations

import sys
from itertools import combinations_with_replacement, product

import pytest

from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    Applied,
    Change,
    ChangeKind,
    ConfChange,
    Config,
    Entry,
    EntryKind,
    HardState,
    HeartbeatReply,
    Persisted,
    ProgressState,
    Propose,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotReady,
    SnapshotRequest,
    SnapshotSent,
    Unreachable,
    encode_conf_change,
    restart,
    snapshot_meta,
    state_digest,
    step,
)
from tercet.core.raft.log import log_of

from .raft_nodes import Node, entries_of, follower, leader, sent

VOTERS = (1, 2, 3)
META = SnapshotMeta(5, 3, VOTERS)


def snapshot(index: int, term: int, *, leader_term: int = 4, session: int = 0) -> SnapshotRequest:
    meta = SnapshotMeta(index, term, VOTERS)
    return SnapshotRequest(sender=2, to=1, term=leader_term, meta=meta, session=session)


def applied(count: int) -> Node:
    """A follower that has applied ``count`` entries of term 1."""
    node = follower([1] * count, commit=count)
    node.write()
    node.tick(1)
    node.apply()
    assert node.state.applied_index == count
    return node


# --- the log ---------------------------------------------------------------------------------------------


def test_compaction_leaves_older_views_alone() -> None:
    log = log_of(entries_of([1, 1, 2, 2]))
    short = log.compacted(2)
    assert [entry.index for entry in short.entries(3, 4)] == [3, 4]
    assert (short.base_index, short.base_term, short.last_index, short.last_term) == (2, 1, 4, 2)
    longer = short.append(entries_of([3], 5))
    assert [entry.index for entry in log.entries(1, 4)] == [1, 2, 3, 4]
    assert [entry.index for entry in longer.entries(3, 5)] == [3, 4, 5]
    assert short.term_at(1) == -1


def test_compaction_frees_the_entries() -> None:
    log = log_of(entries_of([1] * 1000))
    entry = log.entry(1)
    before = sys.getrefcount(entry)
    log = log.compacted(990)
    assert sys.getrefcount(entry) == before - 1
    assert len(log.buffer) == 10


def test_a_compacted_log_is_the_same_however_it_came_about() -> None:
    compacted = log_of(entries_of([1, 1, 2, 2])).compacted(2)
    loaded = log_of(entries_of([2, 2], 3), 2, 1)
    assert compacted == loaded
    assert compacted.digest() == loaded.digest()


def test_the_log_knows_its_configuration_changes() -> None:
    change = Entry(1, 2, encode_conf_change(ConfChange()), EntryKind.CONF_CHANGE)
    log = log_of((Entry(1, 1), change, Entry(1, 3)))
    assert log.changes(1, 3) == (change,)
    assert log.changes(3, 3) == ()
    assert log.truncated(1).changes(1, 1) == ()
    assert log.truncated(2).last_change == 2
    assert log.compacted(2).last_change == 0
    assert log.truncated(1).append((Entry(2, 2),)).changes(1, 2) == ()


@pytest.mark.parametrize("kinds", list(product((EntryKind.NORMAL, EntryKind.CONF_CHANGE), repeat=5)))
def test_the_log_knows_its_newest_change_however_it_is_cut(kinds: tuple[EntryKind, ...]) -> None:
    entries = [Entry(1, index, b"", kind) for index, kind in enumerate(kinds, 1)]
    whole = log_of(tuple(entries))
    for base, last in combinations_with_replacement(range(6), 2):
        changes = tuple(entry for entry in entries[base:last] if entry.kind)
        for log in (whole.truncated(last).compacted(base), whole.compacted(base).truncated(last)):
            assert log.last_change == (changes[-1].index if changes else 0)
            assert log.changes(base + 1, last) == changes


# --- compaction ------------------------------------------------------------------------------------------


def test_only_as_much_is_forgotten_as_may_be() -> None:
    node = applied(5)
    node.do(SnapshotReady(snapshot_meta(node.state), 2))
    assert (node.state.log.base_index, node.terms) == (2, [1, 1, 1])
    node.do(SnapshotReady(snapshot_meta(node.state), 1))
    assert node.state.log.base_index == 2


def test_an_older_snapshot_than_the_newest_is_ignored() -> None:
    node = applied(5)
    node.do(SnapshotReady(snapshot_meta(node.state), 0))
    before = node.state
    effects = node.do(SnapshotReady(SnapshotMeta(3, 1, VOTERS), 3))
    assert effects.refusals[0].rule == "snapshot/stale"
    assert node.state is before


def test_a_snapshot_of_what_is_not_applied_is_a_mistake() -> None:
    node = applied(2)
    node.hear(node.append(1, 2, 1, [1]))
    with pytest.raises(AssertionError):
        node.do(SnapshotReady(SnapshotMeta(3, 1, VOTERS), 3))


def test_what_comes_before_the_base_is_committed_and_acknowledged_so() -> None:
    node = applied(5)
    node.do(SnapshotReady(snapshot_meta(node.state), 4))
    effects = node.hear(node.append(1, 2, 1, [1, 1]))
    (reply,) = sent(effects, AppendReply)
    assert (reply.success, reply.match_index) == (True, 5)
    assert effects.send == ()


# --- loading ---------------------------------------------------------------------------------------------


def test_nothing_is_acknowledged_or_released_while_a_snapshot_is_loaded() -> None:
    node = follower([1, 1], commit=1)
    effects = node.hear(snapshot(5, 3))
    assert effects.install == effects.configuration == META
    for message in (node.append(4, 5, 3, [4], commit=6), snapshot(9, 4)):
        effects = node.hear(message)
        assert (effects.committed, effects.entries, effects.install) == ((), (), None)
        assert not sent(effects, AppendReply)
    assert node.do(Applied(1)).committed == ()
    assert node.do(Persisted(2, 1)).committed == ()
    effects = node.do(SnapshotInstalled(5))
    assert effects.committed == ()
    assert [reply.match_index for reply in sent(effects, AppendReply)] == [5]
    effects = node.hear(node.append(4, 5, 3, [4], commit=6))
    assert [entry.index for entry in node.write().committed] == [6]


def test_nobody_is_told_who_does_not_lead_any_more() -> None:
    node = follower([1, 1])
    node.hear(snapshot(5, 3), node.beat(6, sender=3))
    effects = node.do(SnapshotInstalled(5))
    assert not sent(effects, AppendReply)
    assert node.state.applied_index == 5


def test_a_log_that_holds_the_snapshots_entry_is_kept() -> None:
    node = follower([1, 1, 3, 3, 3, 3])
    effects = node.hear(snapshot(5, 3, session=7))
    assert effects.install is None
    assert effects.refusals[0].rule == "snapshot/not-needed"
    assert [entry.index for entry in effects.committed] == [1, 2, 3, 4, 5]
    (reply,) = effects.send_after_persist
    assert reply == AppendReply(sender=1, to=2, term=4, success=True, match_index=5, session=7)


def test_a_snapshot_without_a_configuration_is_refused() -> None:
    node = follower()
    meta = SnapshotMeta(5, 3, (1, 1))
    effects = node.hear(SnapshotRequest(sender=2, to=1, term=4, meta=meta))
    assert effects.refusals[0].rule == "snapshot/malformed"
    assert node.state.installing is None


def test_an_answer_about_no_snapshot_is_ignored() -> None:
    node = follower([1])
    assert node.do(SnapshotInstalled(5)).refusals[0].rule == "snapshot/stale"
    assert node.state.applied_index == 0


def test_while_a_snapshot_is_loaded_others_have_to_wait() -> None:
    node = follower([1, 1], commit=1)
    node.hear(snapshot(5, 3))
    for event in (SnapshotInstalled(4), SnapshotReady(SnapshotMeta(1, 1, VOTERS), 0)):
        assert node.do(event).refusals[0].rule == "snapshot/stale"
        assert (node.state.installing, node.state.snapshot) == (snapshot(5, 3), None)
    node.do(SnapshotInstalled(5))
    state = node.state
    assert (state.persisted_index, state.released_index, state.applied_index) == (5, 5, 5)
    assert (state.installing, state.snapshot) == (None, META)


def test_a_new_leader_can_send_what_it_has_loaded_itself() -> None:
    node = follower([1], voters=(1, 2, 3))
    node.hear(snapshot(5, 3))
    node.do(SnapshotInstalled(5))
    node.time_out()
    node.hear(node.vote(2))
    refusal = AppendReply(sender=3, to=1, term=5, success=False, prev_log_index=5)
    node.hear(HeartbeatReply(sender=3, to=1, term=5))
    (request,) = sent(node.hear(refusal), SnapshotRequest)
    assert request.meta == META


# --- sending ---------------------------------------------------------------------------------------------


def lagging() -> Node:
    """A leader of 1, 2 and 3 whose member 3 is being sent a snapshot at 2; its log goes on to 4."""
    node = leader([1])
    node.hear(node.held(2, 2))
    node.write()
    node.apply()
    node.do(SnapshotReady(snapshot_meta(node.state), 2))
    node.hear(HeartbeatReply(sender=3, to=1, term=2))
    refusal = AppendReply(sender=3, to=1, term=2, success=False, prev_log_index=1, hint_index=0)
    assert sent(node.hear(refusal), SnapshotRequest)
    node.do(Propose((b"a",)), Propose((b"b",)))
    return node


def state_of(node: Node, member: int) -> tuple[int, int, int]:
    assert node.state.leadership is not None
    (peer,) = [peer for peer in node.state.leadership.progress if peer.node_id == member]
    return peer.state, peer.match_index, peer.next_index


def test_a_member_is_sent_nothing_else_while_a_snapshot_is_on_its_way() -> None:
    node = lagging()
    assert state_of(node, 3) == (ProgressState.SNAPSHOT, 0, 3)
    messages = node.do(Propose((b"c",))).send + tuple(node.tick(5))
    node.hear(HeartbeatReply(sender=3, to=1, term=2))
    messages += node.effects.send
    assert not [each for each in messages if isinstance(each, AppendRequest) and each.to == 3]


def test_who_has_fallen_silent_is_sent_no_snapshot_before_it_answers() -> None:
    """It may be down for long, and a snapshot is large."""
    node = leader([1], check_quorum=True, election_ticks=10, max_inflight_appends=1)
    node.write()
    node.hear(node.held(2, 2), node.held(3, 2))
    for index in (3, 4):  # 3 is sent the first, and never answers
        node.do(Propose((b"a",)))
        node.write()
        node.hear(node.held(2, index))
    node.apply()
    for _ in range(2):  # quorum checks
        node.hear(HeartbeatReply(sender=2, to=1, term=2))
        node.tick(10)
    node.do(SnapshotReady(snapshot_meta(node.state), 4))
    assert not [each for each in node.tick(5) if isinstance(each, SnapshotRequest)]
    (request,) = sent(node.hear(HeartbeatReply(sender=3, to=1, term=2)), SnapshotRequest)
    assert (request.to, request.meta.index) == (3, 4)


def test_an_acknowledgement_ends_it_without_a_report() -> None:
    node = lagging()
    effects = node.hear(node.held(3, 2))
    assert [entry.index for each in sent(effects, AppendRequest) for entry in each.entries] == [3, 4]
    assert state_of(node, 3)[0] == ProgressState.REPLICATE
    before = node.state
    node.do(SnapshotSent(3, False))
    assert node.state == before


@pytest.mark.parametrize(("ok", "next_index"), [(True, 3), (False, 1)])
def test_after_a_report_the_next_try_waits_for_a_beat(ok: bool, next_index: int) -> None:
    node = lagging()
    assert node.do(SnapshotSent(3, ok)).send == ()
    assert state_of(node, 3) == (ProgressState.PROBE, 0, next_index)
    assert node.hear(HeartbeatReply(sender=3, to=1, term=2)).send == ()
    node.tick(1)
    (message,) = node.hear(HeartbeatReply(sender=3, to=1, term=2)).send
    assert isinstance(message, AppendRequest if ok else SnapshotRequest)


def test_a_late_refusal_does_not_disturb_a_snapshot() -> None:
    node = lagging()
    for prev in (1, 2):
        refusal = AppendReply(sender=3, to=1, term=2, success=False, prev_log_index=prev)
        assert node.hear(refusal).send == ()
        assert node.effects.refusals[0].rule == "append/stale-refusal"
        assert state_of(node, 3) == (ProgressState.SNAPSHOT, 0, 3)


def test_a_lost_connection_does_not_disturb_a_snapshot() -> None:
    """It has a connection of its own, and its sender reports."""
    node = lagging()
    node.do(Unreachable(3))
    assert state_of(node, 3) == (ProgressState.SNAPSHOT, 0, 3)


def test_reports_of_strangers_and_to_followers_are_ignored() -> None:
    node = lagging()
    before = node.state
    node.do(SnapshotSent(9, True))
    assert node.state == before
    other = follower([1])
    other.do(SnapshotSent(2, True))
    assert other.state == follower([1]).state


# --- restart ---------------------------------------------------------------------------------------------


CONFIG = Config(node_id=1, voters=(1,))


def test_a_restart_keeps_entries_the_snapshot_covers_for_those_who_lag() -> None:
    entries = entries_of([1, 1, 1, 3, 3, 3], 2)
    state = restart(CONFIG, HardState(3, 0, 6), entries, snapshot=SnapshotMeta(5, 3, VOTERS))
    assert (state.log.base_index, state.log.base_term, state.log.last_index) == (2, 1, 7)
    assert (state.applied_index, state.commit_index, state.configuration.voters) == (5, 6, VOTERS)
    known = restart(CONFIG, HardState(3, 0, 6), entries, snapshot=META, base_term=1)
    assert (known.log.base_index, known.log.base_term) == (1, 1)


def test_a_log_from_before_the_snapshot_is_forgotten() -> None:
    for entries in (entries_of([1, 1, 1]), entries_of([1] * 9), ()):
        state = restart(CONFIG, HardState(3, 0, 2), entries, snapshot=META)
        assert (state.log.base_index, state.log.last_index, state.log.last_term) == (5, 5, 3)


def test_a_whole_log_is_kept_whole_behind_a_snapshot() -> None:
    state = restart(CONFIG, HardState(3), entries_of([1, 1, 1, 3, 3, 3]), snapshot=META)
    assert (state.log.base_index, state.log.base_term, state.log.last_index) == (0, 0, 6)


def test_changes_that_the_snapshot_covers_are_not_made_again() -> None:
    """Member 4 was added by entry 4 and removed by entry 5, say, whose data the test leaves out."""
    data = encode_conf_change(ConfChange((Change(ChangeKind.ADD_VOTER, 4),)))
    entries = (Entry(1, 3), Entry(3, 4, data, EntryKind.CONF_CHANGE), Entry(3, 5), Entry(3, 6))
    assert restart(CONFIG, HardState(3), entries, 6, META).configuration.voters == VOTERS


@pytest.mark.parametrize("first", [7, 9])
def test_a_gap_behind_the_snapshot_is_told(first: int) -> None:
    with pytest.raises(ValueError, match="cannot follow entry 5"):
        restart(CONFIG, HardState(3), entries_of([3], first), snapshot=META)


def test_changes_behind_the_snapshot_are_made_up_to_what_is_applied() -> None:
    data = encode_conf_change(ConfChange((Change(ChangeKind.ADD_VOTER, 4),)))
    entries = (Entry(3, 6, data, EntryKind.CONF_CHANGE), Entry(3, 7))
    assert restart(CONFIG, HardState(3), entries, 6, META).configuration.voters == (1, 2, 3, 4)
    assert restart(CONFIG, HardState(3), entries, 5, META).configuration.voters == (1, 2, 3)


def test_who_holds_two_changes_knows_that_the_first_is_committed() -> None:
    entries = tuple(
        Entry(1, i, encode_conf_change(ConfChange((Change(ChangeKind.ADD_VOTER, i),))), EntryKind.CONF_CHANGE)
        for i in (1, 2, 3)
    )
    state = restart(CONFIG, HardState(1, 0, 0), entries)
    assert state.commit_index == 2
    assert [entry.index for entry in step(state, Persisted(3, 1)).effects.committed] == [1, 2]


def test_digests_tell_a_node_with_a_snapshot_from_one_without() -> None:
    entries = entries_of([3] * 3, 6)
    plain = restart(CONFIG, HardState(3), entries, 6, META)
    other = restart(CONFIG, HardState(3), entries, 6, SnapshotMeta(5, 3, VOTERS, learners=(9,)))
    assert state_digest(plain) != state_digest(other)
