"""The core as a rule-based machine: whatever happens to messages, disks and nodes, figure 3 holds.

Rules are what may happen: a tick, a message that arrives, is lost, comes twice or late, a write that ends,
a crash that loses what is not written, a restart, proposals, reads. Invariants are the paper's properties,
checked by ``sim.invariants`` after every step of the core and once more here, from the outside.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tercet.core.raft import (
    Config,
    Event,
    Message,
    Persisted,
    Propose,
    RaftState,
    ReadIndex,
    Receive,
    Role,
    Tick,
    restart,
    step,
)
from tercet.sim.explorer.disk import Disk
from tercet.sim.invariants import Invariants

NODES = st.integers(0, 4)
PICKS = st.integers(0, 1 << 16)


class Peer:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.disk = Disk()
        self.state: RaftState | None = None


class RaftMachine(RuleBasedStateMachine):
    """Three or five nodes, a bag of messages, and disks that write when a rule says so."""

    @initialize(
        size=st.sampled_from((3, 3, 5)), pre_vote=st.booleans(), check_quorum=st.booleans(),
        limit=st.sampled_from((1, 1024)),
    )
    def begin(self, size: int, pre_vote: bool, check_quorum: bool, limit: int) -> None:
        self.bag: list[Message] = []
        self.watch = Invariants()
        self.contexts = 0
        self.peers: list[Peer] = []
        for node_id in range(1, size + 1):
            config = Config(
                node_id=node_id, voters=tuple(range(1, size + 1)), pre_vote=pre_vote, election_ticks=2,
                check_quorum=check_quorum, max_append_entries=limit, max_inflight_appends=3,
            )
            self.peers.append(Peer(config))
            self._start(self.peers[-1])

    def _start(self, peer: Peer) -> None:
        peer.state = restart(peer.config, peer.disk.hard_state, tuple(peer.disk.entries))
        self.watch.restarted(peer.config.node_id, peer.state)

    def _peer(self, pick: int) -> Peer:
        return self.peers[pick % len(self.peers)]

    def _step(self, peer: Peer, event: Event) -> None:
        if peer.state is None:
            return
        node_id = peer.config.node_id
        peer.state, effects = step(peer.state, event)
        self.watch.observe(node_id, peer.state, effects)
        self.bag += effects.send
        if not peer.disk.add(effects):
            self.bag += effects.send_after_persist
        for entry in effects.committed:
            assert peer.disk.entries[entry.index - 1] == entry, "applied before it was durable"
        for read in effects.reads:
            self.watch.read_confirmed(node_id, read.context, read.read_index)

    @rule(pick=NODES, ticks=st.integers(1, 4))
    def tick(self, pick: int, ticks: int) -> None:
        for _ in range(ticks):
            self._step(self._peer(pick), Tick())

    @rule(picks=st.lists(PICKS, min_size=1, max_size=8))
    def deliver(self, picks: list[int]) -> None:
        """Messages arrive in any order."""
        for pick in picks:
            if self.bag:
                message = self.bag.pop(pick % len(self.bag))
                self._step(self.peers[message.to - 1], Receive(message))

    @rule(pick=PICKS)
    def duplicate(self, pick: int) -> None:
        if self.bag:
            message = self.bag[pick % len(self.bag)]
            self._step(self.peers[message.to - 1], Receive(message))

    @rule(pick=PICKS)
    def lose(self, pick: int) -> None:
        if self.bag:
            self.bag.pop(pick % len(self.bag))

    @rule(pick=NODES)
    def write(self, pick: int) -> None:
        """A write begins, and ends."""
        self._write(self._peer(pick))

    @rule()
    def write_all(self) -> None:
        for peer in self.peers:
            self._write(peer)

    def _write(self, peer: Peer) -> None:
        if peer.state is None:
            return
        peer.disk.begin(peer.state.current_term)
        if peer.disk.under_way is None:
            return
        batch = peer.disk.complete()
        self.bag += batch.messages
        for written in reversed(batch.steps):
            entries = written[1]
            if entries:
                self._step(peer, Persisted(entries[-1].index, entries[-1].term, batch.under))
                break

    @rule()
    def settle(self) -> None:
        """For a while everything arrives and every write ends."""
        for _ in range(12):
            for message in [self.bag.pop(0) for _ in range(len(self.bag))]:
                self._step(self.peers[message.to - 1], Receive(message))
            self.write_all()

    @rule(pick=NODES, survives=st.integers(0, 2))
    def crash(self, pick: int, survives: int) -> None:
        peer = self._peer(pick)
        if peer.state is not None:
            peer.disk.begin(peer.state.current_term)
            peer.disk.crash(survives)
            peer.state = None

    @rule(pick=NODES)
    def restart_node(self, pick: int) -> None:
        peer = self._peer(pick)
        if peer.state is None:
            self._start(peer)

    @rule(pick=NODES, count=st.integers(1, 3))
    def propose(self, pick: int, count: int) -> None:
        self.contexts += 1
        data = tuple(b"%d.%d" % (self.contexts, part) for part in range(count))
        self._step(self._peer(pick), Propose(data))

    @rule(pick=NODES)
    def read(self, pick: int) -> None:
        peer = self._peer(pick)
        if peer.state is not None:
            self.contexts += 1
            self.watch.read_asked(peer.config.node_id, self.contexts)
            self._step(peer, ReadIndex(self.contexts))

    def _states(self) -> list[RaftState]:
        return [peer.state for peer in getattr(self, "peers", []) if peer.state is not None]

    @invariant()
    def at_most_one_leader_in_a_term(self) -> None:
        terms = [state.current_term for state in self._states() if state.role == Role.LEADER]
        assert len(terms) == len(frozenset(terms))

    @invariant()
    def logs_that_share_an_entry_agree_before_it(self) -> None:
        states = self._states()
        for one, other in pairwise(states):
            for index in range(min(one.log.last_index, other.log.last_index), 0, -1):
                if one.log.term_at(index) == other.log.term_at(index):
                    assert one.log.entries(1, index) == other.log.entries(1, index)
                    break

    @invariant()
    def nobody_commits_what_another_did_not(self) -> None:
        states = self._states()
        for state in states:
            common = min(state.commit_index, states[0].commit_index)
            assert state.log.entries(1, common) == states[0].log.entries(1, common)

    @invariant()
    def indexes_are_in_order(self) -> None:
        for state in self._states():
            assert state.applied_index <= state.released_index <= state.commit_index <= state.log.last_index
            assert state.persisted_index <= state.log.last_index


RaftMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRaftMachine = RaftMachine.TestCase
