"""A voter that wins alone waits for nobody, so nobody may hear that it leads before its own vote is durable.

Source: Ongaro and Ousterhout 2014, figure 2 ("persistent state"): a vote must survive a crash.
"""

from __future__ import annotations

import pytest

from tercet.core.raft import (
    Change,
    ChangeKind,
    ConfChange,
    Config,
    HardState,
    Propose,
    ProposeConfChange,
    Role,
    TransitionKind,
    restart,
)

from .raft_nodes import Node

LEARNER = (Change(ChangeKind.ADD_LEARNER, 2),)


def alone(transition: TransitionKind) -> Node:
    """Node 1, the only voter, started again with a learner that came by such a change; it leads term 2."""
    config = Config(node_id=1, voters=(1,))
    node = Node(restart(config, HardState()))
    node.tick(30)
    node.write()
    node.apply()
    node.do(ProposeConfChange(ConfChange(LEARNER, transition)))
    node.write()
    node.apply()
    log = node.state.log.entries(1, 2)
    again = Node(restart(config, HardState(1, 1, 2), log, applied=2))
    assert again.state.configuration.learners == (2,)
    assert not again.tick(again.state.election_timeout)
    assert (again.state.role, again.state.current_term) == (Role.LEADER, 2)
    return again


@pytest.mark.parametrize("transition", TransitionKind)
def test_nothing_leaves_before_the_own_vote_is_durable(transition: TransitionKind) -> None:
    """A crash now could let it lead term 2 again, with other entries at the same places; or vote for another
    in term 2, whom a heartbeat of this life, if late, would then stop."""
    node = alone(transition)
    assert node.do(Propose((b"a",))).send == ()
    assert node.tick(30) == []
    node.write()
    assert {message.to for message in node.tick(1)} == {2}


@pytest.mark.parametrize("transition", [TransitionKind.IMPLICIT, TransitionKind.EXPLICIT])
def test_one_voter_in_both_groups_of_a_joint_configuration_is_alone(transition: TransitionKind) -> None:
    node = alone(transition)
    assert (node.state.configuration.voters, node.state.configuration.outgoing) == ((1,), (1,))


def test_a_leader_that_others_have_elected_need_not_wait_for_its_own_disk() -> None:
    """They voted after its own vote was durable (thesis 10.2.1 lets its entries wait)."""
    node = Node(restart(Config(node_id=1, voters=(1, 2, 3), pre_vote=False), HardState()))
    node.time_out()
    node.hear(node.vote(2))
    assert node.state.persisted_index == 0
    assert {message.to for message in node.effects.send} == {2, 3}
