"""The claims of the Raft paper, one by one: Ongaro and Ousterhout, In Search of an Understandable Consensus
Algorithm (extended version), 2014. Each test names the section it is about.

Where a claim is kept in another way, its test says how. Two are not kept, as in etcd. Section 6: a server
uses the newest configuration in its log; here a change counts when it is applied, so that it never has to
be taken back (the tests named ``test_here_...``). Section 8: clients give every command a serial number,
and the state machine executes none twice. Nothing here knows a client beyond its connection: who lost an
answer is told that the outcome is not known, and may ask again with a comparison (etcd's transactions),
which happens once at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from msgspec.structs import replace

from tercet.core.errors import Corruption
from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    Change,
    ChangeKind,
    ConfChange,
    Config,
    EntryKind,
    HardState,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    Progress,
    Propose,
    ProposeConfChange,
    ProposeRequest,
    ReadIndex,
    ReadIndexRequest,
    Role,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotReady,
    SnapshotRequest,
    VoteReply,
    VoteRequest,
    configuration_of,
    decode_conf_change,
    restart,
    snapshot_meta,
)
from tercet.core.raft.quorum import VoteResult, vote_result

from .raft_nodes import Node, entries_of, follower, leader, sent


def _cluster(*logs: Sequence[int], term: int) -> dict[int, Node]:
    """Nodes 1, 2, ... with logs of these terms, all in one term, as if just started."""
    voters = tuple(range(1, len(logs) + 1))
    return {
        node_id: Node(
            restart(
                Config(node_id=node_id, voters=voters, pre_vote=False, check_quorum=False),
                HardState(term),
                entries_of(terms),
            )
        )
        for node_id, terms in zip(voters, logs, strict=True)
    }


def _settle(nodes: dict[int, Node], messages: Sequence[Message]) -> None:
    """Deliver messages and all that follows from them; disks are instant. Who is not in ``nodes`` is down."""
    waiting = list(messages)
    while waiting:
        message = waiting.pop(0)
        if message.to not in nodes:
            continue
        node = nodes[message.to]
        effects = node.hear(message)
        waiting += effects.send + effects.send_after_persist
        if effects.entries:
            effects = node.write()
            waiting += effects.send + effects.send_after_persist


def _leaders(nodes: dict[int, Node]) -> list[int]:
    return [node_id for node_id, node in nodes.items() if node.state.role == Role.LEADER]


# --- 5.1 Raft basics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_whoever_hears_a_newer_term_adopts_it_and_follows(role: Role) -> None:
    """5.1: "If one server's current term is smaller than the other's, then it updates its current term to the
    larger value. If a candidate or leader discovers that its term is out of date, it immediately reverts to
    follower state."
    """
    node = leader() if role == Role.LEADER else follower()
    if role == Role.CANDIDATE:
        node.time_out()
    assert node.state.role == role
    node.hear(node.beat(7))
    assert (node.state.role, node.state.current_term, node.state.leader_id) == (Role.FOLLOWER, 7, 2)
    assert node.state.voted_for == 0


def test_a_request_with_a_stale_term_is_rejected() -> None:
    """5.1: "If a server receives a request with a stale term number, it rejects the request."""
    node = follower(term=5)
    node.hear(node.append(4, 0, 0, [4]))
    assert node.terms == []
    (refusal,) = sent(node.effects, AppendReply)
    assert (refusal.success, refusal.term) == (False, 5)
    node.hear(node.ask(4, 9, 4))
    (vote,) = sent(node.effects, VoteReply)
    assert (vote.vote_granted, vote.term) == (False, 5)


def test_terms_only_grow() -> None:
    """5.1: "which increases monotonically over time"."""
    node = follower(term=5)
    for message in (node.beat(3), node.append(4, 0, 0), node.ask(2, 9, 2)):
        node.hear(message)
        assert node.state.current_term == 5


# --- 5.2 Leader election -----------------------------------------------------------------------------------


def test_a_server_starts_as_a_follower() -> None:
    """5.2: "When servers start up, they begin as followers."""
    assert follower([1, 1, 2]).state.role == Role.FOLLOWER


def test_a_follower_stays_one_as_long_as_it_hears_a_leader() -> None:
    """5.2: "A server remains in follower state as long as it receives valid RPCs from a leader"."""
    node = follower(term=1)
    for _ in range(50):
        assert node.tick(9) == []
        node.hear(node.beat(1))
    assert (node.state.role, node.state.current_term) == (Role.FOLLOWER, 1)


def test_a_leader_sends_heartbeats_to_all() -> None:
    """5.2: "Leaders send periodic heartbeats ... to all followers in order to maintain their authority."""
    node = leader()
    beats = [each for each in node.tick(3) if type(each) is HeartbeatRequest]
    assert [beat.to for beat in beats] == [2, 3] * 3


def test_a_follower_that_hears_nothing_stands_for_election() -> None:
    """5.2: "it assumes there is no viable leader and begins an election ... increments its current term and
    transitions to candidate state. It then votes for itself and issues RequestVote RPCs in parallel"."""
    node = follower([1, 2], term=3)
    requests = node.time_out()
    assert (node.state.role, node.state.current_term, node.state.voted_for) == (Role.CANDIDATE, 4, 1)
    assert [(each.to, each.term) for each in requests] == [(2, 4), (3, 4)]
    assert all(type(each) is VoteRequest for each in requests)
    assert node.effects.hard_state == HardState(4, 1, 0)


@pytest.mark.parametrize("granted", [True, False])
def test_a_vote_that_is_given_restarts_the_timer_and_one_that_is_refused_does_not(granted: bool) -> None:
    """Figure 2, followers: "If election timeout elapses without receiving AppendEntries RPC from current
    leader or granting vote to candidate: convert to candidate"."""
    node = follower([1, 1])
    node.tick(5)
    node.hear(node.ask(2, 2 if granted else 1, 1))
    (reply,) = sent(node.effects, VoteReply)
    assert reply.vote_granted is granted
    still = node.state.election_timeout - (0 if granted else 5)
    assert node.tick(still - 1) == []
    assert {type(each) for each in node.tick(1)} == {VoteRequest}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_candidate_wins_with_a_majority(size: int) -> None:
    """5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full
    cluster for the same term."""
    node = follower(voters=tuple(range(1, size + 1)))
    node.time_out()
    for voter in range(2, size + 1):
        votes = voter - 1
        assert (node.state.role == Role.LEADER) == (2 * votes > size)
        node.hear(node.vote(voter))
    assert node.state.role == Role.LEADER


def test_a_new_leader_sends_to_all_at_once() -> None:
    """5.2: "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of
    the other servers to establish its authority and prevent new elections"; here they carry its first entry.
    """
    node = follower([1], voters=(1, 2, 3, 4, 5))
    node.time_out()
    node.hear(node.vote(2))
    effects = node.hear(node.vote(3))
    assert [each.to for each in effects.send if type(each) is AppendRequest] == [2, 3, 4, 5]
    other = follower([1], term=2)
    other.tick(9)
    other.hear(replace(sent(effects, AppendRequest)[0], sender=2, to=1))
    assert other.tick(9) == []


def test_votes_for_another_term_do_not_count() -> None:
    """5.2: "for the same term"."""
    node = follower()
    node.time_out()
    node.hear(VoteReply(sender=2, to=1, term=0, vote_granted=True))
    assert node.state.role == Role.CANDIDATE


def test_a_vote_is_counted_once() -> None:
    """5.2: a majority of servers, not of messages."""
    node = follower(voters=(1, 2, 3, 4, 5))
    node.time_out()
    node.hear(node.vote(2), node.vote(2), node.vote(2))
    assert node.state.role == Role.CANDIDATE


def test_a_server_votes_once_in_a_term_first_come_first_served() -> None:
    """5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served
    basis"."""
    node = follower()
    node.hear(node.ask(1, 0, 0, sender=2))
    (granted,) = sent(node.effects, VoteReply)
    node.hear(node.ask(1, 0, 0, sender=3))
    (refused,) = sent(node.effects, VoteReply)
    assert (granted.vote_granted, refused.vote_granted) == (True, False)
    assert refused.refusal == "vote/already-voted"
    node.hear(node.ask(1, 0, 0, sender=2))
    (again,) = sent(node.effects, VoteReply)
    assert again.vote_granted


def test_a_vote_outlives_a_crash() -> None:
    """5.2 and figure 2: votedFor is persistent, and the RPC is answered only after it is."""
    node = follower()
    effects = node.hear(node.ask(1, 0, 0, sender=2))
    assert effects.hard_state == HardState(1, 2, 0)
    assert effects.send == ()
    reborn = follower(term=1, voted_for=2)
    reborn.hear(reborn.ask(1, 0, 0, sender=3))
    (reply,) = sent(reborn.effects, VoteReply)
    assert not reply.vote_granted


def test_a_candidate_yields_to_the_leader_of_its_term() -> None:
    """5.2: "If the leader's term ... is at least as large as the candidate's current term, then the candidate
    recognizes the leader as legitimate and returns to follower state."""
    node = follower()
    node.time_out()
    node.hear(node.beat(1))
    assert (node.state.role, node.state.leader_id) == (Role.FOLLOWER, 2)


def test_a_candidate_ignores_the_leader_of_an_older_term() -> None:
    """5.2: "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects
    the RPC and continues in candidate state."""
    node = follower(term=4)
    node.time_out()
    node.hear(node.beat(4))
    assert node.state.role == Role.CANDIDATE


def test_a_split_vote_ends_the_term_without_a_leader() -> None:
    """5.2: "if many followers become candidates at the same time, votes could be split so that no candidate
    obtains a majority"; 5.1: "In this case the term will end with no leader; a new term (with a new election)
    will begin shortly"."""
    nodes = _cluster([1], [1], [1], [1], term=1)
    first, second = nodes[1].time_out(), nodes[2].time_out()
    _settle(nodes, [each for each in first if each.to == 3] + [each for each in second if each.to == 4])
    _settle(nodes, [each for each in first if each.to != 3] + [each for each in second if each.to != 4])
    assert [node.state.voted_for for node in nodes.values()] == [1, 2, 1, 2]
    assert _leaders(nodes) == []
    assert {node.state.current_term for node in nodes.values()} == {2}
    _settle(nodes, nodes[1].time_out())
    assert _leaders(nodes) == [1]
    assert {node.state.current_term for node in nodes.values()} == {3}


def test_after_a_split_vote_a_candidate_starts_another_election() -> None:
    """5.2: "each candidate will time out and start a new election by incrementing its term"."""
    node = follower()
    node.time_out()
    requests = node.time_out()
    assert (node.state.role, node.state.current_term) == (Role.CANDIDATE, 2)
    assert {each.term for each in requests} == {2}


def test_timeouts_are_spread_over_an_interval() -> None:
    """5.2: "election timeouts are chosen randomly from a fixed interval (e.g., 150-300 ms)"."""
    nodes = [follower(term=term, seed=seed) for seed in range(20) for term in range(20)]
    drawn = {node.state.election_timeout for node in nodes}
    assert drawn == set(range(10, 20))


def test_a_timeout_is_drawn_anew_for_each_election() -> None:
    """5.2: "Each candidate restarts its randomized election timeout at the start of an election"."""
    node = follower()
    drawn = []
    for _ in range(20):
        node.time_out()
        drawn.append(node.state.election_timeout)
        assert node.state.election_elapsed == 0
    assert len(set(drawn)) > 5


def _refusal(sender: int, prev: int, *, hint: int, term: int = 2) -> AppendReply:
    return AppendReply(
        sender=sender, to=1, term=term, success=False, prev_log_index=prev, hint_index=hint, hint_term=hint
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
    others = [peer for peer in _progress(node) if peer.node_id != 1]
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
        node.hear(_refusal(3, asked[-1].prev_log_index, hint=1))
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
        nodes = _cluster(*[[1, 1] if node_id in holders else [1] for node_id in range(1, 6)], term=1)
        _settle(nodes, nodes[candidate].time_out())
        assert _leaders(nodes) == ([candidate] if candidate in holders else [])


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
    node.hear(_refusal(2, 2, hint=0))
    node.do(Propose((b"x",)))
    assert node.terms[: len(before)] == before


# --- 5.5 Follower and candidate crashes --------------------------------------------------------------------


def test_a_follower_that_was_down_gets_what_it_missed() -> None:
    """5.5: "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it
    will fail. Raft handles these failures by retrying indefinitely; if the crashed server restarts, then the
    RPC will complete successfully"."""
    nodes = _cluster([1], [1], [1], term=1)
    crashed = nodes.pop(3)
    _settle(nodes, nodes[1].time_out())
    for _ in range(20):
        _settle(nodes, nodes[1].do(Propose((b"x",))).send)
        _settle(nodes, nodes[1].write().send)
        _settle(nodes, nodes[1].tick(1))
    nodes[3] = crashed
    for _ in range(2):
        _settle(nodes, nodes[1].tick(1))
    assert nodes[3].terms == nodes[2].terms == nodes[1].terms == [1] + 21 * [2]
    assert nodes[3].state.commit_index == 22


def test_a_candidate_asks_for_votes_until_the_others_are_back() -> None:
    """5.5, as above, of RequestVote; each try is a new term (5.2)."""
    nodes = _cluster([1], [1], [1], term=1)
    crashed = nodes.pop(2), nodes.pop(3)
    for _ in range(5):
        requests = nodes[1].time_out()
        assert [(type(each), each.to) for each in requests] == [(VoteRequest, 2), (VoteRequest, 3)]
        _settle(nodes, requests)
    nodes[2] = crashed[0]
    _settle(nodes, nodes[1].time_out())
    assert _leaders(nodes) == [1]


def test_a_voter_that_crashed_before_it_answered_grants_its_vote_again() -> None:
    """5.5: "If a server crashes after completing an RPC but before responding, then it will receive the same
    RPC again after it restarts. Raft RPCs are idempotent, so this causes no harm"."""
    node = follower()
    request = node.ask(1, 0, 0, sender=2)
    durable = node.hear(request).hard_state
    assert durable == HardState(1, 2, 0)
    reborn = follower(term=durable.current_term, voted_for=durable.voted_for)
    effects = reborn.hear(request)
    (reply,) = sent(effects, VoteReply)
    assert (reply.to, reply.vote_granted) == (2, True)
    assert effects.hard_state is None


def test_an_append_may_arrive_twice() -> None:
    """5.5: "Raft RPCs are idempotent ... if a follower receives an AppendEntries request that includes log
    entries already present in its log, it ignores those entries"."""
    node = follower()
    node.hear(node.append(1, 0, 0, [1, 1]))
    log = node.state.log
    effects = node.hear(node.append(1, 0, 0, [1, 1]))
    assert (effects.entries, node.state.log) == ((), log)
    (reply,) = sent(effects, AppendReply)
    assert reply.match_index == 2


# --- 5.6 Timing and availability ---------------------------------------------------------------------------


@pytest.mark.parametrize(("heartbeat_ticks", "election_ticks"), [(10, 10), (11, 10), (1, 1), (0, 10)])
def test_heartbeats_must_come_more_often_than_timeouts(heartbeat_ticks: int, election_ticks: int) -> None:
    """5.6: "broadcastTime << electionTimeout"; other settings are refused."""
    with pytest.raises(ValueError, match="need 1 <= heartbeat_ticks < election_ticks"):
        follower(heartbeat_ticks=heartbeat_ticks, election_ticks=election_ticks)


def test_whoever_hears_every_heartbeat_never_stands_for_election() -> None:
    """5.6: "so that leaders can reliably send the heartbeat messages required to keep followers from starting
    elections", at the narrowest setting, too: a tick before the shortest timeout."""
    node = leader(heartbeat_ticks=9)
    assert [tick for tick in range(1, 30) if node.tick(1)] == [9, 18, 27]
    timeouts = [follower(term=term, heartbeat_ticks=9).state.election_timeout for term in range(1000)]
    assert min(timeouts) == 10


# --- 6 Cluster membership changes --------------------------------------------------------------------------


def test_a_joint_decision_needs_both_majorities() -> None:
    """6: "Agreement (for elections and entry commitment) requires separate majorities from both the old and
    new configurations."""
    joint = configuration_of((3, 4, 5), (1, 2, 3))
    assert vote_result(joint, (1, 2, 3)) == VoteResult.PENDING
    assert vote_result(joint, (3, 4, 5)) == VoteResult.PENDING
    assert vote_result(joint, (1, 3, 4)) == VoteResult.WON


def test_entries_go_to_all_servers_of_both_configurations() -> None:
    """6: "Log entries are replicated to all servers in both configurations."""
    node = _changed(leader(), ConfChange((Change(ChangeKind.REMOVE, 3), Change(ChangeKind.ADD_VOTER, 4))))
    assert node.state.configuration.outgoing == (1, 2, 3)
    assert {peer.node_id for peer in _progress(node)} == {1, 2, 3, 4}


@pytest.mark.parametrize("node_id", [1, 3, 5])
def test_a_server_of_either_configuration_may_lead_while_it_is_joint(node_id: int) -> None:
    """6: "Any server from either configuration may serve as leader"; with both majorities, as always."""
    old, new = (1, 2, 3), (3, 4, 5)
    config = Config(node_id=node_id, voters=(), pre_vote=False, check_quorum=False)
    node = Node(restart(config, HardState(1, 0, 2), snapshot=SnapshotMeta(2, 1, new, old)))
    node.time_out()
    votes = {node_id}
    for voter in (2, 1, 3, 4, 5):
        if voter != node_id:
            node.hear(node.vote(voter))
            votes.add(voter)
        won = len(votes & set(old)) >= 2 and len(votes & set(new)) >= 2
        assert (node.state.role == Role.LEADER) == won
    assert node.state.role == Role.LEADER


def test_c_new_follows_once_c_old_new_is_committed() -> None:
    """6: "Once C_old,new has been committed ... it is now safe for the leader to create a log entry
    describing C_new and replicate it to the cluster". Here C_new is the empty change, and C_old,new must be
    applied."""
    node = leader()
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 3), Change(ChangeKind.ADD_VOTER, 4)))))
    node.write()
    assert node.apply().entries == ()
    effects = node.hear(node.held(2, 2))
    assert (node.state.commit_index, effects.entries) == (2, ())
    (entry,) = node.apply().entries
    assert (entry.index, entry.kind) == (3, EntryKind.CONF_CHANGE)
    assert decode_conf_change(entry.data) == ConfChange()
    assert node.state.configuration == configuration_of((1, 2, 4), (1, 2, 3), auto_leave=True)
    node.write()
    node.hear(node.held(2, 3))
    node.apply()
    assert node.state.configuration == configuration_of((1, 2, 4))


def test_here_a_change_takes_effect_when_it_is_applied() -> None:
    """6: "Once a given server adds the new configuration entry to its log, it uses that configuration for all
    future decisions (a server always uses the latest configuration in its log, regardless of whether the
    entry is committed)". Not so here, for a leader and for a follower alike."""
    front = leader()
    front.write()
    front.hear(front.held(2, 1))
    front.apply()
    effects = front.do(ProposeConfChange(ConfChange((Change(ChangeKind.ADD_VOTER, 4),))))
    (request, *_) = sent(effects, AppendRequest)
    other = follower([1], term=1)
    other.hear(replace(request, sender=2, to=1))
    other.write()
    front.write()
    assert other.state.log.last_index == front.state.log.last_index == 2
    for node in (front, other):
        assert node.state.configuration.voters == (1, 2, 3)
    front.hear(front.held(2, 2))
    other.hear(other.beat(1, commit=2))
    for node in (front, other):
        assert (node.state.commit_index, node.state.configuration.voters) == (2, (1, 2, 3))
        node.apply()
        assert node.state.configuration.voters == (1, 2, 3, 4)


def test_here_a_leader_that_is_removed_counts_itself_until_that_is_applied() -> None:
    """6: "there will be a period of time (while it is committing C_new) when the leader is managing a cluster
    that does not include itself; it replicates log entries but does not count itself in majorities". Not so
    here: the old configuration is in force until then, and nodes 1 and 2 are a majority of it."""
    node = leader()
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 1),))), Propose((b"x",)))
    node.hear(node.held(2, 3))
    assert node.state.commit_index == 1
    node.write()
    assert (node.state.commit_index, node.state.role) == (3, Role.LEADER)
    node.apply()
    assert (node.state.configuration.voters, node.state.role) == ((2, 3), Role.FOLLOWER)


def test_a_removed_leader_steps_down_once_it_has_committed_that() -> None:
    """6: "the leader steps down (returns to follower state) once it has committed the C_new log entry"."""
    node = leader()
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 1),))))
    assert node.state.role == Role.LEADER
    node.hear(node.held(2, 2), node.held(3, 2))
    node.write()
    node.apply()
    assert node.state.role == Role.FOLLOWER
    assert node.time_out() == []


def test_servers_disregard_requests_for_votes_while_a_leader_is_there() -> None:
    """6: "if a server receives a RequestVote RPC within the minimum election timeout of hearing from a
    current leader, it does not update its term or grant its vote"."""
    node = follower(term=1, check_quorum=True)
    node.hear(node.beat(1))
    node.tick(9)
    node.hear(node.ask(9, 9, 9))
    assert (node.state.current_term, node.state.leader_id) == (1, 2)
    (reply,) = sent(node.effects, VoteReply)
    assert reply.refusal == "vote/leader-alive"
    node.tick(1)
    node.hear(node.ask(9, 9, 9))
    (reply,) = sent(node.effects, VoteReply)
    assert reply.vote_granted


def test_new_servers_begin_as_non_voting_members() -> None:
    """6: "new servers join the cluster as non-voting members (the leader replicates log entries to them, but
    they are not considered for majorities)"."""
    node = _changed(leader(), ConfChange((Change(ChangeKind.ADD_LEARNER, 4),)))
    assert {peer.node_id for peer in _progress(node)} == {1, 2, 3, 4}
    node.do(Propose((b"x",)))
    node.write()
    last = node.state.log.last_index
    known = {peer.node_id: peer.session for peer in _progress(node)}
    reply = AppendReply(sender=4, to=1, term=1, success=True, match_index=last, session=known[4])
    node.hear(reply)
    assert node.state.commit_index == last - 1
    node.hear(node.held(2, last))
    assert node.state.commit_index == last


def _changed(node: Node, change: ConfChange) -> Node:
    """The leader, once it has committed and applied ``change``."""
    node.write()
    node.hear(node.held(2, node.state.log.last_index))
    node.apply()
    node.do(ProposeConfChange(change))
    index = node.state.log.last_index
    node.write()
    node.hear(node.held(2, index), node.held(3, index))
    node.apply()
    return node


def _progress(node: Node) -> tuple[Progress, ...]:
    assert node.state.leadership is not None
    return node.state.leadership.progress


# --- 7 Log compaction --------------------------------------------------------------------------------------


def test_a_snapshot_takes_the_place_of_the_entries_it_covers() -> None:
    """7: "Once a server completes writing a snapshot, it may delete all log entries up through the last
    included index"; index, term and configuration of the last entry are kept."""
    node = follower([1, 1, 2, 2], commit=3)
    node.write()
    node.tick(1)
    node.apply()
    meta = snapshot_meta(node.state)
    assert meta == SnapshotMeta(3, 2, (1, 2, 3))
    node.do(SnapshotReady(meta, 3))
    assert (node.state.log.base_index, node.state.log.base_term, node.terms) == (3, 2, [2])
    node.hear(node.append(2, 3, 2, [2, 2]))
    assert node.state.log.last_index == 5


def test_a_leader_sends_a_snapshot_when_it_has_discarded_the_next_entry() -> None:
    """7: "This happens when the leader has already discarded the next log entry that it needs to send to a
    follower."""
    node = leader([1, 1])
    node.hear(node.held(2, 3))
    node.write()
    node.apply()
    node.do(SnapshotReady(snapshot_meta(node.state), 3))
    node.hear(HeartbeatReply(sender=3, to=1, term=2))
    effects = node.hear(_refusal(3, 2, hint=0))
    (request,) = sent(effects, SnapshotRequest)
    assert (request.to, request.meta) == (3, SnapshotMeta(3, 2, (1, 2, 3)))
    assert sent(node.do(Propose((b"x",))), AppendRequest)[0].to == 2


def test_a_snapshot_of_a_stale_term_is_refused() -> None:
    """7, figure 13, step 1: "Reply immediately if term < currentTerm"."""
    node = follower([1, 1], term=5)
    before = node.state
    effects = node.hear(SnapshotRequest(sender=2, to=1, term=4, meta=SnapshotMeta(9, 4, (1, 2, 3, 4))))
    assert (effects.install, effects.configuration, node.state) == (None, None, before)
    (reply,) = sent(effects, AppendReply)
    assert (reply.to, reply.success, reply.term) == (2, False, 5)


def test_a_follower_discards_its_log_for_a_snapshot() -> None:
    """7: "If ... the snapshot will contain new information not already in the recipient's log ... the
    follower discards its entire log; it is all superseded by the snapshot"."""
    node = follower([1, 1, 1])
    meta = SnapshotMeta(5, 3, (1, 2, 3, 4))
    effects = node.hear(SnapshotRequest(sender=2, to=1, term=4, meta=meta))
    assert effects.install == meta
    assert not sent(effects, AppendReply)
    effects = node.do(SnapshotInstalled(5))
    (reply,) = sent(effects, AppendReply)
    assert (reply.success, reply.match_index) == (True, 5)
    assert (node.terms, node.state.configuration.voters) == ([], (1, 2, 3, 4))
    assert (node.state.commit_index, node.state.applied_index) == (5, 5)


def test_a_follower_keeps_what_follows_a_snapshot_of_its_own_log() -> None:
    """7: "If instead the follower receives a snapshot that describes a prefix of its log ... then log entries
    covered by the snapshot are deleted but entries following the snapshot are still valid and must be
    retained"; here they may all stay, and count as committed."""
    node = follower([1, 1, 1, 1])
    effects = node.hear(SnapshotRequest(sender=2, to=1, term=2, meta=SnapshotMeta(3, 1, (1, 2, 3))))
    assert effects.install is None
    assert [entry.index for entry in effects.committed] == [1, 2, 3]
    assert node.terms == [1, 1, 1, 1]
    (reply,) = sent(effects, AppendReply)
    assert reply.match_index == 3


# --- 8 Client interaction ----------------------------------------------------------------------------------


def test_clients_requests_find_the_leader() -> None:
    """8: "If the client's first choice is not the leader, that server will reject the client's request and
    supply information about the most recent leader"; here it hands it on itself."""
    node = follower()
    node.hear(node.beat(1))
    (request,) = sent(node.do(Propose((b"x",))), ProposeRequest)
    assert (request.to, request.entries) == (2, (b"x",))


def test_a_leader_starts_its_term_with_an_empty_entry() -> None:
    """8: "Raft handles this by having each leader commit a blank no-op entry into the log at the start of its
    term."""
    node = leader([1])
    (entry,) = node.effects.entries
    assert (entry.index, entry.term, entry.data) == (2, 2, b"")


def test_a_read_waits_for_the_first_commit_of_the_term() -> None:
    """8: "a leader must have the latest information on which entries are committed"."""
    node = leader([1])
    node.write()
    assert not sent(node.do(ReadIndex(7)), HeartbeatRequest)
    effects = node.hear(node.held(2, 2))
    assert [beat.context for beat in sent(effects, HeartbeatRequest) if beat.context]
    assert effects.reads == ()


def test_a_read_is_confirmed_by_a_majority() -> None:
    """8: "Raft handles this by having the leader exchange heartbeat messages with a majority of the cluster
    before responding to read-only requests."""
    node = leader([1])
    node.write()
    node.hear(node.held(2, 2))
    effects = node.do(ReadIndex(7))
    assert effects.reads == ()
    beat = sent(effects, HeartbeatRequest)[0]
    effects = node.hear(HeartbeatReply(sender=2, to=1, term=2, context=beat.context))
    assert [(read.context, read.read_index) for read in effects.reads] == [(7, 2)]


def test_a_follower_asks_the_leader_where_to_read() -> None:
    """8, thesis 6.4: a read elsewhere asks the leader for its read index first."""
    node = follower()
    node.hear(node.beat(1))
    (request,) = sent(node.do(ReadIndex(7)), ReadIndexRequest)
    assert (request.to, request.context) == (2, 7)


def test_entries_are_named_by_index_and_term() -> None:
    """5.3: "if two entries in different logs have the same index and term, then they store the same command":
    a leader creates at most one entry at an index in its term."""
    node = leader()
    seen: set[tuple[int, int]] = {(entry.index, entry.term) for entry in node.effects.entries}
    for data in (b"a", b"b", b"c"):
        for entry in node.do(Propose((data,))).entries:
            assert (entry.index, entry.term) not in seen
            seen.add((entry.index, entry.term))
    assert entries_of([1, 1])[0].index == 1
