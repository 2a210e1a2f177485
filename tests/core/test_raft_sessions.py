"""Lives of one id told apart (B13, B14), and proposals that find their leader in the end."""

from __future__ import annotations

import msgspec
import pytest

from tercet.core.errors import Corruption
from tercet.core.raft import (
    AppendReply,
    AppendRequest,
    Applied,
    Change,
    ChangeKind,
    ConfChange,
    Config,
    HardState,
    HeartbeatReply,
    HeartbeatRequest,
    Propose,
    ProposeConfChange,
    ProposeRequest,
    Receive,
    Role,
    SnapshotReady,
    Tick,
    TimeoutNow,
    TransferLeader,
    TransitionKind,
    Unreachable,
    decode_conf_change,
    encode_conf_change,
    restart,
    snapshot_meta,
)
from tercet.core.raft.heartbeats import known_commit
from tercet.core.trace import Header, TraceEncoder, read_trace, verify

from .raft_nodes import Node, entries_of, follower, leader, sent


def joiner(session: int) -> Node:
    """A node that is a member of nothing and has got its first entry in ``session``."""
    node = Node(restart(Config(node_id=1, voters=()), HardState()))
    request = AppendRequest(
        sender=2,
        to=1,
        term=3,
        prev_log_index=0,
        prev_log_term=0,
        entries=entries_of([1]),
        leader_commit=0,
        session=session,
    )
    node.hear(request)
    return node


def beat(commit: int, session: int = 0, *, term: int = 3, commit_term: int = 1) -> HeartbeatRequest:
    return HeartbeatRequest(
        sender=2, to=1, term=term, leader_commit=commit, session=session, commit_term=commit_term
    )


def test_a_late_heartbeat_from_before_a_wipe_commits_nothing() -> None:
    """B14: remove, wipe, add again, and a heartbeat arrives that speaks of what the former life had."""
    fresh = Node(restart(Config(node_id=1, voters=()), HardState()))
    fresh.hear(beat(20))
    assert (fresh.state.commit_index, fresh.state.leader_id) == (0, 2)
    assert fresh.effects.refusals[0].rule == "heartbeat/not-held"
    node = joiner(session=21)
    assert node.hear(beat(20)).refusals[0].rule == "heartbeat/not-held"
    assert node.state.commit_index == 0
    node.hear(beat(1))  # the very entry: it is committed, whoever had confirmed it
    assert node.state.commit_index == 1


def test_a_heartbeat_commits_only_the_entry_that_it_names() -> None:
    """Wiped, and then late appends of two terms: in the place of which a heartbeat speaks there is another
    entry, of the older term."""
    node = Node(restart(Config(node_id=1, voters=()), HardState()))
    node.hear(node.append(2, 0, 0, [1, 2, 2], sender=3))
    node.hear(node.append(3, 1, 1, []))
    (question,) = sent(node.hear(beat(3, commit_term=3)), HeartbeatReply)
    assert (question.lacks, node.state.commit_index) == (3, 0)
    assert node.effects.refusals[0].rule == "heartbeat/not-held"
    with pytest.raises(Corruption, match="its log holds one of term 2 there"):
        node.hear(msgspec.structs.replace(beat(3, commit_term=3), lost=True))
    node.hear(beat(3, commit_term=2))
    assert node.state.commit_index == 3


def test_a_leader_tells_nothing_of_an_entry_that_it_has_forgotten() -> None:
    """A snapshot is due to that member; without its term the entry could not be told from another."""
    node = leader(voters=(1, 2))
    node.write()
    node.hear(node.held(2, 1))
    node.do(Propose((b"a",)), Propose((b"b",)))
    node.write()
    assert node.state.leadership is not None
    peer = node.state.leadership.progress[1]
    assert known_commit(node.state, peer) == 1
    forgetful = msgspec.structs.replace(node.state, log=node.state.log.compacted(2))
    assert known_commit(forgetful, peer) == 0


def test_a_member_that_lacks_what_it_should_have_confirmed_asks_the_leader() -> None:
    """It may have been removed, wiped and added again, and the heartbeat may be a late one."""
    for node, session in ((joiner(session=21), 21), (follower([1]), 0)):
        for quiet in (False, True):
            request = msgspec.structs.replace(beat(20, session=session), quiet=quiet)
            (question,) = sent(node.hear(request), HeartbeatReply)
            assert (question.lacks, question.session) == (20, session)
            assert node.effects.refusals[0].rule == "heartbeat/not-held"


def test_a_leader_tells_a_member_what_it_lost_if_it_confirmed_that_in_this_life() -> None:
    node = leader()
    node.do(Propose((b"a",)))
    node.write()
    last = node.state.log.last_index
    node.hear(node.held(2, last))
    question = HeartbeatReply(sender=2, to=1, term=node.state.current_term, lacks=last)
    (answer,) = sent(node.hear(question), HeartbeatRequest)
    assert (answer.to, answer.leader_commit, answer.lost, answer.quiet) == (2, last, True, True)
    late = msgspec.structs.replace(question, session=last)
    beyond = msgspec.structs.replace(question, lacks=last + 1)
    for message in (late, beyond):
        assert not sent(node.hear(message), HeartbeatRequest)
        assert node.effects.refusals[0].rule == "append/other-session"


def test_a_member_is_not_told_that_it_lost_what_is_not_committed_or_not_its_own() -> None:
    """Entry 2 is confirmed by 2 alone, and entry 1 is committed without 3."""
    node = leader(voters=(1, 2, 3, 4, 5))
    node.do(Propose((b"a",)))
    node.write()
    node.hear(node.held(2, 2), node.held(4, 1))
    assert node.state.commit_index == 1
    for member, lacks in ((2, 2), (3, 1)):
        question = HeartbeatReply(sender=member, to=1, term=node.state.current_term, lacks=lacks)
        assert not sent(node.hear(question), HeartbeatRequest)


def test_a_member_that_lost_what_it_confirmed_stops() -> None:
    for node, session in ((joiner(session=21), 21), (follower([1]), 0)):
        node.hear(beat(20, session=session))
        with pytest.raises(Corruption, match="durable entries were lost"):
            node.hear(msgspec.structs.replace(beat(20, session=session), lost=True))


def test_what_another_life_lost_does_not_stop_a_member() -> None:
    """It believes only what it has asked for; what it has not, it asks about."""
    node = joiner(session=21)
    late = msgspec.structs.replace(beat(20, session=4), lost=True, quiet=True)
    node.hear(beat(20, session=21))
    (question,) = sent(node.hear(late), HeartbeatReply)
    assert (question.lacks, question.session) == (20, 4)
    with pytest.raises(Corruption):
        node.hear(late)
    other = joiner(session=21)
    other.hear(beat(20, session=4), beat(0, term=4))
    assert other.state.asked == (0, 0)


def test_what_came_meanwhile_is_not_lost() -> None:
    """The answer says that the entry had been confirmed, and by now it has been sent again."""
    node = follower([1])
    node.hear(beat(2, term=1))
    assert node.state.asked == (0, 2)
    node.hear(node.append(1, 1, 1, [1]))
    node.hear(msgspec.structs.replace(beat(2, term=1), lost=True, quiet=True))
    assert (node.state.commit_index, node.effects.refusals) == (2, ())


def test_who_lacks_something_has_heard_its_leader_all_the_same() -> None:
    node = follower([1])
    node.hear(beat(0, term=1))
    node.tick(5)
    node.hear(beat(2, term=1))
    assert node.state.election_elapsed == 0


def test_a_member_that_lost_its_disk_is_probed_at_the_pace_of_heartbeats() -> None:
    """It refuses behind what it has confirmed: a probe at the same place at once would be refused at once."""
    node = leader(voters=(1, 2))
    node.write()
    node.hear(node.held(2, 1))
    node.do(Unreachable(2))
    refusal = AppendReply(sender=2, to=1, term=1, success=False, prev_log_index=1, refusal="append/no-match")
    assert node.hear(refusal).send == ()
    assert node.effects.refusals[0].rule == "append/stale-refusal"


def test_an_answer_to_a_round_that_was_never_sent_confirms_nothing() -> None:
    node = leader(voters=(1, 2))
    before = node.state
    node.hear(HeartbeatReply(sender=2, to=1, term=1, context=60))
    assert (node.state, node.effects.refusals[0].rule) == (before, "read/no-such-round")


def test_a_target_that_may_not_campaign_still_knows_its_leader() -> None:
    node = follower([1], voters=(2, 3))
    node.hear(beat(0), TimeoutNow(sender=2, to=1, term=3))
    assert (node.state.leader_id, node.effects.refusals[0].rule) == (2, "election/not-a-voter")


def test_a_late_append_of_an_older_session_is_answered_in_that_session() -> None:
    node = joiner(session=21)
    late = AppendRequest(
        sender=2, to=1, term=3, prev_log_index=0, prev_log_term=0, entries=entries_of([1]), leader_commit=0
    )
    (reply,) = sent(node.hear(late), AppendReply)
    assert reply.session == 0


def grown() -> Node:
    """A leader of 1 and 2 that has just added 3, by entry 2."""
    node = leader(voters=(1, 2))
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.ADD_VOTER, 3),))))
    node.write()
    node.hear(node.held(2, 2))
    node.apply()
    return node


def test_an_answer_counts_only_in_its_own_session() -> None:
    node = grown()
    assert [each.session for each in sent(node.effects, AppendRequest)] == [2]
    node.do(Propose((b"x",)))
    node.write()
    assert node.hear(node.held(3, 3)).refusals[0].rule == "append/other-session"
    assert node.state.commit_index == 2
    node.hear(AppendReply(sender=3, to=1, term=1, success=True, match_index=3, session=2))
    assert node.state.commit_index == 3


def test_a_new_leader_believes_all_members_that_were_there_at_its_election() -> None:
    node = leader([1], voters=(1, 2, 3))
    assert {each.session for each in node.effects.send if isinstance(each, AppendRequest)} == {0}


# --- proposals -------------------------------------------------------------------------------------------


def forwarded(term: int, *, change: bytes = b"") -> ProposeRequest:
    changes = (change,) if change else ()
    return ProposeRequest(sender=3, to=1, term=term, entries=(b"x",), conf_changes=changes)


def test_a_proposal_that_finds_an_old_leader_is_handed_on() -> None:
    node = follower()
    node.hear(beat(0, term=5))
    (message,) = sent(node.hear(forwarded(4)), ProposeRequest)
    assert (message.sender, message.to, message.term, message.entries) == (1, 2, 5, (b"x",))


def test_a_proposal_is_not_handed_on_by_whoever_knows_no_better() -> None:
    node = follower()
    node.hear(beat(0, term=5))
    effects = node.hear(forwarded(5))
    assert (effects.send, effects.refusals[0].rule) == ((), "propose/not-leader")


def test_a_leader_takes_entries_and_changes_of_one_message() -> None:
    node = leader(voters=(1, 2, 3))
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    change = encode_conf_change(ConfChange((Change(ChangeKind.ADD_VOTER, 4),)))
    effects = node.hear(forwarded(1, change=change))
    assert [(entry.index, entry.kind) for entry in effects.entries] == [(2, 0), (3, 1)]
    assert node.hear(forwarded(1, change=b"\xc1")).refusals[0].rule == "conf/malformed"


def test_proposals_come_back_while_leadership_is_handed_over() -> None:
    node = leader(voters=(1, 2, 3))
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    node.do(TransferLeader(3))
    change = ConfChange((Change(ChangeKind.ADD_VOTER, 4),))
    effects = node.hear(forwarded(1, change=encode_conf_change(change)))
    assert (effects.dropped, effects.dropped_conf_changes) == ((b"x",), (change,))
    assert {refusal.rule for refusal in effects.refusals} == {"propose/transferring"}


def test_a_leader_whose_transfer_fails_leaves_the_joint_configuration_then() -> None:
    """While it hands over it appends nothing, or the target would lack an entry (thesis 3.10)."""
    node = leader(voters=(1, 2, 3))
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    change = ConfChange((Change(ChangeKind.ADD_LEARNER, 3),), TransitionKind.IMPLICIT)
    node.do(ProposeConfChange(change))
    node.write()
    node.hear(node.held(2, 2))
    (message,) = sent(node.do(TransferLeader(2)), TimeoutNow)
    assert (message.to, node.apply().entries) == (2, ())
    assert node.state.configuration.outgoing == (1, 2, 3)
    while not node.do(Tick()).refusals:
        assert node.effects.entries == ()
    assert node.effects.refusals[0].rule == "transfer/timed-out"
    assert [decode_conf_change(entry.data) for entry in node.effects.entries] == [ConfChange()]


def test_a_proposal_sent_to_who_does_not_lead_is_kept_only_between_two_leaders() -> None:
    """With a leader in sight that the sender knows as well, its driver asks there."""
    node = follower()
    proposal = ProposeRequest(sender=3, to=1, term=1, entries=(b"a",))
    node.hear(node.beat(1))
    assert node.hear(proposal).dropped == ()
    assert node.effects.refusals[0].rule == "propose/not-leader"
    node.time_out()
    assert node.state.leader_id == 0
    assert node.hear(proposal).dropped == (b"a",)


def test_a_joint_configuration_is_left_once() -> None:
    """What is applied while the leave is under way, entries of before it, does not append another (6)."""
    node = leader(voters=(1, 2, 3))
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    change = ConfChange((Change(ChangeKind.ADD_LEARNER, 3),), TransitionKind.IMPLICIT)
    node.do(ProposeConfChange(change), Propose((b"a",)))
    node.write()
    node.hear(node.held(2, 3))
    assert [entry.index for entry in node.do(Applied(2)).entries] == [4]
    assert node.do(Applied(3)).entries == ()
    node.write()
    node.hear(node.held(2, 4))
    assert node.do(Applied(4)).entries == ()
    assert node.state.configuration.outgoing == ()


def test_what_counts_as_uncommitted_is_counted_off_again() -> None:
    node = leader(voters=(1, 2, 3), max_uncommitted_bytes=10)
    node.write()
    node.hear(node.held(2, 1))
    for turn in range(5):
        assert node.do(Propose((b"12345", b"678"))).dropped == ()
        assert node.do(Propose((b"9ab",))).dropped == (b"9ab",)
        assert node.do(Propose((b"9a",))).dropped == ()
        last = 1 + 3 * (turn + 1)
        node.hear(node.held(2, last))
        node.write()
        assert node.state.leadership is not None
        assert node.state.leadership.uncommitted_bytes == 0


def test_an_unreachable_member_is_probed_behind_what_it_confirmed() -> None:
    node = leader(voters=(1, 2))
    node.hear(node.held(2, 1))
    node.do(Propose((b"a",)), Propose((b"b",)), Unreachable(2))
    assert node.state.leadership is not None
    peer = node.state.leadership.progress[1]
    assert (peer.match_index, peer.next_index, peer.inflight) == (1, 2, ())
    before = node.state
    node.do(Unreachable(9))
    assert node.state == before


# --- traces ----------------------------------------------------------------------------------------------


def test_a_trace_that_begins_with_a_snapshot_repeats_itself() -> None:
    node = grown()
    node.do(SnapshotReady(snapshot_meta(node.state), 1))
    assert node.state.role == Role.LEADER
    log = node.state.log
    state = restart(
        node.state.config,
        HardState(1, 1, 2),
        log.entries(2, 2),
        2,
        node.state.snapshot,
        base_term=log.base_term,
    )
    encoder = TraceEncoder()
    data = encoder.begin(Header()) + encoder.record(0, None, node.effects, state)
    reborn = Node(state)
    for message in (beat(0, term=3), reborn.append(3, 2, 1, [3], commit=2)):
        effects = reborn.hear(message)
        data += encoder.record(1, Receive(message), effects, reborn.state)
    verification = verify(read_trace(data).records)
    assert not verification.mismatches
