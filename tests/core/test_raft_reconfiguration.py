"""Clusters that grow, shrink, compact, hand over and crash at random; whatever happens, nobody disagrees.

Unlike the explored world this one has no schedule to shrink: it is small, and here so that the core is tested
by something that lives beside it. A seed names a run.
"""

from __future__ import annotations

from random import Random

import pytest

from tercet.core.raft import (
    Applied,
    Change,
    ChangeKind,
    ConfChange,
    Config,
    Effects,
    Entry,
    EntryKind,
    Event,
    HardState,
    Message,
    Persisted,
    Propose,
    ProposeConfChange,
    RaftState,
    ReadIndex,
    Receive,
    Role,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotReady,
    SnapshotRequest,
    SnapshotSent,
    Tick,
    TransferLeader,
    TransitionKind,
    Unreachable,
    encode_conf_change,
    restart,
    snapshot_meta,
    state_digest,
    step,
)
from tercet.core.raft.membership import configuration_in

FIRST = (1, 2, 3)
IDS = tuple(range(1, 7))
_BOOTSTRAP = Entry(
    1,
    1,
    encode_conf_change(ConfChange(tuple(Change(ChangeKind.ADD_VOTER, i) for i in FIRST))),
    EntryKind.CONF_CHANGE,
)


class Peer:
    """One node with its disk: writes, applications and installations end when they are drawn."""

    def __init__(self, config: Config, *, first: bool) -> None:
        self.config = config
        self.hard_state = HardState(1, 0, 1) if first else HardState()
        self.entries = [_BOOTSTRAP] if first else []
        self.base_term = 0
        self.snapshot: SnapshotMeta | None = None
        self.state: RaftState | None = None
        self.writes: list[tuple[Effects, int]] = []
        self.released = 0
        self.installing: SnapshotMeta | None = None

    def start(self) -> RaftState:
        self.writes, self.installing = [], None
        applied = 0 if self.snapshot is None else self.snapshot.index
        entries = tuple(self.entries)
        return restart(
            self.config, self.hard_state, entries, applied, self.snapshot, base_term=self.base_term
        )


class Cluster:
    """Everything that happens is drawn from one seed; ``check`` after every step."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(f"{seed}/reconfiguration")
        self.peers: dict[int, Peer] = {}
        for node_id in IDS:
            first = node_id in FIRST
            config = Config(
                node_id=node_id,
                voters=FIRST if first else (),
                seed=seed,
                election_ticks=5,
                pre_vote=self.draw.random() < 0.7,
                check_quorum=self.draw.random() < 0.7,
                max_append_entries=self.draw.choice((1, 2, 64)),
                max_inflight_appends=self.draw.choice((1, 4)),
                max_inflight_bytes=self.draw.choice((0, 20)),
                max_uncommitted_bytes=self.draw.choice((0, 30)),
            )
            self.peers[node_id] = Peer(config, first=first)
        self.bag: list[Message] = []
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, Entry] = {}
        self.configurations: dict[int, object] = {}
        self.reads: dict[int, int] = {}
        self.seen: dict[str, int] = {}
        for node_id, peer in self.peers.items():
            peer.state = peer.start()
            self.do(node_id, Applied(0))

    def run(self, moves: int) -> None:
        for _ in range(moves):
            self._move()

    def _move(self) -> None:
        draw = self.draw
        choice = draw.random()
        node_id = draw.choice(IDS)
        peer = self.peers[node_id]
        if choice < 0.62 and self.bag:
            position = 0 if draw.random() < 0.8 else draw.randrange(len(self.bag))
            message = self.bag.pop(position)
            fate = draw.random()
            if fate < 0.05 and not isinstance(message, SnapshotRequest):
                self.bag.append(message)
            if fate < 0.95:
                self._receive(message)
        elif peer.state is None:
            if draw.random() < 0.3:
                peer.state = peer.start()
                self.check(node_id, None, Effects())
        elif choice < 0.75:
            self._write(node_id, peer)
        elif choice < 0.82:
            if peer.released > peer.state.applied_index:
                self.do(node_id, Applied(draw.randint(peer.state.applied_index + 1, peer.released)))
        elif choice < 0.94:
            self.do(node_id, Tick())
        else:
            self._rare(node_id, peer)

    def _rare(self, node_id: int, peer: Peer) -> None:
        draw = self.draw
        assert peer.state is not None
        kind = draw.randrange(8)
        if kind == 0:
            self.do(node_id, Propose((b"%d" % draw.randrange(1000),)))
        elif kind == 1:
            self.do(node_id, ProposeConfChange(self._change()))
        elif kind == 2 and draw.random() < 0.4:
            self.do(node_id, TransferLeader(draw.choice((0, *IDS))))
        elif kind == 3 and peer.installing is None and not peer.writes:
            self._compact(node_id, peer)
        elif kind == 4 and draw.random() < 0.3:
            peer.state = None
        elif kind == 5:
            context = len(self.reads) + 1
            self.reads[context] = max(self.committed, default=0)
            self.do(node_id, ReadIndex(context))
        elif kind == 6:
            self.do(node_id, Unreachable(draw.choice(IDS)))
        elif kind == 7 and draw.random() < 0.2:
            self.bag.clear()

    def _change(self) -> ConfChange:
        draw = self.draw
        if draw.random() < 0.2:
            return ConfChange()
        kinds = list(ChangeKind)
        count = draw.choice((1, 1, 2, 3))
        changes = tuple(Change(draw.choice(kinds), draw.choice(IDS)) for _ in range(count))
        return ConfChange(changes, draw.choice(list(TransitionKind)))

    def _compact(self, node_id: int, peer: Peer) -> None:
        assert peer.state is not None
        if peer.state.applied_index == 0:
            return
        peer.snapshot = meta = snapshot_meta(peer.state)
        self.do(node_id, SnapshotReady(meta, self.draw.randint(0, meta.index)))
        log = peer.state.log
        peer.base_term = log.base_term
        peer.entries = [entry for entry in peer.entries if entry.index > log.base_index]
        self.count("compacted")

    def _receive(self, message: Message) -> None:
        if isinstance(message, SnapshotRequest):
            arrives = self.draw.random() < 0.7 and self.peers[message.to].state is not None
            if self.peers[message.sender].state is not None:
                self.do(message.sender, SnapshotSent(message.to, arrives))
            if not arrives:
                return
        if self.peers[message.to].state is not None:
            self.do(message.to, Receive(message))

    def do(self, node_id: int, event: Event) -> None:
        peer = self.peers[node_id]
        before = peer.state
        assert before is not None
        peer.state, effects = step(before, event)
        if isinstance(event, Receive) and isinstance(event.message, SnapshotRequest) and effects.install:
            peer.installing = effects.install
        if effects.entries or effects.hard_state or effects.send_after_persist or effects.install:
            peer.writes.append((effects, peer.state.current_term))
        self.bag += effects.send
        self.check(node_id, before, effects)

    def _write(self, node_id: int, peer: Peer) -> None:
        """The oldest write ends."""
        if not peer.writes:
            return
        effects, under = peer.writes.pop(0)
        peer.hard_state = effects.hard_state or peer.hard_state
        if effects.install is not None:
            peer.snapshot, peer.entries = effects.install, []
            peer.base_term, peer.installing = effects.install.term, None
            peer.released = 0
            self.count("installed")
            self.do(node_id, SnapshotInstalled(effects.install.index))
        if effects.entries:
            first = effects.entries[0].index
            peer.entries = [entry for entry in peer.entries if entry.index < first] + list(effects.entries)
        self.bag += effects.send_after_persist
        if effects.entries:
            last = effects.entries[-1]
            self.do(node_id, Persisted(last.index, last.term, under))

    def count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    # --- what must always be true ------------------------------------------------------------------------

    def check(self, node_id: int, before: RaftState | None, effects: Effects) -> None:
        peer = self.peers[node_id]
        state = peer.state
        assert state is not None
        if before is None:
            peer.released = state.released_index
        if effects.committed:
            peer.released = effects.committed[-1].index
            assert effects.committed[0].index == (0 if before is None else before.released_index) + 1
        if state.role == Role.LEADER:
            assert self.leaders.setdefault(state.current_term, node_id) == node_id
            assert state.leadership is not None
            assert [peer.node_id for peer in state.leadership.progress] == list(state.configuration.members)
            if before is not None and before.role != Role.LEADER:
                self.count("elected")
        assert state.commit_index <= state.log.last_index
        assert state.released_index <= state.commit_index
        if before is not None:
            assert state.commit_index >= before.commit_index
            assert state.current_term >= before.current_term
        for entry in effects.committed:
            assert self.committed.setdefault(entry.index, entry) == entry
            assert entry.index in self.committed
        if effects.configuration is not None:
            index = effects.configuration.index
            made = configuration_in(effects.configuration)
            if effects.install is None:
                assert self.configurations.setdefault(index, made) == made
                self.count("joint" if made.outgoing else "changed")
        for read in effects.reads:
            self.count("read")
            assert read.read_index >= self.reads[read.context]


@pytest.mark.parametrize("block", range(4))
def test_nobody_ever_disagrees(block: int) -> None:
    seen: dict[str, int] = {}
    for seed in range(block * 60, block * 60 + 60):
        cluster = Cluster(seed)
        cluster.run(5000)
        for what, count in cluster.seen.items():
            seen[what] = seen.get(what, 0) + count
    assert all(seen[what] >= 50 for what in ("elected", "changed", "joint", "compacted", "installed", "read"))


def test_a_run_is_a_function_of_its_seed() -> None:
    digests = []
    for _ in range(2):
        cluster = Cluster(5)
        cluster.run(1000)
        states = [peer.state for peer in cluster.peers.values()]
        digests.append([b"" if state is None else state_digest(state) for state in states])
    assert digests[0] == digests[1]
