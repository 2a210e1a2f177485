"""One simulated run: a cluster, clients, a schedule of faults, then healing, then judgement.

Two phases. While faults happen only safety counts. Then all faults stop, and the cluster must serve on
every member and agree on its data within a bound of virtual time: liveness. What the clients do and how
their history is checked comes from above as an ``Experiment``; the judgement here covers what needs no
history: members that ended with an exception, no service after healing, data that differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec
import trio

from tercet import __version__
from tercet.core.errors import TercetError
from tercet.core.raft.state import RaftState
from tercet.core.raft.types import Effects
from tercet.core.trace import Header, TraceEncoder
from tercet.net.client import Client, open_client
from tercet.net.config import member_id
from tercet.net.world import World

from .agreement import Agreement
from .audit import Escape
from .chaos import Band, Chaos
from .cluster import Cluster, StepListener, member_names
from .engine import Livelock, SimulationStuck
from .faults import KINDS, Schedule, draw_schedule
from .operator import Operator
from .watch import Watch
from .world import SimWorld, StepRecorder

__all__ = ["Experiment", "Result", "Setting", "run_simulation"]

_BOOT_SECONDS = 10.0  # for the first leader
_HEAL_SECONDS = 30.0  # until every member serves again
_FINISH_SECONDS = 12.0  # for clients to end their last operations
_POLL_SECONDS = 0.25


class Setting:
    """What one client of an experiment gets.

    ``stop`` is set when the client should finish: after healing. ``number`` counts clients from 0.
    """

    def __init__(self, sim: SimWorld, cluster: Cluster, number: int, count: int) -> None:
        self.number = number
        self.count = count
        self.host = f"c{number + 1}"
        self.stop = trio.Event()
        self._sim = sim
        self._cluster = cluster

    @property
    def world(self) -> World:
        """The client's machine."""
        return self._sim.world_for(self.host)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The client URLs of all members now."""
        return self._cluster.endpoints

    def now(self) -> int:
        """True virtual time in ns, for recording; the members' clocks may differ."""
        return self._sim.engine.now

    def client(
        self,
        endpoint: int | None = None,
        request_timeout: float = 5.0,
        login: tuple[str, str] | None = None,
    ) -> Client:
        """A client library for ``async with``: of one member by number, or of all, beginning with another
        member for each client. ``login`` is for clusters that may turn authentication on."""
        urls = self._cluster.endpoints
        first = (self.number if endpoint is None else endpoint) % len(urls)
        chosen = (urls[first:] + urls[:first]) if endpoint is None else (urls[first],)
        return open_client(self.world, chosen, request_timeout=request_timeout, login=login)


class Experiment(Protocol):
    """What a run is about."""

    async def client(self, setting: Setting) -> None:
        """Be one client until ``setting.stop``; it returns then, within seconds."""

    @property
    def operations(self) -> int:
        """How many operations were asked so far."""


class Result(msgspec.Struct, kw_only=True):
    """What a run was and what it came to. ``problems`` is empty when nothing is wrong."""

    seed: int
    nodes: int
    digest: str
    virtual_seconds: float
    cpu_seconds: float
    operations: int
    events: int
    faults_fired: dict[str, int]
    points: dict[str, int]  # how often the members came by each named point
    problems: list[str]
    schedule: Schedule
    bands: list[Band]
    compactions: list[tuple[int, int]]  # that the operator asked for: virtual ns, revision
    offices: list[int]  # when leaders were elected, virtual ns


def run_simulation(
    seed: int,
    experiment: Experiment,
    *,
    nodes: int = 3,
    seconds: float = 15.0,
    clients: int = 5,
    schedule: Schedule | None = None,
    kinds: tuple[str, ...] | None = None,
    listeners: tuple[StepListener, ...] = (),
    trace: Callable[[bytes], None] | None = None,
    full_log: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Run one simulation; a function of its arguments. Raft's figure 3 is watched at every step.

    Args:
        seed: of everything that is drawn.
        seconds: length of the fault phase in virtual time; starting and healing come on top.
        schedule: the faults; None draws them from the seed.
        kinds: what may be drawn; None: everything that destroys nothing.
        listeners: are told every step of every member.
        trace: gets the bytes of a trace (``core.trace``) as they come.
        options: fields of ``MemberConfig`` that every member has.
    """
    sim = SimWorld(seed, full_log=full_log)
    watch = Watch(sim)
    recording = None if trace is None else _Recording(sim, member_names(nodes), trace)
    settings = {"bcrypt_cost": 4, **(options or {})}
    cluster = Cluster(sim, nodes, listeners=(watch, *listeners), recorder=recording, options=settings)
    plan = draw_schedule(seed, cluster.names, seconds, kinds) if schedule is None else schedule
    run = _Run(sim, cluster, experiment, plan, seconds, clients)
    if recording is not None:
        recording.begin(cluster)
        run.chaos.on_change = recording.note
    started = time.process_time()
    try:
        sim.run(run.main)
    except (Escape, Livelock, SimulationStuck) as error:
        run.problems.append(f"{type(error).__name__}: {error}")
    run.problems[:0] = watch.finish()
    return Result(
        seed=seed,
        nodes=nodes,
        digest=sim.engine.digest,
        virtual_seconds=sim.now,
        cpu_seconds=time.process_time() - started,
        operations=experiment.operations,
        events=sim.engine.events,
        faults_fired=dict(sorted(run.chaos.fired.items())),
        points=_points(sim),
        problems=run.problems,
        schedule=plan,
        bands=run.chaos.bands,
        compactions=run.operator.compactions,
        offices=cluster.offices,
    )


def _points(sim: SimWorld) -> dict[str, int]:
    found: dict[str, int] = {}
    for host in sim.hosts.values():
        for name, count in host.points.items():
            found[name] = found.get(name, 0) + count
    return dict(sorted(found.items()))


class _Recording:
    """Writes one trace of all members, with the faults as notes, in virtual time."""

    def __init__(self, sim: SimWorld, names: tuple[str, ...], sink: Callable[[bytes], None]) -> None:
        self._engine = sim.engine
        self._names = names
        self._encoder = TraceEncoder()
        self._sink = sink

    def begin(self, cluster: Cluster) -> None:
        configs = {name: cluster.config(name) for name in self._names}
        members = [
            (member_id(c.initial_advertise_peer_urls, c.initial_cluster_token), name)
            for name, c in configs.items()
        ]
        header = Header(
            program=f"tercet {__version__}", world="simulated", seed=self._engine.seed, members=tuple(members)
        )
        self._sink(self._encoder.begin(header))

    def __call__(self, name: str) -> StepRecorder:
        engine, encoder, sink = self._engine, self._encoder, self._sink

        def step(event: object, effects: object, state: object) -> None:
            assert isinstance(effects, Effects) and isinstance(state, RaftState)
            sink(encoder.record(engine.now, event, effects, state))  # type: ignore[arg-type]

        return step

    def note(self, kind: str, text: str) -> None:
        self._sink(self._encoder.note(self._engine.now, kind, text))


class _Run:
    def __init__(
        self,
        sim: SimWorld,
        cluster: Cluster,
        experiment: Experiment,
        plan: Schedule,
        seconds: float,
        clients: int,
    ) -> None:
        self.sim = sim
        self.cluster = cluster
        self.experiment = experiment
        self.plan = plan
        self.seconds = seconds
        self.problems: list[str] = []
        self.operator = Operator(sim, cluster)
        self.chaos = Chaos(sim, cluster.names, cluster.leader, self.operator)
        self._settings = [Setting(sim, cluster, number, clients) for number in range(clients)]
        self._expected_stops = any(KINDS[fault.kind].destructive for fault in plan)

    async def main(self) -> None:
        sim = self.sim
        self.cluster.start()
        await self._wait_for_leader()
        for setting in self._settings:
            sim.start(setting.host, partial(self._client, setting))
        self.chaos.play(self.plan)
        await sim.sleep(self.seconds)
        self._judge_failures()
        self.chaos.heal()
        await self._settle()
        await self._converge()
        await self._finish_clients()
        await self._compare()
        self._judge_failures()

    async def _client(self, setting: Setting, world: World) -> None:
        await self.experiment.client(setting)

    async def _wait_for_leader(self) -> None:
        deadline = self.sim.now + _BOOT_SECONDS
        while self.cluster.leader() is None:
            if self.sim.now > deadline or self.sim.failures:
                self.problems.append(f"no leader within {_BOOT_SECONDS:g} s of starting")
                return
            await self.sim.sleep(_POLL_SECONDS / 5)

    def _judge_failures(self) -> None:
        """A program that ended with an exception is a bug, unless a destructive fault stopped it."""
        for when, name, error in self.sim.failures:
            if not (self._expected_stops and name in self.cluster.names):
                self.problems.append(f"{name} ended at {when / 1e9:.3f} s: {_describe(error)}")
        self.sim.failures.clear()

    async def _finish_clients(self) -> None:
        for setting in self._settings:
            setting.stop.set()
        deadline = self.sim.now + _FINISH_SECONDS
        while any(self.sim.running(s.host) for s in self._settings) and self.sim.now < deadline:
            await self.sim.sleep(_POLL_SECONDS)
        for setting in self._settings:
            if self.sim.kill(setting.host):
                self.problems.append(f"client {setting.host} did not end within {_FINISH_SECONDS:g} s")

    # -- liveness and agreement -------------------------------------------------------------------

    async def _converge(self) -> None:
        """After healing every member must answer a linearizable read."""
        await self._until(
            lambda answers: all(answer is not None for answer in answers),
            lambda answers: "does not serve: " + ", ".join(
                name for name, answer in zip(self.cluster.names, answers, strict=True) if answer is None
            ),
        )

    async def _settle(self) -> None:
        """The operator puts right what it has changed."""
        deadline = self.sim.now + _HEAL_SECONDS
        while (busy := self.operator.busy) and self.sim.now < deadline:
            await self.sim.sleep(_POLL_SECONDS)
        if busy:
            self.problems.append(f"{_HEAL_SECONDS:g} s after healing: {', '.join(busy)} gets no answer")
            self.operator.stop()

    async def _compare(self) -> None:
        """All members must hold the same state, and have it on their disks."""
        agreement = Agreement(self.cluster)
        deadline = self.sim.now + _HEAL_SECONDS
        while (found := agreement.problem()) and self.sim.now < deadline:
            await self.sim.sleep(_POLL_SECONDS)
        if found:
            self.problems.append(f"{_HEAL_SECONDS:g} s after healing: {found}")

    async def _until(
        self,
        good: Callable[[list[str | None]], bool],
        explain: Callable[[list[str | None]], str],
    ) -> None:
        judge = _Judge(self.cluster)
        self.sim.start("judge", judge.program)
        deadline = self.sim.now + _HEAL_SECONDS
        while not good(judge.answers):
            if self.sim.now > deadline:
                self.problems.append(f"{_HEAL_SECONDS:g} s after healing: {explain(judge.answers)}")
                break
            await self.sim.sleep(_POLL_SECONDS)
        self.sim.kill("judge")


class _Judge:
    """Asks every member for a read again and again; ``answers`` holds their last answers."""

    def __init__(self, cluster: Cluster) -> None:
        self.answers: list[str | None] = [None] * len(cluster.names)
        self._cluster = cluster

    async def program(self, world: World) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(len(self.answers)):
                nursery.start_soon(self._ask, number, world)

    async def _ask(self, number: int, world: World) -> None:
        url = self._cluster.endpoints[number]
        async with self._cluster.client("judge", (url,), 2.0) as client:
            while True:
                try:
                    await client.get(b"\0", limit=1)
                    self.answers[number] = "serves"
                except TercetError:
                    self.answers[number] = None
                await world.clock.sleep(_POLL_SECONDS)


def _describe(error: BaseException) -> str:
    """The innermost errors with their types, on one line."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_describe(inner) for inner in error.exceptions)
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f" at {frame.tb_frame.f_globals.get('__name__')}:{frame.tb_lineno}"
    return f"{type(error).__name__}: {error}{where}"
