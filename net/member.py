"""One member: storage, core, peers, services and the front door, started and stopped in order.

``run_member`` is all there is: it runs until cancelled, on the real machine and in the simulator alike.
Start: listeners are bound first (so that an occupied port is known before anything is written), then the
log is recovered, then everything runs. Stop, when cancelled: the listeners close, what clients have under
way may finish for a moment, then the loop ends and the log is closed. Whatever fails inside stops the
whole member, and ``run_member`` raises it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import trio

from tercet.core import raft
from tercet.core.errors import Corruption
from tercet.core.machine import Command, Machine
from tercet.core.raft.types import Role, SoftState
from tercet.core.rpc_errors import RpcError
from tercet.core.trace import Header
from tercet.core.wal import Identity as WalIdentity
from tercet.core.wire.proto import internal_pb2 as internal

from .bootstrap import check_bootstrap
from .channel import Identity
from .config import MemberConfig, cluster_id, member_id
from .metrics import Metrics
from .node import Limits, Node
from .peer_metrics import peer_samples
from .peer_server import PeerServer
from .peers import Peers, split_url
from .server.front import Front, front_limits
from .server.http import make_http1_handler, make_metrics_handler
from .server.services import Services, build_methods
from .storage import Storage
from .tracing import Tracer
from .world import Connection, Listener, World

__all__ = ["Running", "run_member"]

DRAIN_SECONDS: Final = 0.5
PUBLISH_RETRY_SECONDS: Final = 0.5
VERSION_POLL_SECONDS: Final = 0.1
SCRAPERS_MAX: Final = 64  # connections to one address for metrics


@dataclass(frozen=True, slots=True)
class Running:
    """A member that runs, as ``run_member`` tells its starter; addresses are ``host:port``."""

    node: Node
    client_addresses: tuple[str, ...]
    peer_addresses: tuple[str, ...]
    metrics_addresses: tuple[str, ...] = ()


async def run_member(
    world: World, config: MemberConfig, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run one member until cancelled; started once it takes requests, which may be before there is a leader.

    Raises:
        OSError: An address cannot be listened on.
        Rejected: The data directory is in use, belongs to somebody else, or was lost (``net.bootstrap``).
        Corruption: The log cannot be trusted, or the disk failed.
        ValueError: The configuration contradicts itself.
    """
    try:
        await _run(world, config, task_status)
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        if len(leaves) != 1:
            raise
        raise leaves[0] from None


async def _run(world: World, config: MemberConfig, task_status: trio.TaskStatus[Running]) -> None:
    with ExitStack() as resources:
        listeners = _Listeners(world)
        resources.callback(world.probe.log, "info", "closed etcd server", name=config.name)
        resources.callback(listeners.close)
        await check_bootstrap(world, config)  # before others can connect, or all would wait for each other
        await listeners.open(config)
        member = await _Member.open(world, config, resources)
        await member.run(listeners, task_status)


class _Listeners:
    """The bound ports of a member."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.client: list[Listener] = []
        self.peer: list[Listener] = []
        self.metrics: list[Listener] = []

    async def open(self, config: MemberConfig) -> None:
        for urls, listeners in (
            (config.listen_peer_urls, self.peer),
            (config.listen_client_urls, self.client),
            (config.listen_metrics_urls, self.metrics),
        ):
            for address in dict.fromkeys(split_url(url) for url in urls):
                listeners.append(await self._world.net.listen(*address))

    def close(self) -> None:
        for listener in (*self.client, *self.peer, *self.metrics):
            listener.close()


class _Member:
    """The parts of a member, made but not yet running."""

    def __init__(
        self, world: World, config: MemberConfig, node: Node, peers: Peers, identity: Identity
    ) -> None:
        self._world = world
        self._config = config
        self.node = node
        self._peers = peers
        self._services: Services = build_methods(node, world, config)
        self._front = Front(
            world,
            self._services,
            make_http1_handler(node, config, self._services),
            limits=front_limits(config),
        )
        peer_http = make_http1_handler(node, config, None)

        async def serve_peer_http(connection: Connection, first: bytes) -> None:
            await peer_http(world, connection, first)

        self._peer_server = PeerServer(
            world,
            identity,
            peers=frozenset(peers.peers),
            deliver=node.deliver,
            answer=node.answer_call,
            http_handler=serve_peer_http,
        )
        self._metrics_http = make_metrics_handler(node, config)
        metrics = getattr(world.probe, "metrics", None)
        if isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            metrics.add_source(lambda: peer_samples(peers, self._peer_server))
        node.flush = self._front.flusher.flush
        node.on_soft_state.append(self._log_soft_state)
        self._failed = False

    @classmethod
    async def open(cls, world: World, config: MemberConfig, resources: ExitStack) -> _Member:
        """Recover the log and build everything on it; ``resources`` closes what was opened."""
        roster = config.members()
        own_id = member_id(config.initial_advertise_peer_urls, config.initial_cluster_token)
        ids = tuple(row[0] for row in roster)
        if own_id not in ids:
            raise ValueError(
                f'couldn\'t find local name "{config.name}" in the initial cluster configuration, '
                f"or its peer URLs differ from {','.join(config.initial_advertise_peer_urls)}"
            )
        identity = Identity(cluster_id(ids), own_id)
        storage, recovered = await Storage.open(
            world,
            config.data_dir,
            WalIdentity(identity.cluster_id, own_id),
            segment_bytes=config.wal_segment_bytes,
        )
        resources.callback(storage.close)
        world.probe.log(
            "info",
            "recovered the log",
            entries=len(recovered.entries),
            term=recovered.hard_state.current_term,
            fresh=recovered.fresh,
        )
        if config.trace_file:
            names = tuple((row[0], row[1]) for row in roster)
            tracer = Tracer(world, config.trace_file, Header(program="tercet", members=names))
            resources.callback(tracer.close)
            world = tracer.world
        settings = raft.Config(
            node_id=own_id,
            voters=ids,
            election_ticks=max(2, config.election_timeout_ms // config.heartbeat_interval_ms),
            pre_vote=config.pre_vote,
            seed=config.seed,
        )
        peers = Peers(world, identity, {row[0]: row[2] for row in roster})
        node = Node(
            world,
            member_id=own_id,
            cluster_id=identity.cluster_id,
            roster=roster,
            state=raft.restart(settings, recovered.hard_state, recovered.entries),
            machine=Machine(),
            storage=storage,
            outbox=peers,
            limits=_limits(config),
            tick_seconds=config.heartbeat_interval_ms / 1000,
            incarnation=_next_incarnation(world, config.data_dir),
        )
        return cls(world, config, node, peers, identity)

    async def run(self, listeners: _Listeners, task_status: trio.TaskStatus[Running]) -> None:
        """Run until cancelled, then stop in order; or until something fails."""
        async with trio.open_nursery() as nursery:
            stop = await nursery.start(self._everything, listeners)
            task_status.started(
                Running(
                    self.node,
                    tuple(listener.address for listener in listeners.client),
                    tuple(listener.address for listener in listeners.peer),
                    tuple(listener.address for listener in listeners.metrics),
                )
            )
            try:
                await trio.sleep_forever()
            finally:
                if not self._failed:
                    with trio.CancelScope(shield=True):
                        await self._stop_in_order(listeners)
                stop()

    async def _everything(
        self, listeners: _Listeners, *, task_status: trio.TaskStatus[Callable[[], None]]
    ) -> None:
        """Run all tasks, out of reach of the member's cancellation until ``stop`` is called."""
        try:
            with trio.CancelScope(shield=True) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.node.run)
                    nursery.start_soon(self._peers.run)
                    nursery.start_soon(self._front.run)
                    nursery.start_soon(self._services.run)
                    nursery.start_soon(self._publish)
                    nursery.start_soon(self._keep_version)
                    for listener in listeners.peer:
                        nursery.start_soon(self._accept_peers, listener)
                    for listener in listeners.metrics:
                        nursery.start_soon(self._accept_scrapes, listener)
                    for listener in listeners.client:
                        nursery.start_soon(self._front.serve_listener, listener)
                        self._world.probe.log(
                            "info", "ready to serve client requests", address=listener.address
                        )
                    task_status.started(scope.cancel)
        except BaseException:
            self._failed = True
            raise

    async def _stop_in_order(self, listeners: _Listeners) -> None:
        self._world.probe.log("info", "stopping", name=self._config.name)
        for listener in listeners.client:
            listener.close()
        self._services.shut()
        await self._front.drain(DRAIN_SECONDS)

    async def _accept_peers(self, listener: Listener) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._peer_server.serve, await listener.accept())

    async def _accept_scrapes(self, listener: Listener) -> None:
        """Serve metrics and health on an address of their own."""
        async with trio.open_nursery() as nursery:
            while True:
                connection = await listener.accept()
                if len(nursery.child_tasks) >= SCRAPERS_MAX:
                    connection.close()
                else:
                    nursery.start_soon(self._serve_scrape, connection)

    async def _serve_scrape(self, connection: Connection) -> None:
        try:
            await self._metrics_http(self._world, connection, b"")
        finally:
            connection.close()

    # What a member says about itself.

    async def _publish(self) -> None:
        """Tell the cluster this member's name and client URLs, through the log."""
        config = self._config
        attributes = internal.MemberAttributes(
            member_id=self.node.member_id, name=config.name, client_urls=config.advertise_client_urls
        ).SerializeToString()
        while True:
            try:
                await self.node.propose_and_wait(Command.MEMBER_ATTRIBUTES, attributes)
                break
            except RpcError as error:
                self._world.probe.log("warn", "failed to publish local member", error=error.message)
            await self._world.clock.sleep(PUBLISH_RETRY_SECONDS)
        self._world.probe.log(
            "info",
            "published local member to cluster through raft",
            name=config.name,
            client_urls=list(config.advertise_client_urls),
        )

    async def _keep_version(self) -> None:
        """As leader, set the cluster's version once; as any member, say when it is known."""
        node, clock = self.node, self._world.clock
        major, minor, *_ = self._config.reported_version.split(".")
        wanted = f"{major}.{minor}.0"
        while not node.machine.cluster_version:
            if node.is_leader:
                try:
                    payload = internal.ClusterVersion(version=wanted).SerializeToString()
                    await node.propose_and_wait(Command.CLUSTER_VERSION, payload)
                    self._world.probe.log("info", "set initial cluster version", cluster_version=wanted)
                except RpcError as error:
                    self._world.probe.log("warn", "failed to set the cluster version", error=error.message)
            await clock.sleep(VERSION_POLL_SECONDS)
        known = node.machine.cluster_version.rpartition(".")[0]
        self._world.probe.log("info", "enabled capabilities for version", cluster_version=known)

    def _log_soft_state(self, soft_state: SoftState) -> None:
        self._world.probe.log(
            "info",
            "raft state changed",
            role=Role(soft_state.role).name.lower(),
            leader=f"{soft_state.leader_id:x}",
            term=soft_state.current_term,
        )


def _limits(config: MemberConfig) -> Limits:
    return Limits(
        max_request_bytes=config.max_request_bytes,
        request_timeout=5.0 + 2 * config.election_timeout_ms / 1000,
    )


def _next_incarnation(world: World, data_dir: str) -> int:
    """Count this start of the member, durably, before it numbers anything."""
    path = posixpath.join(data_dir, "member", "incarnation")
    previous = 0
    if world.disk.exists(path):
        text = world.disk.read(path)
        if not text.strip().isdigit():
            raise Corruption(f"{path} should hold a number: restore it from a count that is surely higher")
        previous = int(text)
    world.disk.write_atomic(path, b"%d\n" % (previous + 1))
    return previous + 1


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
