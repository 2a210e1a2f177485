"""Leadership transfer beside other things: another target, a learner, a change of voters (thesis 3.10)."""

from __future__ import annotations

from tercet.core.raft import (
    Change,
    ChangeKind,
    ConfChange,
    Config,
    HardState,
    Propose,
    ProposeConfChange,
    Role,
    Tick,
    TimeoutNow,
    TransferLeader,
    restart,
)

from .raft_nodes import Node, entries_of, leader, sent


def leader_of_three(*, election_ticks: int = 10) -> Node:
    """Node 1 leads term 1; its first entry is committed and applied, held by 1 and 2."""
    node = leader(voters=(1, 2, 3), election_ticks=election_ticks)
    node.write()
    node.hear(node.held(2, 1))
    node.apply()
    return node


def target_of(node: Node) -> int:
    assert node.state.leadership is not None
    return node.state.leadership.transfer_target


def test_another_target_has_the_whole_time() -> None:
    node = leader_of_three()
    node.do(TransferLeader(2))
    node.tick(6)
    effects = node.do(TransferLeader(3))
    assert [(refusal.rule, refusal.detail) for refusal in effects.refusals] == [("transfer/replaced", "to 2")]
    node.tick(9)
    assert target_of(node) == 3
    assert node.do(Tick()).refusals[0].rule == "transfer/timed-out"
    assert target_of(node) == 0


def test_whoever_is_chosen_votes() -> None:
    """The learner's log is the longest; the voters' are as long as each other, and 3 was heard."""
    config = Config(node_id=1, voters=(1, 2, 3), learners=(4,), pre_vote=False, check_quorum=False)
    node = Node(restart(config, HardState(1), entries_of([1])))
    node.time_out()
    node.hear(node.vote(3))
    assert node.state.role == Role.LEADER
    node.hear(node.held(4, 2))
    node.do(TransferLeader(0))
    assert target_of(node) in (2, 3)


def test_a_target_that_is_removed_meanwhile_is_let_go() -> None:
    """The removal was proposed first; once it counts, nobody waits for that target."""
    node = leader_of_three()
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 3),))), TransferLeader(3))
    assert node.do(Propose((b"a",))).dropped == (b"a",)
    node.write()
    node.hear(node.held(2, 2))
    assert "transfer/not-a-voter" in {refusal.rule for refusal in node.apply().refusals}
    assert (target_of(node), node.state.configuration.voters) == (0, (1, 2))
    assert node.do(Propose((b"a",))).dropped == ()


def test_a_target_is_told_once_it_holds_the_whole_log() -> None:
    node = leader_of_three()
    node.do(Propose((b"a",)))
    assert not sent(node.do(TransferLeader(2)), TimeoutNow)
    (message,) = sent(node.hear(node.held(2, 2)), TimeoutNow)
    assert message.to == 2
