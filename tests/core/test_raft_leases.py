"""Lease reads: never beside a newer leader while clocks keep to the bound; and that the bound is needed."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random

import pytest

from tercet.core.raft import (
    Applied,
    Change,
    ChangeKind,
    ConfChange,
    Config,
    Entry,
    Event,
    HardState,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    Persisted,
    ProposeConfChange,
    RaftState,
    ReadIndex,
    Receive,
    Role,
    Tick,
    TransferLeader,
    restart,
    step,
)
from tercet.core.raft.leases import lease_ticks, valid

from .raft_nodes import Node, leader

IDS = (1, 2, 3)
_TICK, _DELIVER, _CHAOS = range(3)


class Drifting:
    """Three nodes whose ticks are of different length; links are cut, nodes crash, leadership is moved."""

    def __init__(self, seed: int, slowest: int) -> None:
        self.draw = Random(f"{seed}/leases")
        self.configs = {
            node_id: Config(node_id=node_id, voters=IDS, seed=seed, read_only_lease=True) for node_id in IDS
        }
        self.states = {node_id: restart(config, HardState()) for node_id, config in self.configs.items()}
        self.disks: dict[int, tuple[HardState, list[Entry]]] = {i: (HardState(), []) for i in IDS}
        self.length = {node_id: self.draw.choice((10, slowest)) for node_id in IDS}
        self.cut: set[tuple[int, int]] = set()
        self.now = 0
        self.heap: list[tuple[int, int, int, int, Message | None]] = []
        self.pushed = 0
        self.lease_reads = 0
        for node_id in IDS:
            self._push(self.draw.randrange(self.length[node_id]), _TICK, node_id)
        self._push(50, _CHAOS, 0)

    def _push(self, at: int, kind: int, node_id: int, message: Message | None = None) -> None:
        self.pushed += 1
        heappush(self.heap, (at, self.pushed, kind, node_id, message))

    def run(self, until: int) -> Iterator[str]:
        """Yields a story for every read that a lease allowed beside a newer leader."""
        while self.heap[0][0] < until:
            self.now, _, kind, node_id, message = heappop(self.heap)
            if kind == _TICK:
                self._push(self.now + self.length[node_id], _TICK, node_id)
                self._step(node_id, Tick())
            elif kind == _DELIVER:
                assert message is not None
                if (message.sender, message.to) not in self.cut:
                    self._step(node_id, Receive(message))
            else:
                self._push(self.now + self.draw.randrange(20, 150), _CHAOS, 0)
                self._chaos()
            yield from self._stale_reads()

    def _chaos(self) -> None:
        draw = self.draw.random()
        node_id = self.draw.choice(IDS)
        if draw < 0.5:
            self.cut = {(a, b) for a in IDS for b in IDS if a != b and node_id in (a, b)}
        elif draw < 0.8:
            self.cut = set()
        elif draw < 0.95:
            hard_state, entries = self.disks[node_id]
            self.states[node_id] = restart(self.configs[node_id], hard_state, tuple(entries))
        else:
            self._step(node_id, TransferLeader(0))

    def _step(self, node_id: int, event: Event) -> None:
        self.states[node_id], effects = step(self.states[node_id], event)
        hard_state, entries = self.disks[node_id]
        if effects.entries:
            del entries[effects.entries[0].index - 1 :]
            entries += effects.entries
        self.disks[node_id] = effects.hard_state or hard_state, entries
        for message in effects.send + effects.send_after_persist:
            self._push(self.now + self.draw.randrange(1, 8), _DELIVER, message.to, message)
        if effects.entries:
            last = effects.entries[-1]
            self._step(node_id, Persisted(last.index, last.term))
        if effects.committed:
            self._step(node_id, Applied(effects.committed[-1].index))

    def _stale_reads(self) -> Iterator[str]:
        leaders = [state for state in self.states.values() if state.role == Role.LEADER]
        for state in leaders:
            if valid(state):
                self.lease_reads += 1
                for other in leaders:
                    if other.current_term > state.current_term:
                        yield f"at {self.now} node {state.config.node_id} reads beside a newer leader"


@pytest.mark.parametrize("block", range(2))
def test_no_lease_outlives_its_leader_while_clocks_keep_to_the_bound(block: int) -> None:
    """Ten ticks of election timeout, five of lease: clocks may run 9 / 5 times as fast as the leader's."""
    lease_reads = 0
    for seed in range(block * 25, block * 25 + 25):
        world = Drifting(seed, slowest=18)
        assert list(world.run(20_000)) == [], f"seed {seed}"
        lease_reads += world.lease_reads
    assert lease_reads > 10_000


def test_beyond_the_bound_a_lease_does_outlive_its_leader() -> None:
    stories = (story for seed in range(60) for story in Drifting(seed, slowest=60).run(20_000))
    assert next(stories, None) is not None


def confirmed() -> RaftState:
    """A leader whose lease has just begun."""
    node = leader(voters=(1, 2), check_quorum=True, read_only_lease=True)
    node.write()
    node.hear(node.held(2, 1))
    (beat,) = [each for each in node.tick(1) if isinstance(each, HeartbeatRequest)]
    node.hear(HeartbeatReply(sender=2, to=1, term=1, context=beat.context))
    return node.state


def test_a_lease_lasts_its_ticks_and_no_longer() -> None:
    state = confirmed()
    for _ in range(lease_ticks(state.config)):
        assert step(state, ReadIndex(1)).effects.reads
        state = step(state, Tick()).state
    assert not step(state, ReadIndex(1)).effects.reads


def test_a_transfer_ends_leases_for_the_rest_of_the_term() -> None:
    state = step(confirmed(), TransferLeader(2)).state
    assert not valid(state)


def beat(node: Node) -> int:
    """Let a tick pass; the round of its heartbeats."""
    (context,) = {each.context for each in node.tick(1) if isinstance(each, HeartbeatRequest)}
    return context


def answer(node: Node, member: int, context: int) -> bool:
    """A member answers a round; whether the leader has a lease then."""
    node.hear(HeartbeatReply(sender=member, to=1, term=node.state.current_term, context=context))
    return valid(node.state)


def leasing(*voters: int, ticks: int = 0) -> Node:
    """Node 1 leads, its first entry is committed and applied; nobody has answered a heartbeat yet."""
    node = leader(voters=voters, check_quorum=True, read_only_lease=True, lease_ticks=ticks)
    node.write()
    for member in voters[1 : len(voters) // 2 + 1]:
        node.hear(node.held(member, 1))
    node.apply()
    return node


@pytest.mark.parametrize(("ticks", "lasts"), [(0, 5), (3, 3)])  # of ten ticks to an election; 0: half of them
def test_a_lease_is_as_long_as_it_is_set_to(ticks: int, lasts: int) -> None:
    node = leasing(1, 2, ticks=ticks)
    assert answer(node, 2, beat(node))
    node.tick(lasts - 1)
    assert valid(node.state)
    node.tick(1)
    assert not valid(node.state)


def test_a_lease_needs_a_majority() -> None:
    node = leasing(1, 2, 3, 4, 5)
    context = beat(node)
    assert [answer(node, member, context) for member in (2, 2, 4)] == [False, False, True]


def test_a_lease_runs_from_when_the_newest_round_was_sent_that_a_majority_answered() -> None:
    node = leasing(1, 2, 3)
    rounds = [beat(node) for _ in range(3)]
    assert answer(node, 2, rounds[1])
    left = lease_ticks(node.state.config) - 1  # one tick has passed since that round was sent
    node.tick(left - 1)
    assert valid(node.state)
    node.tick(1)
    assert not valid(node.state)
    assert not answer(node, 3, rounds[0])
    node.tick(1)
    assert not answer(node, 3, rounds[2])  # sent too long ago
    assert answer(node, 3, beat(node))


def test_a_change_of_the_voters_ends_the_lease_and_the_rounds_under_way() -> None:
    """Who answered had promised to voters that are no more."""
    node = leasing(1, 2, 3, 4)
    earlier = beat(node)
    assert [answer(node, member, earlier) for member in (2, 3)] == [False, True]
    under_way = beat(node)
    node.do(ProposeConfChange(ConfChange((Change(ChangeKind.REMOVE, 4),))))
    node.write()
    for member in (2, 3):
        node.hear(node.held(member, 2))
    node.apply()
    assert node.state.configuration.voters == (1, 2, 3)
    assert not valid(node.state)
    assert [answer(node, member, under_way) for member in (2, 3)] == [False, False]
    assert answer(node, 2, beat(node))


@pytest.mark.parametrize(
    "settings",
    [
        {"check_quorum": False, "read_only_lease": True},
        {"lease_ticks": 10},
        {"lease_ticks": -1},
        {"max_inflight_bytes": -1},
        {"max_uncommitted_bytes": -1},
    ],
)
def test_settings_that_cannot_be_kept_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="need"):
        Config(node_id=1, voters=(1,), **settings)  # type: ignore[arg-type]
