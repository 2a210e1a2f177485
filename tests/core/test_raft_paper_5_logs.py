"""The Raft paper's claims about logs and their safety (5.3, 5.4); see ``test_raft_paper_5_elections.py``."""

from __future__ import annotations

from itertools import combinations

import pytest
from msgspec.structs import replace

from tercet.core.errors import Corruption
from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    HeartbeatReply,
    HeartbeatRequest,
    Propose,
    VoteReply,
    VoteRequest,
)

from .raft_nodes import (
    cluster,
    follower,
    leader,
    leaders,
    progress_of,
    refusal,
    sent,
    settle,
)

# --- 5.3 Log replication -----------------------------------------------------------------------------------


def test_a_leader_appends_and_sends_in_parallel() -> None:
    """5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in
    parallel to each of the other servers"."""
    node = leader([1])
    node.hear(node.held(2, 2), node.held(3, 2))
    effects = node.do(Propose((b"x",)))
    assert [(entry.index, entry.term, entry.data) for entry in effects.entries] == [(3, 2, b"x")]
    appends = sent(effects, AppendRequest)
    assert [(each.to, each.prev_log_index, each.prev_log_term) for each in appends] == [(2, 2, 2), (3, 2, 2)]
    assert all(each.entries == effects.entries for each in appends)


def test_a_new_leader_supposes_that_all_logs_are_as_its_own_and_knows_nothing() -> None:
    """5.3: "When a leader first comes to power, it initializes all nextIndex values to the index just after
    the last one in its log"; figure 2: matchIndex is "initialized to 0"."""
    node = leader([1, 1, 2])
    others = [peer for peer in progress_of(node) if peer.node_id != 1]
    assert [(peer.node_id, peer.next_index, peer.match_index) for peer in others] == [(2, 4, 0), (3, 4, 0)]
    appends = sent(node.effects, AppendRequest)
    assert [(each.prev_log_index, each.prev_log_term) for each in appends] == [(3, 2), (3, 2)]


def test_one_slow_follower_delays_nothing() -> None:
    """5.3: "a new entry can be replicated with a single round of RPCs to a majority of the cluster; and a
    single slow follower will not impact performance"."""
    node = leader([1])
    node.write()
    node.hear(node.held(2, 2))
    for index in range(3, 30):
        appends = sent(node.do(Propose((b"x",))), AppendRequest)
        assert [each.to for each in appends] == [2]
        node.write()
        assert node.state.commit_index == index - 1
        node.hear(node.held(2, index))
        assert node.state.commit_index == index


def test_a_leader_retries_until_all_followers_store_all_entries() -> None:
    """5.3: "the leader retries AppendEntries RPCs indefinitely ... until all followers eventually store all
    log entries"."""
    node = leader([1])
    node.hear(node.held(2, 2), node.held(3, 1))
    for _ in range(5):  # whatever is sent to node 3 is lost, but for heartbeats
        asked = [each for each in node.tick(3) if type(each) is AppendRequest and each.to == 3]
        effects = node.hear(HeartbeatReply(sender=3, to=1, term=2))
        asked += sent(effects, AppendRequest)
        assert asked
        node.hear(refusal(3, asked[-1].prev_log_index, hint=1))
    effects = node.hear(node.held(3, 1))
    assert [entry.index for each in sent(effects, AppendRequest) for entry in each.entries] == [2]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_an_entry_is_committed_once_a_majority_holds_it(size: int) -> None:
    """5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority
    of the servers"."""
    node = leader(voters=tuple(range(1, size + 1)))
    node.write()
    for member in range(2, size + 1):
        holders = member - 1
        assert (node.state.commit_index == 1) == (2 * holders > size)
        node.hear(node.held(member, 1))
    assert node.state.commit_index == 1


def test_committing_commits_all_entries_before() -> None:
    """5.3: "This also commits all preceding entries in the leader's log, including entries created by
    previous leaders."""
    node = leader([1, 1, 2])
    effects = node.hear(node.held(2, 4), node.held(3, 4))
    assert node.state.commit_index == 4
    assert [entry.index for entry in effects.committed] == [1, 2, 3]
    assert [entry.index for entry in node.write().committed] == [4]


def test_followers_learn_what_is_committed() -> None:
    """5.3: "The leader keeps track of the highest index it knows to be committed, and it includes that
    index in future AppendEntries RPCs (including heartbeats)"."""
    node = leader()
    node.write()
    effects = node.hear(node.held(2, 1))
    assert [(each.to, each.leader_commit) for each in sent(effects, HeartbeatRequest)] == [(2, 1)]
    other = follower()
    other.hear(other.append(1, 0, 0, [1, 1], commit=1))
    other.write()
    assert other.state.commit_index == 1
    other.hear(other.beat(1, commit=2))
    assert [entry.index for entry in other.effects.committed] == [2]


def test_a_follower_applies_in_log_order_and_never_twice() -> None:
    """5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state
    machine (in log order)."""
    node = follower()
    seen = [entry.index for entry in node.hear(node.append(1, 0, 0, [1, 1, 1], commit=1)).committed]
    seen += [entry.index for entry in node.write().committed]
    seen += [entry.index for entry in node.hear(node.beat(1, commit=3)).committed]
    seen += [entry.index for entry in node.hear(node.beat(1, commit=3)).committed]
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("prev", "prev_term", "accepted"), [(2, 2, True), (2, 1, False), (3, 2, False), (0, 0, True)]
)
def test_the_consistency_check(prev: int, prev_term: int, accepted: bool) -> None:
    """5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses
    the new entries."""
    node = follower([1, 2], term=2)
    node.hear(node.append(3, prev, prev_term, [3]))
    (reply,) = sent(node.effects, AppendReply)
    assert reply.success is accepted


#: Figure 7: the leader of term 8, and followers a to f.
FIGURE_7 = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FOLLOWERS = {
    "a": FIGURE_7[:9],
    "b": FIGURE_7[:4],
    "c": [*FIGURE_7, 6],
    "d": [*FIGURE_7, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


@pytest.mark.parametrize("terms", FOLLOWERS.values(), ids=FOLLOWERS.keys())
def test_figure_7_every_follower_comes_to_agree(terms: list[int]) -> None:
    """5.3 and figure 7: "the leader handles inconsistencies by forcing the followers' logs to duplicate its
    own", without ever overwriting an entry of its own."""
    front = leader(FIGURE_7, term=7)
    assert front.state.current_term == 8
    other = follower(terms, term=7)
    whole = [*FIGURE_7, 8]
    waiting = [front.append(8, 10, 6, [8], sender=2)]
    trips = 0
    while other.terms != whole:
        trips += 1
        assert trips < 8
        replies: list[AppendReply] = []
        for request in waiting:  # both nodes are number 1; each takes the other for number 2
            effects = other.hear(replace(request, sender=2, to=1))
            replies += [replace(reply, sender=2, to=1) for reply in sent(effects, AppendReply)]
        waiting = []
        for reply in replies:
            waiting += [each for each in sent(front.hear(reply), AppendRequest) if each.to == 2]
    assert front.terms == whole


def test_a_refusal_skips_whole_terms() -> None:
    """5.3: "With this information, the leader can decrement nextIndex to bypass all of the conflicting
    entries in that term; one AppendEntries RPC will be required for each term with conflicting entries"."""
    node = follower([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])
    node.hear(node.append(8, 10, 1, [8]))
    (reply,) = sent(node.effects, AppendReply)
    assert (reply.hint_index, reply.hint_term) == (3, 1)


def test_only_a_conflict_cuts_the_log() -> None:
    """5.3 and figure 2: "If an existing entry conflicts with a new one (same index but different terms),
    delete the existing entry and all that follow it"; else nothing is deleted."""
    node = follower([1, 1, 1, 1], term=1)
    node.hear(node.append(1, 0, 0, [1, 1]))
    assert node.terms == [1, 1, 1, 1]
    node.hear(node.append(2, 1, 1, [2]))
    assert node.terms == [1, 2]


def test_a_follower_commits_only_what_the_append_proves() -> None:
    """Figure 2: "commitIndex = min(leaderCommit, index of last new entry)"."""
    node = follower([1, 1, 1], term=1)
    node.hear(node.append(2, 0, 0, [1], commit=3))
    assert node.state.commit_index == 1


# --- 5.4 Safety --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "last", "last_term", "granted"),
    [
        ([1, 1], 2, 1, True),  # the same
        ([1, 1], 3, 1, True),  # longer
        ([1, 1], 1, 1, False),  # shorter
        ([1, 1], 1, 2, True),  # a later term, though shorter
        ([1, 2], 9, 1, False),  # an earlier term, though longer
        ([], 0, 0, True),
    ],
)
def test_votes_go_to_logs_that_are_up_to_date(
    mine: list[int], last: int, last_term: int, granted: bool
) -> None:
    """5.4.1: "If the logs have last entries with different terms, then the log with the later term is more
    up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."""
    node = follower(mine, term=2)
    node.hear(node.ask(3, last, last_term))
    (reply,) = sent(node.effects, VoteReply)
    assert reply.vote_granted is granted


def test_a_request_for_votes_tells_how_the_log_ends() -> None:
    """5.4.1: "the RPC includes information about the candidate's log"; figure 2: index and term of the
    candidate's last log entry."""
    requests = [each for each in follower([1, 2, 2], term=4).time_out() if type(each) is VoteRequest]
    assert [(each.to, each.last_log_index, each.last_log_term) for each in requests] == [(2, 3, 2), (3, 3, 2)]


@pytest.mark.parametrize("holders", [*combinations(range(1, 6), 3)])
def test_a_candidate_that_lacks_a_committed_entry_cannot_win(holders: tuple[int, ...]) -> None:
    """5.4.1: "Raft uses the voting process to prevent a candidate from winning an election unless its log
    contains all committed entries. A candidate must contact a majority of the cluster in order to be elected,
    which means that every committed entry must be present in at least one of those servers"."""
    for candidate in range(1, 6):
        nodes = cluster(*[[1, 1] if node_id in holders else [1] for node_id in range(1, 6)], term=1)
        settle(nodes, nodes[candidate].time_out())
        assert leaders(nodes) == ([candidate] if candidate in holders else [])


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting() -> None:
    """5.4.2 and figure 8: "Only log entries from the leader's current term are committed by counting
    replicas"."""
    node = leader([1, 2])
    node.write()
    node.hear(node.held(2, 2), node.held(3, 2))
    assert node.state.commit_index == 0
    node.hear(node.held(2, 3))
    assert node.state.commit_index == 3


def test_no_leader_replaces_what_is_committed() -> None:
    """5.4, figure 3 (state machine safety): were it asked to, the node would rather stop."""
    node = follower([1, 1], commit=2)
    node.write()
    with pytest.raises(Corruption, match="replace entry 2"):
        node.hear(node.append(5, 1, 1, [5]))


def test_two_leaders_of_one_term_are_impossible() -> None:
    """5.2, figure 3 (election safety): a leader that hears another of its term stops."""
    node = leader()
    with pytest.raises(Corruption, match="leads term"):
        node.hear(node.beat(node.state.current_term))


def test_a_leader_never_overwrites_its_own_log() -> None:
    """5.3, figure 3 (leader append-only)."""
    node = leader([1, 1])
    before = node.terms
    node.hear(refusal(2, 2, hint=0))
    node.do(Propose((b"x",)))
    assert node.terms[: len(before)] == before
