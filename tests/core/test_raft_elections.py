"""Rules of elections one by one: what a vote owes the disk, timers, terms, promises (5.2; thesis 9.6)."""

from __future__ import annotations

import pytest

from tercet.core.raft import (
    AppendReply,
    Config,
    HardState,
    HeartbeatReply,
    Role,
    Tick,
    VoteReply,
    VoteRequest,
    restart,
)
from tercet.core.raft.election import election_timeout

from .raft_nodes import Node, follower, leader, sent


def test_a_vote_in_the_present_term_is_durable_before_it_is_given() -> None:
    """The term came with another message; the vote alone is new."""
    node = follower([1], term=3)
    effects = node.hear(node.ask(3, 1, 1))
    assert (effects.hard_state, effects.send) == (HardState(3, 3, 0), ())
    assert [reply.vote_granted for reply in sent(effects, VoteReply)] == [True]
    assert node.hear(node.ask(3, 1, 1)).hard_state is None  # said again, not written again


def test_a_leader_asks_itself_for_a_quorum_after_an_election_timeout_however_rarely_it_beats() -> None:
    node = leader(voters=(1, 2, 3), check_quorum=True, election_ticks=10, heartbeat_ticks=4)
    node.hear(node.held(2, 1))
    node.tick(10)
    assert node.state.role == Role.LEADER
    node.tick(9)
    assert node.state.role == Role.LEADER
    node.tick(1)
    assert node.state.role == Role.FOLLOWER


def test_whoever_steps_down_waits_a_whole_timeout_and_forgets_its_campaign() -> None:
    node = leader([1], voters=(1, 2, 3))
    node.tick(5)
    node.hear(HeartbeatReply(sender=2, to=1, term=7))
    state = node.state
    assert (state.role, state.current_term, state.election_elapsed) == (Role.FOLLOWER, 7, 0)
    assert (state.granted, state.refused) == ((), ())
    assert state.election_timeout == election_timeout(state.config, 7, state.campaigns)


def test_a_candidate_that_cannot_win_does_not_keep_others_from_campaigning() -> None:
    """Its newer term is taken over, and it is refused; the timer goes on."""
    node = follower([1, 2])
    node.tick(5)
    node.hear(node.ask(9, 1, 1))
    assert (node.state.current_term, node.state.election_elapsed) == (9, 5)
    assert node.effects.refusals[0].rule == "vote/log-not-up-to-date"


def test_every_campaign_of_a_term_waits_another_time() -> None:
    """5.2, "randomized election timeouts": with pre-votes the term stays, so the campaigns are counted."""
    node = follower([1], pre_vote=True)
    timeouts = []
    for _ in range(20):
        assert sent(node.do(Tick()), VoteRequest) == []
        asked = node.time_out()
        assert {message.pre_vote for message in asked if isinstance(message, VoteRequest)} == {True}
        timeouts.append(node.state.election_timeout)
    assert (node.state.current_term, len(set(timeouts)) > 5) == (1, True)


def test_whoever_may_not_campaign_is_refused_once_a_timeout() -> None:
    node = follower([1], voters=(2, 3))
    node.time_out()
    assert [refusal.rule for refusal in node.effects.refusals] == ["election/not-a-voter"]
    assert node.state.election_elapsed == 0
    assert node.do(Tick()).refusals == ()


def test_a_refused_pre_vote_brings_its_newer_term() -> None:
    node = follower([1], pre_vote=True)
    node.time_out()
    node.hear(VoteReply(sender=2, to=1, term=2, vote_granted=False, pre_vote=True, refusal="term/stale"))
    assert (node.state.role, node.state.current_term) == (Role.FOLLOWER, 2)


def test_a_pre_vote_for_another_term_is_late() -> None:
    """A granted pre-vote names the term that was asked for: the next one, and no other."""
    node = follower([1], pre_vote=True)
    node.time_out()
    node.hear(VoteReply(sender=2, to=1, term=9, vote_granted=True, pre_vote=True))
    assert (node.state.role, node.state.current_term) == (Role.PRE_CANDIDATE, 1)
    assert node.effects.refusals[0].rule == "message/late-reply"
    node.hear(VoteReply(sender=2, to=1, term=2, vote_granted=True, pre_vote=True))
    assert (node.state.role, node.state.current_term) == (Role.CANDIDATE, 2)


@pytest.mark.parametrize("lease", [True, False])
def test_a_promise_to_a_leader_outlives_its_term(lease: bool) -> None:
    """A newer term alone, heard from anybody, does not end a lease that the old leader counts on (6.4.1)."""
    config = Config(node_id=1, voters=(1, 2, 3), election_ticks=10, read_only_lease=lease)
    node = Node(restart(config, HardState(1)))
    node.tick(10)  # after a start it keeps what it may have promised
    node.hear(node.beat(1), AppendReply(sender=3, to=1, term=4, success=True))
    node.tick(9)
    effects = node.hear(node.ask(4, 0, 0))
    assert [reply.vote_granted for reply in sent(effects, VoteReply)] == [not lease]
    if lease:
        assert effects.refusals[0].rule == "vote/leader-alive"
        node.tick(1)
        assert [reply.vote_granted for reply in sent(node.hear(node.ask(4, 0, 0)), VoteReply)] == [True]


def test_who_refused_a_pre_vote_may_grant_the_vote() -> None:
    """Each election counts anew, and waits a whole timeout of its own term."""
    node = follower([1], voters=(1, 2, 3, 4, 5), pre_vote=True)
    node.time_out()
    node.tick(3)
    for member, granted in ((2, False), (3, True), (4, True)):
        answer = VoteReply(sender=member, to=1, term=2 if granted else 1, vote_granted=granted, pre_vote=True)
        node.hear(answer)
    state = node.state
    assert (state.role, state.current_term, state.election_elapsed) == (Role.CANDIDATE, 2, 0)
    assert state.election_timeout == election_timeout(state.config, 2, state.campaigns)
    node.hear(node.vote(3), node.vote(2))
    assert node.state.role == Role.LEADER


def test_who_refused_a_campaign_may_help_the_next() -> None:
    node = follower([1], pre_vote=True)
    for _ in range(2):
        node.time_out()
        refusal = VoteReply(sender=2, to=1, term=1, vote_granted=False, pre_vote=True)
        node.hear(refusal)
        assert node.state.refused == (2,)
    node.time_out()
    node.hear(VoteReply(sender=2, to=1, term=2, vote_granted=True, pre_vote=True))
    assert node.state.role == Role.CANDIDATE


def test_a_pre_vote_for_the_present_term_is_refused_when_the_vote_would_be() -> None:
    """Who asks for term 3 is behind; in term 3 this node has voted already, or knows who leads."""
    question = VoteRequest(sender=2, to=1, term=3, last_log_index=1, last_log_term=1, pre_vote=True)
    for node in (follower([1], term=3, voted_for=3), follower([1], term=3)):
        if not node.state.voted_for:
            node.hear(node.beat(3, sender=3))
        (reply,) = sent(node.hear(question), VoteReply)
        assert (reply.vote_granted, reply.refusal) == (False, "vote/already-voted")
    (reply,) = sent(follower([1], term=3).hear(question), VoteReply)
    assert reply.vote_granted


def test_nobody_votes_in_a_term_whose_leader_is_known() -> None:
    node = follower([1], term=3)
    node.hear(node.beat(3, sender=2))
    (reply,) = sent(node.hear(node.ask(3, 9, 3)), VoteReply)
    assert (reply.vote_granted, reply.refusal, node.state.voted_for) == (False, "vote/already-voted", 0)


def test_a_promise_does_not_hold_up_whom_the_leader_has_chosen() -> None:
    """A transfer's target says so; the leader has broken its own lease before (6.4.1; thesis 3.10)."""
    config = Config(node_id=1, voters=(1, 2, 3), election_ticks=10, read_only_lease=True)
    for forced in (False, True):
        node = Node(restart(config, HardState(1)))
        node.hear(node.beat(1, sender=3))
        request = VoteRequest(sender=2, to=1, term=2, last_log_index=0, last_log_term=0, forced=forced)
        (reply,) = sent(node.hear(request), VoteReply)
        assert reply.vote_granted is forced


def test_every_voter_is_counted_once_and_nobody_else() -> None:
    node = follower([1], voters=(1, 2, 3, 4, 5))
    node.time_out()
    node.hear(node.vote(2, granted=False))
    for message, rule in (
        (node.vote(2), "vote/counted-already"),
        (node.vote(9), "message/stranger"),
        (node.vote(9, granted=False), "message/stranger"),
    ):
        assert node.hear(message).refusals[0].rule == rule
        assert (node.state.granted, node.state.refused) == ((1,), (2,))
