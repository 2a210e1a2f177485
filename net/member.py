"""One member: storage, core, peers, services and the front door, started and stopped in order.

``run_member`` is all there is: it runs until cancelled, on the real machine and in the simulator alike.
Start: listeners are bound first (so that an occupied port is known before anything is written), then the
log is recovered, then everything runs. Stop, when cancelled: a leader hands over first, the listeners close,
what clients have under way may finish for a moment, then the loop ends and the log is closed. Whatever fails
inside stops the whole member, and ``run_member`` raises it. A member that was removed from its cluster stops
by itself, and ``run_member`` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from tercet.core.raft.types import Unreachable
from tercet.core.trace import Header
from tercet.core.wire.peer import Refusal

from .adopt import adopt_etcd_directory
from .announcing import keep_version, log_soft_state, publish
from .bootstrap import Start, plan_start
from .channel import Identity
from .compactor import Compactor
from .config import MemberConfig
from .corruption import CorruptionCheck
from .dial import Dialer
from .discovery import discover
from .keeper import Keeper
from .listeners import Listeners, with_own_certificates
from .metrics import Metrics
from .node import Limits, Node
from .peer_metrics import peer_samples
from .peer_server import PeerServer
from .peers import Peers
from .recovery import recover
from .restore import check_restored
from .server.front import Front, front_limits
from .server.http import Http1Handler, make_http1_handler, make_metrics_handler
from .server.services import Services, build_methods
from .snapshots import SnapshotDriver
from .tls_context import peer_client_tls
from .tracing import Tracer
from .versions import VersionWatch
from .world import Connection, Listener, World

__all__ = ["Running", "run_member"]

DRAIN_SECONDS: Final = 0.5
REMOVED_STOP_SECONDS: Final = 1.0  # from a member's removal to its end: others may still need its answers
HAND_OVER_SECONDS: Final = 1.0  # a stopping leader waits so long for another one
HAND_OVER_POLL_SECONDS: Final = 0.01
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

    Returns by itself when the member has been removed from its cluster.

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
        listeners = Listeners(world)
        resources.callback(world.probe.log, "info", "closed etcd server", name=config.name)
        resources.callback(listeners.close)
        config = await discover(world, with_own_certificates(world, config))
        check_restored(world, config.data_dir)
        await adopt_etcd_directory(world, config.data_dir, config.log_folder)
        start = await plan_start(world, config)  # before others can connect, or all would wait for each other
        await listeners.open(config)
        member = await _Member.open(world, config, start, resources)
        await member.run(listeners, task_status)


class _Member:
    """The parts of a member, made but not yet running."""

    def __init__(
        self, world: World, config: MemberConfig, node: Node, peers: Peers, identity: Identity, start: Start,
        keeper: Keeper,
    ) -> None:
        self._keeper = keeper
        self._compactor = Compactor(
            world, node, config.auto_compaction_mode, config.auto_compaction_retention
        )
        self._versions = VersionWatch(world, node, config.reported_version, config.downgrade_check_time)
        self._corruption = CorruptionCheck(
            world, node, config.corrupt_check_time,
            config.compact_hash_check_time if config.compact_hash_check_enabled else 0.0,
        )
        self._hints = start.peer_urls  # whom to dial until the log tells
        self._world = world
        self._config = config
        self.node = node
        self._peers = peers
        self._services: Services = build_methods(node, world, config)
        self._client_http = make_http1_handler(node, config, self._services)
        self._front = Front(
            world,
            self._services,
            None if config.listen_client_http_urls else self._client_http,
            limits=front_limits(config),
        )
        node.snapshots = self._snapshots = SnapshotDriver(
            world, identity.member_id, node.happen, peers, keeper
        )
        peer_http = make_http1_handler(node, config, None)

        async def serve_peer_http(connection: Connection, first: bytes) -> None:
            await peer_http(world, connection, first)

        self._peer_server = PeerServer(
            world,
            identity,
            admit=self._admit,
            deliver=node.deliver,
            answer=node.answer_call,
            http_handler=serve_peer_http,
            snapshot_handler=self._snapshots.serve,
        )
        self._metrics_http = make_metrics_handler(node, config)
        metrics = getattr(world.probe, "metrics", None)
        if isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            metrics.add_source(lambda: peer_samples(peers, self._peer_server))
        node.database_size = lambda: (keeper.backend.size(), keeper.backend.size_in_use())
        node.flush = self._services.turns.flush = self._front.flusher.flush
        node.on_soft_state.append(partial(log_soft_state, world))
        node.on_members.append(self._follow_members)
        peers.on_removed = node.removed.set
        peers.on_lost = lambda member_id: node.happen(Unreachable(member_id))
        self._failed = False

    @classmethod
    async def open(
        cls, world: World, config: MemberConfig, start: Start, resources: ExitStack
    ) -> _Member:
        """Recover what the disk holds and build everything on it; ``resources`` closes what was opened."""
        identity = Identity(start.identity.cluster_id, start.identity.member_id)
        found = await recover(world, config, start, resources)
        keeper = found.keeper
        if config.trace_file:
            tracer = Tracer(world, config.trace_file, Header(program="tercet", members=start.names))
            resources.callback(tracer.close)
            world = tracer.world
        dialer = Dialer(world, peer_client_tls(config.peer_tls))
        peers = Peers(world, identity, start.peer_urls, config.initial_advertise_peer_urls, dialer)
        node = Node(
            world,
            member_id=identity.member_id,
            cluster_id=identity.cluster_id,
            state=found.state,
            machine=keeper.machine,
            storage=found.storage,
            outbox=peers,
            limits=_limits(config),
            tick_seconds=config.heartbeat_interval_ms / 1000,
            incarnation=found.incarnation,
        )
        keeper.attach(node)
        node.keeper = keeper
        return cls(world, config, node, peers, identity, start, keeper)

    async def run(self, listeners: Listeners, task_status: trio.TaskStatus[Running]) -> None:
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
                await self.node.removed.wait()
                await self._leave_the_cluster()
            finally:
                if not self._failed:
                    with trio.CancelScope(shield=True):
                        await self._stop_in_order(listeners)
                stop()

    async def _leave_the_cluster(self) -> None:
        """This member was removed: it says so, and stops a moment later.

        If it led, perhaps nobody else knows that the removal is committed; its refusals will tell those who
        stand for election, within two election timeouts (``core.raft.election.on_vote_reply``).
        """
        log = self._world.probe.log
        log("warn", "server error", error="the member has been permanently removed from the cluster")
        log("warn", "data-dir used by this member must be removed", data_dir=self._config.data_dir)
        seconds = REMOVED_STOP_SECONDS
        if self.node.led_when_removed:
            seconds += 2 * self._config.election_timeout_ms / 1000
        await self._world.clock.sleep(seconds)

    # Who the others are.

    def _admit(self, sender: int, urls: tuple[str, ...]) -> Refusal | None:
        """Whether a member may speak to us: None, or why not. Runs when it dials."""
        if sender in self.node.machine.members.removed:
            return Refusal(f"member {sender:x} has been removed from the cluster", removed=True)
        if sender in self._peers.peers or (urls and self._peers.meet(sender, urls)):
            return None
        return Refusal(f"member {sender:x} is not part of this cluster")

    def _follow_members(self) -> None:
        """The members have changed: dial those that there are, and let go of the others."""
        members = self.node.machine.members
        if members.get(self.node.member_id) is not None:
            self._hints = {}  # the log knows of us, and so of all that were there when we were added
        urls = {member: found for member, found in self._hints.items() if member not in members.removed}
        urls.update((member.id, member.peer_urls) for member in members.all())
        for gone in self._peers.peers:
            if gone not in urls and gone in members.removed:
                self._peer_server.let_go(gone)
        self._peers.follow(urls, members.removed)

    async def _everything(
        self, listeners: Listeners, *, task_status: trio.TaskStatus[Callable[[], None]]
    ) -> None:
        """Run all tasks, out of reach of the member's cancellation until ``stop`` is called."""
        try:
            with trio.CancelScope(shield=True) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.node.run)
                    nursery.start_soon(self._keeper.run)
                    nursery.start_soon(self._compactor.run)
                    nursery.start_soon(self._corruption.run)
                    nursery.start_soon(self._snapshots.run)
                    nursery.start_soon(self._peers.run)
                    nursery.start_soon(self._front.run)
                    nursery.start_soon(self._services.run)
                    nursery.start_soon(publish, self._world, self._config, self.node)
                    nursery.start_soon(keep_version, self._world, self._config, self.node)
                    nursery.start_soon(self._versions.run)
                    for listener in listeners.peer:
                        nursery.start_soon(self._accept_peers, listener)
                    for listener in listeners.metrics:
                        nursery.start_soon(self._accept_http, listener, self._metrics_http)
                    for listener in listeners.http:
                        nursery.start_soon(self._accept_http, listener, self._client_http)
                    if self._config.initial_corrupt_check:
                        await self._corruption.check_at_start()
                    for listener in listeners.client:
                        nursery.start_soon(self._front.serve_listener, listener)
                        self._world.probe.log(
                            "info", "ready to serve client requests", address=listener.address
                        )
                    task_status.started(scope.cancel)
        except BaseException:
            self._failed = True
            raise

    async def _stop_in_order(self, listeners: Listeners) -> None:
        self._world.probe.log("info", "stopping", name=self._config.name)
        await self._hand_over()
        for listener in (*listeners.client, *listeners.http):
            listener.close()
        self._services.shut()
        await self._front.drain(DRAIN_SECONDS)

    async def _hand_over(self) -> None:
        """A leader that stops makes another voter leader first, if there is one that can be."""
        node, clock = self.node, self._world.clock
        others = [member for member in node.machine.members.voters() if member.id != node.member_id]
        if not node.is_leader or not others or node.removed.is_set():
            return
        node.transfer_leadership(0)
        with clock.timeout(HAND_OVER_SECONDS):
            while node.leader_id in (0, node.member_id):
                await clock.sleep(HAND_OVER_POLL_SECONDS)

    async def _accept_peers(self, listener: Listener) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._peer_server.serve, await listener.accept())

    async def _accept_http(self, listener: Listener, handler: Http1Handler) -> None:
        """Serve HTTP on an address of its own: for metrics, or for clients when gRPC has the other one."""
        scrapes = handler is self._metrics_http
        connections_max = SCRAPERS_MAX if scrapes else self._front.limits.max_connections
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    connection = await listener.accept()
                except trio.ClosedResourceError:
                    return
                if len(nursery.child_tasks) >= connections_max:
                    connection.close()
                else:
                    nursery.start_soon(self._serve_http, connection, handler)

    async def _serve_http(self, connection: Connection, handler: Http1Handler) -> None:
        try:
            await handler(self._world, connection, b"")
        finally:
            connection.close()


def _limits(config: MemberConfig) -> Limits:
    return Limits(
        max_request_bytes=config.max_request_bytes,
        request_timeout=5.0 + 2 * config.election_timeout_ms / 1000,
        slow_apply_seconds=config.warning_apply_duration,
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
