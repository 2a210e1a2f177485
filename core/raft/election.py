"""Elections: who campaigns, who gets a vote, who becomes leader, and when a leader gives up.

A node that hears no leader for its timeout first asks whether it could win (pre-vote), so that a node
which was cut off does not raise everybody's term when it returns. A node that heard a leader within the
smallest election timeout refuses to help replace it, and a leader that hears no majority for as long steps
down; together these two keep a leader that works, and end one that does not.

A candidate asks for votes only after its own vote is durable, and a vote is told only after it is durable:
otherwise a crash would let a node vote twice in one term.

Source: Ongaro and Ousterhout 2014, sections 5.2 and 5.4.1; thesis 4.2.3, 6.2 and 9.6.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import following, leases, proposals, quorum, reads, replication, transfer
from .log import Log
from .progress import Progress, ProgressState
from .quorum import VoteResult
from .state import Duty, Leadership, Lease, RaftState, election_timeout
from .types import Role, Tick, TimeoutNow, VoteReply, VoteRequest

__all__ = [
    "answer_vote", "become_follower", "become_leader", "campaign", "hear_commit", "log_up_to_date",
    "may_campaign", "may_vote", "on_timeout_now", "on_vote_reply", "on_vote_request", "protects_leader",
    "refuse_vote", "tick", "vote_refusal",
]


def tick(state: RaftState, event: Tick, duty: Duty) -> RaftState:
    """Let one tick pass: a leader sends heartbeats, anybody else comes closer to a campaign (5.2)."""
    if state.lease_guard:
        state = replace(state, lease_guard=state.lease_guard - 1)
    if state.leadership is not None:
        return _leader_tick(state, state.leadership, duty)
    elapsed = state.election_elapsed + 1
    if elapsed >= state.election_timeout:
        return campaign(state, duty)
    return replace(state, election_elapsed=elapsed)


def _leader_tick(state: RaftState, leadership: Leadership, duty: Duty) -> RaftState:
    elapsed = state.election_elapsed + 1
    if elapsed >= state.config.election_ticks:
        elapsed = 0
        if state.config.check_quorum:
            if not _quorum_heard(state, leadership, duty):
                return become_follower(state, state.current_term, 0, duty)
            progress = tuple([replace(peer, active=False) for peer in leadership.progress])
            leadership = replace(leadership, progress=progress)
    if leadership.transfer_target:
        leadership = transfer.tick(state, leadership, duty)
        if not leadership.transfer_target:
            state = proposals.leave_if_due(replace(state, leadership=leadership), duty)
            assert state.leadership is not None
            leadership = state.leadership
    if leadership.lease is not None:
        leadership = leases.ticked(leadership, leadership.lease)
    beats = leadership.heartbeat_elapsed + 1
    if beats < state.config.heartbeat_ticks:
        leadership = replace(leadership, heartbeat_elapsed=beats)
        return replace(state, election_elapsed=elapsed, leadership=leadership)
    if leadership.lease is not None:
        leadership = leases.with_round(leadership, leadership.lease)
    else:
        leadership = reads.with_new_round(leadership)
    leadership = replace(leadership, heartbeat_elapsed=0)
    leadership = replication.heartbeat(state, leadership, duty)
    return replace(state, election_elapsed=elapsed, leadership=leadership)


def _quorum_heard(state: RaftState, leadership: Leadership, duty: Duty) -> bool:
    """Whether the leader has heard a majority since it last asked itself (check-quorum, thesis 6.2)."""
    node_id = state.config.node_id
    heard = [peer.node_id for peer in leadership.progress if peer.active or peer.node_id == node_id]
    if quorum.vote_result(state.configuration, heard) == VoteResult.WON:
        return True
    duty.refuse("election/no-quorum-heard", f"heard {heard}")
    return False


def become_follower(state: RaftState, term: int, leader_id: int, duty: Duty) -> RaftState:
    """Follow ``leader_id`` (0: nobody) in ``term`` (>= the current one; 5.1); what a leader had is dropped.

    The election timer starts anew only when there is a leader to wait for, or when a leader steps down:
    a candidate that cannot win must not keep others from campaigning.
    """
    if state.leadership is not None:
        reads.drop(state, state.leadership, duty)
    fresh_timer = leader_id != 0 or state.leadership is not None
    return replace(
        state,
        current_term=term,
        voted_for=state.voted_for if term == state.current_term else 0,
        role=Role.FOLLOWER,
        leader_id=leader_id,
        election_elapsed=0 if fresh_timer else state.election_elapsed,
        election_timeout=election_timeout(state.config, term, state.campaigns),
        granted=(),
        refused=(),
        leadership=None,
        asked=(0, 0),
    )


def may_campaign(state: RaftState) -> str:
    """Why this node may not campaign: a rule, or "" when it may.

    A node that has not applied a committed change would count the votes of a configuration whose successor
    may already decide without it (bug B11).
    """
    node_id = state.config.node_id
    if node_id not in state.configuration.voters and node_id not in state.configuration.outgoing:
        return "election/not-a-voter"
    if state.installing is not None:
        return "election/installing"
    if state.log.changes(state.applied_index + 1, state.commit_index):
        return "election/change-unapplied"
    return ""


def on_timeout_now(state: RaftState, message: TimeoutNow, duty: Duty) -> RaftState:
    """The leader hands over: campaign at once, without pre-vote (thesis 3.10)."""
    return campaign(state, duty, forced=True)


def campaign(state: RaftState, duty: Duty, *, forced: bool = False) -> RaftState:
    """The timeout has passed: ask for pre-votes (thesis 9.6), or for votes when pre-vote is off (5.2).

    Args:
        forced: the leader itself asked for it: ask for votes at once, and of those who still hear it.
    """
    node_id = state.config.node_id
    rule = may_campaign(state)
    if rule:
        duty.refuse(rule)
        if forced:  # the leader goes on, so it stays known
            return state
        return replace(state, election_elapsed=0, leader_id=0)
    campaigns = state.campaigns + 1
    state = replace(
        state,
        role=Role.PRE_CANDIDATE,
        leader_id=0,
        election_elapsed=0,
        campaigns=campaigns,
        election_timeout=election_timeout(state.config, state.current_term, campaigns),
        granted=(node_id,),
        refused=(),
    )
    if forced or not state.config.pre_vote or _won_alone(state):
        return _stand(state, duty, forced=forced)
    duty.send += _vote_requests(state, state.current_term + 1, pre_vote=True)
    return state


def _won_alone(state: RaftState) -> bool:
    return quorum.vote_result(state.configuration, (state.config.node_id,)) == VoteResult.WON


def _stand(state: RaftState, duty: Duty, *, forced: bool = False) -> RaftState:
    """Raise the term, vote for ourselves, and ask everybody else (5.2)."""
    node_id = state.config.node_id
    term = state.current_term + 1
    state = replace(
        state,
        current_term=term,
        voted_for=node_id,
        role=Role.CANDIDATE,
        leader_id=0,
        election_elapsed=0,
        election_timeout=election_timeout(state.config, term, state.campaigns),
        granted=(node_id,),
        refused=(),
    )
    if _won_alone(state):
        return become_leader(state, duty)
    duty.send_after_persist += _vote_requests(state, term, pre_vote=False, forced=forced)
    return state


def _vote_requests(
    state: RaftState, term: int, *, pre_vote: bool, forced: bool = False
) -> tuple[VoteRequest, ...]:
    node_id = state.config.node_id
    log = state.log
    return tuple(
        VoteRequest(
            sender=node_id,
            to=member,
            term=term,
            last_log_index=log.last_index,
            last_log_term=log.last_term,
            pre_vote=pre_vote,
            forced=forced,
            commit_index=state.commit_index,
            commit_term=log.term_at(state.commit_index),
        )
        for member in state.configuration.members
        if member != node_id and member not in state.configuration.learners
    )


def protects_leader(state: RaftState) -> bool:
    """Whether a leader was heard so lately that nobody may be helped to replace it (thesis 4.2.3)."""
    heard = state.leader_id != 0 and state.election_elapsed < state.config.election_ticks
    return (state.config.check_quorum and heard) or leases.promises_kept(state)


def log_up_to_date(log: Log, last_log_index: int, last_log_term: int) -> bool:
    """Whether a log that ends so is at least as up to date as ``log`` (5.4.1): last terms, then length."""
    if last_log_term != log.last_term:
        return last_log_term > log.last_term
    return last_log_index >= log.last_index


def may_vote(state: RaftState, request: VoteRequest) -> bool:
    """Whether this node's vote is still free for that candidate (5.2); a pre-vote binds nobody (9.6)."""
    if request.pre_vote and request.term > state.current_term:
        return True
    if state.voted_for == request.sender:
        return True
    return state.voted_for == 0 and state.leader_id == 0


def answer_vote(duty: Duty, reply: VoteReply) -> None:
    """Tell a granted vote, but only once term and vote are durable (figure 2, "persistent state")."""
    duty.send_after_persist += (reply,)


def vote_refusal(state: RaftState, request: VoteRequest, rule: str) -> VoteReply:
    """No, with our own term, and with what we know to be committed."""
    return VoteReply(
        sender=state.config.node_id,
        to=request.sender,
        term=state.current_term,
        vote_granted=False,
        pre_vote=request.pre_vote,
        refusal=rule,
        commit_index=state.commit_index,
        commit_term=state.log.term_at(state.commit_index),
    )


def refuse_vote(state: RaftState, request: VoteRequest, rule: str, duty: Duty) -> None:
    """Answer no at once: a refusal promises nothing, so it need not wait for the disk."""
    duty.refuse(rule, f"candidate {request.sender} in term {request.term}")
    duty.send += (vote_refusal(state, request, rule),)


def hear_commit(state: RaftState, message: VoteRequest | VoteReply, duty: Duty) -> RaftState:
    """Learn from a candidate, or from who refuses one, what is committed; true whatever the terms.

    A configuration counts once it is applied, so whoever must give or get the decisive vote may not know yet
    that it must. A leader that commits its own removal and is cut off would refuse its only successor for
    ever; a lone voter that has just taken in a second one would be refused by that one, which still takes
    itself for a learner, if its log is longer. A change learnt so is applied before anybody stands here.
    """
    if message.commit_index <= state.commit_index:
        return state
    if state.leadership is not None or state.installing is not None:
        return state
    state = following.learn_commit(state, message.commit_index, message.commit_term)
    if state.role and may_campaign(state) == "election/change-unapplied":
        duty.refuse("election/change-unapplied")
        return become_follower(state, state.current_term, 0, duty)
    return state


def on_vote_request(state: RaftState, request: VoteRequest, duty: Duty) -> RaftState:
    """Grant or refuse a vote or pre-vote (figure 2, RequestVote); the request's term is not below ours."""
    if leases.promises_kept(state) and not request.forced:  # thesis 6.4.1
        refuse_vote(state, request, "vote/leader-alive", duty)
        return state
    if not may_vote(state, request):  # 5.2
        refuse_vote(state, request, "vote/already-voted", duty)
        return state
    if not log_up_to_date(state.log, request.last_log_index, request.last_log_term):  # 5.4.1
        refuse_vote(state, request, "vote/log-not-up-to-date", duty)
        return state
    reply = VoteReply(
        sender=state.config.node_id,
        to=request.sender,
        term=request.term,
        vote_granted=True,
        pre_vote=request.pre_vote,
    )
    if request.pre_vote:
        duty.send += (reply,)
        return state
    answer_vote(duty, reply)
    return replace(state, voted_for=request.sender, election_elapsed=0)


def on_vote_reply(state: RaftState, reply: VoteReply, duty: Duty) -> RaftState:
    """Count a vote; a majority makes a pre-candidate stand and a candidate lead (5.2)."""
    asked = Role.PRE_CANDIDATE if reply.pre_vote else Role.CANDIDATE
    if state.role != asked:
        duty.refuse("message/late-reply", f"vote of {reply.sender} in term {reply.term}")
        return state
    if reply.sender in state.granted or reply.sender in state.refused:
        duty.refuse("vote/counted-already", f"of {reply.sender} in term {reply.term}")
        return state
    if reply.sender not in state.configuration.voters and reply.sender not in state.configuration.outgoing:
        duty.refuse("message/stranger", f"vote of {reply.sender}")
        return state
    if reply.vote_granted:
        state = replace(state, granted=(*state.granted, reply.sender))
    else:
        state = replace(state, refused=(*state.refused, reply.sender))
    result = quorum.vote_result(state.configuration, state.granted, state.refused)
    if result == VoteResult.WON:
        return _stand(state, duty) if reply.pre_vote else become_leader(state, duty)
    if result == VoteResult.LOST:
        return become_follower(state, state.current_term, 0, duty)
    return state


def become_leader(state: RaftState, duty: Duty) -> RaftState:
    """Lead the current term: nothing is known about the others' logs; begin with an empty entry.

    The empty entry is what lets a leader commit (5.4.2), and so serve reads (thesis 6.4), without waiting
    for a client.
    """
    node_id = state.config.node_id
    next_index = state.log.last_index + 1
    progress = tuple(
        Progress(member, state.persisted_index, next_index, ProgressState.REPLICATE, active=True)
        if member == node_id
        else Progress(member, 0, next_index)
        for member in state.configuration.members
    )
    state = replace(
        state,
        role=Role.LEADER,
        leader_id=node_id,
        election_elapsed=0,
        granted=(),
        refused=(),
        asked=(0, 0),
        leadership=Leadership(
            progress,
            pending_conf_index=state.log.last_index,
            lease=Lease() if state.config.read_only_lease else None,
        ),
    )
    return replication.append(state, (b"",), duty)
