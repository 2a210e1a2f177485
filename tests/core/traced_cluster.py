"""A small cluster of bare cores that writes a trace: nodes, messages with a delay, nothing else.

For tests of traces and of their player. Deterministic: messages take 3 to 8 ms by a fixed rule, a disk 2 ms.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from tercet.core.raft import (
    NO_EFFECTS,
    Config,
    Effects,
    Entry,
    Event,
    HardState,
    Message,
    Persisted,
    Propose,
    RaftState,
    Receive,
    Role,
    Tick,
    restart,
    step,
)
from tercet.core.trace import Header, TraceEncoder

MILLISECOND = 1_000_000


class TracedCluster:
    """Cores on a heap of events. ``cut`` holds nodes that neither send nor receive, ``deaf`` those that only
    send."""

    def __init__(
        self, size: int = 3, seed: int = 1, step: Callable[..., tuple[RaftState, Effects]] = step
    ) -> None:
        self.names = {number: f"n{number}" for number in range(1, size + 1)}
        self.now = 0
        self.cut: list[int] = []
        self.deaf: list[int] = []
        self.seed = seed
        self._step = step
        self._encoder = TraceEncoder()
        header = Header(
            program="test", world="simulated", seed=seed, members=tuple(self.names.items()), comment="a test"
        )
        self.data = bytearray(self._encoder.begin(header))
        self._heap: list[tuple[int, int, int, object]] = []
        self._order = count()
        self.states: dict[int, RaftState] = {}
        self.disks: dict[int, tuple[HardState, tuple[Entry, ...]]] = {}
        for node in self.names:
            self.disks[node] = (HardState(), ())
            self.start(node)

    def start(self, node: int) -> None:
        """Begin a life of ``node`` with what its disk holds."""
        config = Config(node_id=node, voters=tuple(self.names), seed=self.seed)
        hard_state, entries = self.disks[node]
        self.states[node] = restart(config, hard_state, entries)
        self.data += self._encoder.record(self.now, None, NO_EFFECTS, self.states[node])
        self._at(100 + node, node, ("tick", self.states[node].config))

    def crash(self, node: int) -> None:
        del self.states[node]
        self.note("crash", f"{self.names[node]} loses power", node)

    def note(self, kind: str, text: str, node: int = 0) -> None:
        self.data += self._encoder.note(self.now, kind, text, node)

    def isolate(self, *nodes: int) -> None:
        self.cut = list(nodes)
        self.note("fault", "cut off: " + ", ".join(self.names[node] for node in nodes))

    def deafen(self, *nodes: int) -> None:
        self.deaf = list(nodes)
        self.note("fault", "hears nothing: " + ", ".join(self.names[node] for node in nodes))

    def heal(self) -> None:
        self.cut, self.deaf = [], []
        self.note("heal", "all links work")

    def propose(self, node: int, *data: bytes) -> None:
        self.note("client", "write " + b", ".join(data).decode(), node)
        self.feed(node, Propose(data))

    @property
    def leader(self) -> int:
        """The leader of the highest term; 0 when there is none."""
        leaders = [(s.current_term, node) for node, s in self.states.items() if s.role == Role.LEADER]
        return max(leaders, default=(0, 0))[1]

    def run(self, milliseconds: int) -> None:
        """Let time pass."""
        end = self.now + milliseconds * MILLISECOND
        while self._heap and self._heap[0][0] <= end:
            self.now, _, node, what = heapq.heappop(self._heap)
            if isinstance(what, tuple):
                if node in self.states and self.states[node].config is what[1]:
                    self._at(100, node, what)
                    self.feed(node, Tick())
            elif not isinstance(what, Receive) or node not in self.cut + self.deaf:
                self.feed(node, what)  # type: ignore[arg-type]
        self.now = end

    def feed(self, node: int, event: Event) -> Effects:
        """One step of a node; none when it is down."""
        if node not in self.states:
            return NO_EFFECTS
        self.states[node], effects = self._step(self.states[node], event)
        self.data += self._encoder.record(self.now, event, effects, self.states[node])
        self._write(node, effects)
        for message in effects.send:
            self._send(message, 0)
        for message in effects.send_after_persist:
            self._send(message, 2)
        return effects

    def _write(self, node: int, effects: Effects) -> None:
        hard_state, entries = self.disks[node]
        if effects.hard_state is not None:
            hard_state = effects.hard_state
        if effects.entries:
            entries = entries[: effects.entries[0].index - 1] + effects.entries
            last = effects.entries[-1]
            self._at(2, node, Persisted(last.index, last.term, self.states[node].current_term))
        self.disks[node] = (hard_state, entries)

    def _send(self, message: Message, wait: int) -> None:
        if message.sender not in self.cut:
            delay = 3 + (message.sender * 7 + message.to * 3 + self.now // MILLISECOND) % 6
            self._at(wait + delay, message.to, Receive(message))

    def _at(self, milliseconds: int, node: int, what: object) -> None:
        heapq.heappush(self._heap, (self.now + milliseconds * MILLISECOND, next(self._order), node, what))


def small_history(size: int = 3) -> TracedCluster:
    """An election, writes, a leader cut off with entries nobody else has, its return, a crash and restart."""
    cluster = TracedCluster(size)
    cluster.run(2500)
    for number in range(1, 4):
        cluster.propose(cluster.leader, b"x=%d" % number)
        cluster.run(60)
    old = cluster.leader
    cluster.isolate(old)
    cluster.propose(old, b"lost=1", b"lost=2")
    cluster.run(3500)
    cluster.propose(cluster.leader, b"y=1")
    cluster.run(200)
    cluster.heal()
    cluster.run(600)
    victim = next(node for node in cluster.states if node not in (cluster.leader, old))
    cluster.crash(victim)
    cluster.propose(cluster.leader, b"y=2")
    cluster.run(400)
    cluster.start(victim)
    cluster.run(600)
    return cluster
