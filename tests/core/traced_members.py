"""The small cluster of ``traced_cluster`` with members that come and go, snapshots, and a state machine.

The first entry of every founder's log names the founders, as in a real cluster; who joins later starts
knowing nobody. Applying takes 1 ms, a snapshot travels for 60 ms and is loaded in 45.
"""

from __future__ import annotations

from tercet.core.raft import (
    NO_EFFECTS,
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
    ProposeConfChange,
    ReadIndex,
    Receive,
    SnapshotInstalled,
    SnapshotMeta,
    SnapshotReady,
    SnapshotRequest,
    SnapshotSent,
    TransferLeader,
    encode_conf_change,
    restart,
    snapshot_meta,
)

from .traced_cluster import TracedCluster

__all__ = ["MemberCluster", "member_history"]


class MemberCluster(TracedCluster):
    """``founders`` nodes that start, and ``joiners`` that ``join`` later."""

    def __init__(self, founders: int = 3, joiners: int = 2, seed: int = 1) -> None:
        self.founders = tuple(range(1, founders + 1))
        self.snapshots: dict[int, SnapshotMeta | None] = {}
        self.bases: dict[int, tuple[int, int]] = {}  # index and term of the entry before those on disk
        super().__init__(founders + joiners, seed)

    def start(self, node: int) -> None:
        founder = node in self.founders
        if node not in self.bases:
            self.bases[node] = (0, 0)
            self.snapshots[node] = None
            if not founder:
                return
            change = ConfChange(tuple(Change(ChangeKind.ADD_VOTER, each) for each in self.founders))
            first = Entry(1, 1, encode_conf_change(change), EntryKind.CONF_CHANGE)
            self.disks[node] = (HardState(1, 0, 1), (first,))
        config = Config(node_id=node, voters=self.founders if founder else (), seed=self.seed)
        hard_state, entries = self.disks[node]
        applied = 0 if self.snapshots[node] else min(1, len(entries))
        self.states[node] = restart(
            config, hard_state, entries, applied, self.snapshots[node], base_term=self.bases[node][1]
        )
        self.data += self._encoder.record(self.now, None, NO_EFFECTS, self.states[node])
        self._at(100 + node, node, ("tick", self.states[node].config))

    def join(self, node: int) -> None:
        """Start a node that is a member of nothing yet."""
        self.note("client", f"{self.names[node]} is started with an empty disk", node)
        self.start(node)

    def change(self, node: int, *changes: tuple[ChangeKind, int]) -> None:
        """A client asks ``node`` to change the members."""
        self.feed(node, ProposeConfChange(ConfChange(tuple(Change(*each) for each in changes))))

    def read(self, node: int, context: int) -> None:
        self.feed(node, ReadIndex(context))

    def transfer(self, node: int, target: int) -> None:
        self.feed(node, TransferLeader(target))

    def compact(self, node: int, keep: int = 0) -> None:
        """The state machine is durable as it is; ``keep`` entries behind it stay."""
        state = self.states[node]
        meta = snapshot_meta(state)
        self.snapshots[node] = meta
        self.feed(node, SnapshotReady(meta, meta.index - keep))
        log = self.states[node].log
        hard_state, entries = self.disks[node]
        self.bases[node] = (log.base_index, log.base_term)
        self.disks[node] = (hard_state, tuple(each for each in entries if each.index > log.base_index))

    def feed(self, node: int, event: Event) -> Effects:
        if isinstance(event, SnapshotInstalled) and node in self.states:
            installing = self.states[node].installing
            assert installing is not None
            meta = installing.meta
            self.snapshots[node], self.bases[node] = meta, (meta.index, meta.term)
            self.disks[node] = (self.disks[node][0], ())
        effects = super().feed(node, event)
        if effects.committed:
            self._at(1, node, Applied(effects.committed[-1].index))
        if effects.install is not None:
            self._at(45, node, SnapshotInstalled(effects.install.index))
        return effects

    def _write(self, node: int, effects: Effects) -> None:
        hard_state, entries = self.disks[node]
        if effects.hard_state is not None:
            hard_state = effects.hard_state
        if effects.entries:
            entries = entries[: effects.entries[0].index - 1 - self.bases[node][0]] + effects.entries
            last = effects.entries[-1]
            self._at(2, node, Persisted(last.index, last.term, self.states[node].current_term))
        self.disks[node] = (hard_state, entries)

    def _send(self, message: Message, wait: int) -> None:
        if not isinstance(message, SnapshotRequest):
            super()._send(message, wait)
            return
        ok = message.sender not in self.cut and message.to not in self.cut
        if ok:
            self._at(60, message.to, Receive(message))
        self._at(62, message.sender, SnapshotSent(message.to, ok))


def member_history() -> MemberCluster:
    """Three members compact their logs; a learner joins by a snapshot, is promoted, is handed the lead, and
    replaces an old member by a new one; another hears nothing any more, and nobody lets it disturb."""
    add, learn, remove = ChangeKind.ADD_VOTER, ChangeKind.ADD_LEARNER, ChangeKind.REMOVE
    cluster = MemberCluster()
    cluster.run(2400)
    first = cluster.leader
    for number in range(1, 5):
        cluster.propose(first, b"x=%d" % number)
        cluster.run(40)
    cluster.run(150)
    cluster.compact(first)
    cluster.join(4)
    cluster.change(first, (learn, 4))
    cluster.change(first, (learn, 5))
    cluster.run(500)
    cluster.propose(first, b"y=1")
    cluster.run(60)
    cluster.change(first, (add, 4))
    cluster.run(150)
    cluster.transfer(first, 4)
    cluster.run(400)
    old = next(node for node in cluster.founders if node != first)
    cluster.compact(4, keep=2)
    cluster.join(5)
    cluster.change(4, (add, 5), (remove, old))
    cluster.run(600)
    cluster.propose(4, b"y=2")
    cluster.run(300)
    cluster.deafen(3)
    cluster.run(2600)
    cluster.read(3, 7)
    cluster.heal()
    cluster.run(400)
    return cluster
