"""The claims of the Raft paper, one by one: Ongaro and Ousterhout, In Search of an Understandable Consensus
Algorithm (extended version), 2014. Each test names the section it is about.
Here elections; ``test_raft_paper_5_logs.py`` and ``test_raft_paper_6_to_8.py`` have the rest.

Where a claim is kept in another way, its test says how. Two are not kept, as in etcd. Section 6: a server
uses the newest configuration in its log; here a change counts when it is applied, so that it never has to
be taken back (the tests named ``test_here_...``). Section 8: clients give every command a serial number,
and the state machine executes none twice. Nothing here knows a client beyond its connection: who lost an
answer is told that the outcome is not known, and may ask again with a comparison (etcd's transactions),
which happens once at most.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    HardState,
    HeartbeatRequest,
    Propose,
    Role,
    VoteReply,
    VoteRequest,
)

from .raft_nodes import (
    cluster,
    follower,
    leader,
    leaders,
    sent,
    settle,
)

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
    nodes = cluster([1], [1], [1], [1], term=1)
    first, second = nodes[1].time_out(), nodes[2].time_out()
    settle(nodes, [each for each in first if each.to == 3] + [each for each in second if each.to == 4])
    settle(nodes, [each for each in first if each.to != 3] + [each for each in second if each.to != 4])
    assert [node.state.voted_for for node in nodes.values()] == [1, 2, 1, 2]
    assert leaders(nodes) == []
    assert {node.state.current_term for node in nodes.values()} == {2}
    settle(nodes, nodes[1].time_out())
    assert leaders(nodes) == [1]
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


# --- 5.5 Follower and candidate crashes --------------------------------------------------------------------


def test_a_follower_that_was_down_gets_what_it_missed() -> None:
    """5.5: "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it
    will fail. Raft handles these failures by retrying indefinitely; if the crashed server restarts, then the
    RPC will complete successfully"."""
    nodes = cluster([1], [1], [1], term=1)
    crashed = nodes.pop(3)
    settle(nodes, nodes[1].time_out())
    for _ in range(20):
        settle(nodes, nodes[1].do(Propose((b"x",))).send)
        settle(nodes, nodes[1].write().send)
        settle(nodes, nodes[1].tick(1))
    nodes[3] = crashed
    for _ in range(2):
        settle(nodes, nodes[1].tick(1))
    assert nodes[3].terms == nodes[2].terms == nodes[1].terms == [1] + 21 * [2]
    assert nodes[3].state.commit_index == 22


def test_a_candidate_asks_for_votes_until_the_others_are_back() -> None:
    """5.5, as above, of RequestVote; each try is a new term (5.2)."""
    nodes = cluster([1], [1], [1], term=1)
    crashed = nodes.pop(2), nodes.pop(3)
    for _ in range(5):
        requests = nodes[1].time_out()
        assert [(type(each), each.to) for each in requests] == [(VoteRequest, 2), (VoteRequest, 3)]
        settle(nodes, requests)
    nodes[2] = crashed[0]
    settle(nodes, nodes[1].time_out())
    assert leaders(nodes) == [1]


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
