"""What a leader sends to whom: batches, windows, probes; and what counts as heard (5.3; thesis 10.2)."""

from __future__ import annotations

from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    Change,
    ChangeKind,
    ConfChange,
    Effects,
    HeartbeatReply,
    HeartbeatRequest,
    ProgressState,
    Propose,
    ProposeConfChange,
    ReadIndex,
    Role,
    Unreachable,
)

from .raft_nodes import Node, leader, progress_of, sent


def pipelining(**settings: object) -> Node:
    """Node 1 leads; entry 1 is committed, and 2 confirmed it, so appends to it are pipelined."""
    node = leader(voters=(1, 2, 3), **settings)
    node.write()
    node.hear(node.held(2, 1))
    assert progress_of(node)[1].state == ProgressState.REPLICATE
    return node


def uncommitted(node: Node) -> int:
    assert node.state.leadership is not None
    return node.state.leadership.uncommitted_bytes


def to_2(effects: Effects) -> list[list[int]]:
    """The entries of each append to node 2."""
    return [[entry.index for entry in each.entries] for each in sent(effects, AppendRequest) if each.to == 2]


def test_many_entries_go_in_batches_of_so_many() -> None:
    node = pipelining(max_append_entries=2)
    assert to_2(node.do(Propose(tuple([b"a"] * 5)))) == [[2, 3], [4, 5], [6]]
    assert progress_of(node)[1].inflight == (3, 5, 6)


def test_large_entries_go_in_batches_of_so_many_bytes() -> None:
    node = pipelining(max_append_bytes=10)
    assert to_2(node.do(Propose((b"12345", b"12345", b"1", b"a" * 11, b"1")))) == [[2, 3], [4], [5], [6]]


def test_a_full_window_waits_and_an_answer_opens_it() -> None:
    node = pipelining(max_inflight_appends=2)
    sizes = [to_2(node.do(Propose((b"a",)))) for _ in range(4)]
    assert sizes == [[[2]], [[3]], [], []]
    assert to_2(node.hear(node.held(2, 2))) == [[4, 5]]


def test_a_window_of_bytes_is_full_at_its_bound() -> None:
    """One append may go beyond it: below the bound there is room for whatever comes next."""
    node = pipelining(max_inflight_bytes=10)
    assert to_2(node.do(Propose((b"a" * 9,)))) == [[2]]
    assert to_2(node.do(Propose((b"a",)))) == [[3]]
    assert to_2(node.do(Propose((b"a",)))) == []
    assert progress_of(node)[1].inflight_bytes == (9, 1)
    assert to_2(node.hear(node.held(2, 3))) == [[4]]
    assert progress_of(node)[1].inflight_bytes == (1,)


def test_who_lacks_nothing_is_asked_by_an_empty_append_and_pipelined_again() -> None:
    node = pipelining()
    node.do(Unreachable(2))
    assert progress_of(node)[1].state == ProgressState.PROBE
    node.tick(1)
    effects = node.hear(HeartbeatReply(sender=2, to=1, term=1))
    assert to_2(effects) == [[]]
    node.hear(node.held(2, 1))
    assert progress_of(node)[1].state == ProgressState.REPLICATE


def test_whoever_is_probed_again_has_nothing_in_flight() -> None:
    node = pipelining(max_inflight_bytes=10)
    node.do(Propose((b"a" * 9,)), Propose((b"b",)))
    assert (progress_of(node)[1].inflight, progress_of(node)[1].inflight_bytes) == ((2, 3), (9, 1))
    node.do(Unreachable(2))
    assert (progress_of(node)[1].inflight, progress_of(node)[1].inflight_bytes) == ((), ())


def test_a_refusal_of_what_was_confirmed_since_is_late() -> None:
    node = pipelining()
    node.do(Propose((b"a",)))
    before = progress_of(node)[1]
    late = AppendReply(sender=2, to=1, term=1, success=False, prev_log_index=1)
    assert node.hear(late).send == ()
    assert (node.effects.refusals[0].rule, progress_of(node)[1]) == ("append/stale-refusal", before)


def test_what_is_uncommitted_are_proposals_of_the_own_term() -> None:
    """Neither changes of members nor what an earlier leader left count, so they are not counted off."""
    node = leader([1, 1], voters=(1, 2, 3), max_uncommitted_bytes=10)
    node.do(Propose((b"12345",)))
    node.write()
    node.hear(node.held(2, 4))
    assert (node.state.commit_index, uncommitted(node)) == (4, 0)
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.ADD_LEARNER, 4),))), Propose((b"123",)))
    assert uncommitted(node) == 3
    node.hear(node.held(2, 6))
    node.write()
    assert (node.state.commit_index, uncommitted(node)) == (6, 0)


def test_a_window_is_no_smaller_for_what_an_earlier_leader_left() -> None:
    node = leader([1, 1], voters=(1, 2, 3), max_uncommitted_bytes=10)
    node.do(Propose((b"1234567",)))
    node.hear(node.held(2, 2))
    assert uncommitted(node) == 7


def test_a_probe_is_repeated_only_after_another_beat() -> None:
    node = leader(voters=(1, 2, 3))
    answer = HeartbeatReply(sender=2, to=1, term=1)
    assert to_2(node.hear(answer)) == []  # the first entry was the probe, its answer may be on its way
    node.tick(1)
    assert to_2(node.hear(answer)) == [[1]]
    assert to_2(node.hear(answer)) == []


def test_any_answer_counts_as_being_heard() -> None:
    """A quorum check (thesis 6.2) asks who answered at all, late and out of date as it may be."""
    refusal = AppendReply(sender=2, to=1, term=1, success=False, prev_log_index=1)
    for answer in (HeartbeatReply(sender=2, to=1, term=1), refusal, None):
        node = leader(voters=(1, 2, 3), check_quorum=True, election_ticks=10)
        node.hear(node.held(2, 1))
        node.tick(10)
        assert (node.state.role, progress_of(node)[1].active) == (Role.LEADER, False)
        node.hear(node.held(2, 1) if answer is None else answer)
        assert progress_of(node)[1].active
        node.tick(10)
        assert node.state.role == Role.LEADER
        node.tick(10)
        assert node.state.role == Role.FOLLOWER


def test_a_heartbeat_names_a_round_only_when_a_read_waits() -> None:
    node = pipelining()
    beats = [each for each in node.tick(1) if isinstance(each, HeartbeatRequest)]
    assert [beat.context for beat in beats] == [0, 0]
    node.do(ReadIndex(7))
    beats = [each for each in node.tick(1) if isinstance(each, HeartbeatRequest)]
    assert {beat.context for beat in beats} == {1}
    node.hear(HeartbeatReply(sender=2, to=1, term=1, context=1))
    beats = [each for each in node.tick(1) if isinstance(each, HeartbeatRequest)]
    assert [beat.context for beat in beats] == [0, 0]


def test_a_removal_commits_what_the_smaller_majority_holds() -> None:
    """Entry 3 is held by two of four; when 4 goes, that is a majority (section 6)."""
    node = leader(voters=(1, 2, 3, 4))
    node.write()
    for member in (2, 3):
        node.hear(node.held(member, 1))
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 4),))), Propose((b"a",)))
    node.write()
    node.hear(node.held(2, 3), node.held(3, 2))
    assert node.state.commit_index == 2
    assert [entry.index for entry in node.apply().committed] == [3]
