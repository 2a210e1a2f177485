"""A cluster of unmodified members in a simulated world, and clients beside it.

Every member runs ``net.member.run_member`` on a host of its own, n1, n2, ...; every client is a host, too,
so that its connections cross the same network. The core's states are watched through the probe's step
hook; that is how faults find the leader, and where a trace or an invariant can listen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tercet.core.raft.state import RaftState
from tercet.core.raft.types import Role
from tercet.net.bootstrap import BootstrapRefused
from tercet.net.client import Client, open_client
from tercet.net.config import MemberConfig
from tercet.net.member import Running, run_member
from tercet.net.node import Node
from tercet.net.world import World

from .seeds import stream
from .world import Program, SimWorld, StepRecorder

__all__ = ["Cluster", "StepListener", "member_names"]

#: Called for every step of every member: host, event, effects, state after it.
StepListener = Callable[[str, object, object, RaftState], None]

_SEGMENT_BYTES = (16_384, 65_536, 262_144, 1_048_576)
#: Small, so that a short run lets its log go, sends snapshots and reads values back from disk.
_SNAPSHOT_COUNTS = (20, 50, 100, 300, 100_000)
_CATCHUP_ENTRIES = (3, 20, 50)
_RESIDENT_BYTES = 4_096
_COMPACTION_BATCHES = (2, 20, 1_000)
#: How often it is on: then nobody is added or removed in a cluster's first five seconds, or near trouble.
_STRICT = 0.2
_JOIN_SECONDS = 0.5  # between two attempts to join


def member_names(size: int) -> tuple[str, ...]:
    """The hosts of a cluster of ``size`` members."""
    return tuple(f"n{number}" for number in range(1, size + 1))


class Cluster:
    """``size`` members, 1 to 9, in ``sim``.

    Args:
        sim: a world that does not run yet, or runs already.
        listeners: are told every step; they must not change anything.
        recorder: gives a member that starts the function its trace goes to, or None.
        options: fields of ``MemberConfig`` that every member has, e.g. ``snapshot_count``.
    """

    def __init__(
        self,
        sim: SimWorld,
        size: int,
        *,
        listeners: tuple[StepListener, ...] = (),
        recorder: Callable[[str], StepRecorder | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not 1 <= size <= 9:
            raise ValueError(f"need 1 <= size <= 9, got {size}")
        self.sim = sim
        self.names = self._first = member_names(size)
        self.states: dict[str, RaftState] = {}
        self.nodes: dict[str, Node] = {}  # by host, of the incarnation that started last
        self.steps = 0
        self.offices: list[int] = []  # when a leader was elected, virtual ns
        self._listeners = listeners
        self._recorder = recorder
        self._rng = stream(sim.seed, "cluster")
        self._segment_bytes = self._rng.choice(_SEGMENT_BYTES)
        self._options = {
            "snapshot_count": self._rng.choice(_SNAPSHOT_COUNTS),
            "snapshot_catchup_entries": self._rng.choice(_CATCHUP_ENTRIES),
            "resident_value_bytes": _RESIDENT_BYTES,
            "compaction_batch_limit": self._rng.choice(_COMPACTION_BATCHES),
            "strict_reconfig_check": self._rng.random() < _STRICT,
            **(options or {}),
        }
        self._roster = dict.fromkeys(self.names, self.names)  # whom each member is told of at its start
        for name in self.names:
            sim.host(name)
        sim.step_recorder = self._recorder_for

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client URLs of all members."""
        return tuple(f"http://{name}:2379" for name in self.names)

    def config(self, name: str) -> MemberConfig:
        """The configuration of one member."""
        return MemberConfig(
            name=name,
            data_dir="/data",
            listen_client_urls=("http://0.0.0.0:2379",),
            advertise_client_urls=(f"http://{name}:2379",),
            listen_peer_urls=("http://0.0.0.0:2380",),
            initial_advertise_peer_urls=(f"http://{name}:2380",),
            initial_cluster={other: (f"http://{other}:2380",) for other in self._roster[name]},
            initial_cluster_state="new" if name in self._first else "existing",
            wal_segment_bytes=self._segment_bytes,
            log_level="warn",
            seed=stream(self.sim.seed, "member", name).getrandbits(63),
            **self._options,
        )

    def start(self) -> None:
        """Start every member."""
        for name in self.names:
            self.sim.start(name, self._program(name))

    def join(self, name: str, beside: Sequence[str]) -> None:
        """Start one more member on a host of its own, after it was added to the cluster by a client.

        Args:
            name: of the new host.
            beside: who is a member now, ``name`` left out.
        """
        self._roster[name] = (*beside, name)
        self.names = (*self.names, name)
        self.sim.host(name)
        self.sim.start(name, self._program(name))

    def leave(self, name: str) -> None:
        """A member was removed: nobody expects anything of it any more. It should end by itself."""
        self.names = tuple(other for other in self.names if other != name)

    def leader(self) -> str | None:
        """The running member that believes to lead in the highest term; None when none does."""
        best: str | None = None
        for name, state in self.states.items():
            if state.role == Role.LEADER and self.sim.running(name):
                if best is None or state.current_term > self.states[best].current_term:
                    best = name
        return best

    def client(self, host: str, endpoints: tuple[str, ...] = (), request_timeout: float = 5.0) -> Client:
        """A client on a host of its own, for ``async with``; to be opened in a program of that host."""
        world = self.sim.world_for(host)
        return open_client(world, endpoints or self.endpoints, request_timeout=request_timeout)

    def _program(self, name: str) -> Program:
        """One member; a joining one tries again until somebody tells it of the cluster."""
        config = self.config(name)

        async def program(world: World) -> None:
            while True:
                try:
                    return await run_member(world, config, task_status=_Started(self.nodes, name))
                except BootstrapRefused:
                    if config.initial_cluster_state == "new":
                        raise
                await world.clock.sleep(_JOIN_SECONDS)

        return program

    def _recorder_for(self, name: str) -> StepRecorder | None:
        if name not in self.names:
            return None
        self.states.pop(name, None)
        trace = self._recorder(name) if self._recorder is not None else None
        states, listeners = self.states, self._listeners

        def step(event: object, effects: object, state: object) -> None:
            assert isinstance(state, RaftState)
            if state.role == Role.LEADER:
                before = states.get(name)
                if before is None or (before.role, before.current_term) != (state.role, state.current_term):
                    self.offices.append(self.sim.engine.now)
            states[name] = state
            self.steps += 1
            for listener in listeners:
                listener(name, event, effects, state)
            if trace is not None:
                trace(event, effects, state)

        return step



class _Started:
    """Takes what a member says when it has started; ``trio.TaskStatus``."""

    def __init__(self, nodes: dict[str, Node], name: str) -> None:
        self._nodes = nodes
        self._name = name

    def started(self, value: Running | None = None) -> None:
        assert value is not None
        self._nodes[self._name] = value.node
