"""The Raft paper's claims about members, snapshots, clients; see ``test_raft_paper_5_elections.py``."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

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
    configuration_of,
    decode_conf_change,
    restart,
    snapshot_meta,
)
from tercet.core.raft.quorum import VoteResult, vote_result

from .raft_nodes import (
    Node,
    entries_of,
    follower,
    leader,
    progress_of,
    refusal,
    sent,
)

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
    assert {peer.node_id for peer in progress_of(node)} == {1, 2, 3, 4}


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
    assert {peer.node_id for peer in progress_of(node)} == {1, 2, 3, 4}
    node.do(Propose((b"x",)))
    node.write()
    last = node.state.log.last_index
    known = {peer.node_id: peer.session for peer in progress_of(node)}
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
    effects = node.hear(refusal(3, 2, hint=0))
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


def test_a_read_is_confirmed_when_who_has_not_answered_is_removed() -> None:
    """6: "a server always uses the latest configuration in its log", for reads, too: two of two have it."""
    node = leader([1], voters=(1, 2, 3, 4))
    node.write()
    for member in (2, 3):
        node.hear(node.held(member, 2))
    node.apply()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 4),))))
    beat = sent(node.do(ReadIndex(7)), HeartbeatRequest)[0]
    assert node.hear(HeartbeatReply(sender=2, to=1, term=2, context=beat.context)).reads == ()
    node.write()
    for member in (2, 3):
        node.hear(node.held(member, 3))
    assert [read.context for read in node.apply().reads] == [7]


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
