"""The end of a run: faults stop, a majority chosen at random goes on alone, and it must get on.

Within a bound it must elect a leader, commit something new, and every member among it must learn of that.
With pre-vote and check-quorum there is one demand more: a leader that all but one follower hear must stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tercet.core.raft import AppendRequest, Event, Propose, ProposeRequest, Receive

from ..invariants import Violation

if TYPE_CHECKING:
    from .world import Node, World

__all__ = ["finish"]

_LIVENESS_US = 30_000_000  # a majority alone must commit within this time
# Without pre-vote it is a matter of chance how soon: a voter that cannot win, because its log is the shorter,
# may raise the term before the other stands, again and again.
_LIVENESS_BY_CHANCE_US = 180_000_000
_FINAL_PROPOSALS_US = 400_000
_SETTLE_US = 1_000_000  # after the last commit, before one follower is cut off from the leader
_BRIDGE_US = 4_000_000  # for so long: longer than any election timeout


def finish(world: World) -> None:
    """Faults end and only a majority goes on: within a bound it must commit something new."""
    finale = world.choices.finale(world.now)
    states = [(node.disk, node.state) for node in world.nodes[1:]]
    mask = world.configurations.able(finale.node, states, world.settings.nodes)
    world.note(msgspec.structs.replace(finale, node=mask))
    world.faults = False
    world.links.heal()
    world.lose_under_way(_brings_a_change)
    chosen = [node for node in world.nodes[1:] if mask >> node.node_id & 1]
    for node in world.nodes[1:]:
        node.paused_until = 0
        if node not in chosen:
            world.stop(node, 1)
        elif node.state is None:
            node.life += 1
            world.start(node)
    bound = _LIVENESS_US if world.settings.pre_vote else _LIVENESS_BY_CHANCE_US
    _commit_something(world, chosen, bound)
    _catch_up(world, chosen, bound)
    if finale.extra:
        _bridge(world, chosen)


def _brings_a_change(event: Event) -> bool:
    """Another configuration is on its way, and those chosen need not be a majority of that one."""
    message = event.message if isinstance(event, Receive) else None
    if isinstance(message, ProposeRequest):
        return bool(message.conf_changes)
    return isinstance(message, AppendRequest) and any(entry.kind for entry in message.entries)


def _commit_something(world: World, chosen: Sequence[Node], bound: int) -> None:
    base = len(world.invariants.committed)
    end = world.now + bound
    while not any(entry.data == b"final" for entry in world.invariants.committed[base:]):
        if world.now >= end:
            side = ", ".join(str(node.node_id) for node in chosen)
            waited = f"{bound // 1000} ms"
            raise Violation("liveness", f"nodes {side} alone committed nothing in {waited}")
        for node in chosen:
            world.step(node, Propose((b"final",)))
        world.until(world.now + _FINAL_PROPOSALS_US)


def _catch_up(world: World, chosen: Sequence[Node], bound: int) -> None:
    """Every member among them must learn what has been committed."""
    goal = len(world.invariants.committed)
    end = world.now + bound
    while True:
        behind = [node.node_id for node in chosen if _is_behind(world, node, goal)]
        if not behind:
            return
        if world.now >= end:
            story = f"nodes {behind} have not learnt of entry {goal} in {bound // 1000} ms"
            raise Violation("liveness", story)
        world.until(world.now + _FINAL_PROPOSALS_US)


def _is_behind(world: World, node: Node, goal: int) -> bool:
    assert node.state is not None
    return node.state.commit_index < goal and world.configurations.is_member(node.node_id)


def _bridge(world: World, chosen: Sequence[Node]) -> None:
    """Cut one follower off from the leader alone: under pre-vote and check-quorum the leader stays.

    What is still under way from the time of the faults is lost first: an operator's late wish for another
    leader, or a late vote request that such a wish caused, may well end a leader.

    Source: Howard and Abraham 2020, "Raft does not guarantee liveness in the face of network faults".
    """
    world.until(world.now + _SETTLE_US)
    world.lose_under_way(lambda event: True)
    leaders = [node for node in chosen if node.state is not None and node.state.leadership is not None]
    leader = max(leaders, key=lambda node: node.state.current_term if node.state else 0, default=None)
    if leader is None or leader.state is None or leader.state.applied_index < leader.state.commit_index:
        return  # a leader that has yet to apply a change may be about to fall by it
    voters = [node.node_id for node in chosen if node.node_id in leader.state.configuration.voters]
    cut = next((node for node in voters if node != leader.node_id), 0)
    if not cut or not world.configurations.decides([node for node in voters if node != cut]):
        return
    term = leader.state.current_term
    for link in (cut * 16 + leader.node_id, leader.node_id * 16 + cut):
        world.links.cut_until[link] = world.now + _BRIDGE_US
    world.bridged = True
    world.until(world.now + _BRIDGE_US)
    if leader.state.leadership is None or leader.state.current_term != term:
        story = f"leader {leader.node_id} fell because node {cut} does not hear it, but all others do"
        raise Violation("stable leader", story)
