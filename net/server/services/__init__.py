"""etcd's gRPC services of one member, on the node's interface, whatever door a call came through."""

from __future__ import annotations

import trio

from ...config import MemberConfig
from ...leases import LeaseKeeper
from ...metrics import Metrics
from ...world import World
from ..call import StreamHandler, UnaryHandler
from .changes import Changes
from .cluster import ClusterService, member_list
from .contest import Calls, Contest
from .election import ElectionService
from .health import HealthService
from .kv import KvService
from .leader_calls import LeaderCalls
from .lease import LeaseService
from .lock import LockService
from .maintenance import MaintenanceService, database_bytes
from .member import Answers, Member
from .samples import service_samples
from .watch import WatchService

__all__ = ["Answers", "Member", "Services", "build_methods", "database_bytes", "member_list"]


class Services:
    """The services of one member (``net.server.call.Methods``), and the tasks they need.

    ``run`` must be running while calls are served; ``shut`` ends the streams and the calls that wait politely
    before the member stops.
    """

    def __init__(self, node: Member, world: World, config: MemberConfig) -> None:
        answers = Answers(node)
        election_timeout = config.election_timeout_ms / 1000
        self.leases = LeaseKeeper(world, node, election_timeout=election_timeout)
        self._leader = LeaderCalls(world, node, timeout=5 + 2 * election_timeout)
        kv = KvService(node, answers, max_txn_ops=config.max_txn_ops)
        lease = LeaseService(
            world, node, answers, self.leases, self._leader, election_timeout_ms=config.election_timeout_ms
        )
        maintenance = MaintenanceService(node, answers, config)
        self.watch = WatchService(
            world, node, answers, election_timeout=election_timeout, fragment_bytes=config.max_request_bytes
        )
        self._changes = Changes(node)
        self._health = HealthService()
        contest = Contest(node, Calls(kv.range, kv.delete_range, kv.txn, lease.grant), self._changes)
        self.unary: dict[str, UnaryHandler] = {
            **kv.unary(),
            **lease.unary(),
            **ClusterService(node, answers, config).unary(),
            **maintenance.unary(),
            **self._health.unary(),
        }
        self.stream: dict[str, StreamHandler] = {
            **lease.stream(),
            **self.watch.stream(),
            **maintenance.stream(),
            **LockService(contest).stream(),
            **ElectionService(answers, contest).stream(),
            **self._health.stream(),
        }

        metrics = getattr(world.probe, "metrics", None)
        if isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            metrics.add_source(lambda: service_samples(self.watch.hub, self.leases))

    async def run(self) -> None:
        """Lease expiry, questions to the leader, progress notifications; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.leases.run)
            nursery.start_soon(self._leader.run)
            nursery.start_soon(self.watch.run)

    def shut(self) -> None:
        """End the calls that wait, watch streams with etcd's text for a stopping server."""
        self.watch.shut()
        self._changes.stop()
        self._health.stop()


def build_methods(node: Member, world: World, config: MemberConfig) -> Services:
    """The services of ``node``. To be called once per node: handlers are registered with it."""
    return Services(node, world, config)
