"""etcd's gRPC services of one member, on the node's interface, whatever door a call came through."""

from __future__ import annotations

import trio

from ...auth import Guard
from ...auth_passwords import Passwords
from ...auth_tokens import open_tokens
from ...config import MemberConfig
from ...leases import LeaseKeeper
from ...metrics import Metrics
from ...quota import Quota
from ...turns import Turns
from ...world import World
from ..call import StreamHandler, UnaryHandler
from .auth import AuthService
from .changes import Changes
from .cluster import ClusterService, member_list
from .contest import Calls, Contest
from .election import ElectionService
from .health import HealthService
from .kv import KvService
from .leader_calls import LeaderCalls
from .leadership import LeadershipService
from .learner import guard_streams, guard_unary
from .lease import LeaseService
from .lock import LockService
from .maintenance import MaintenanceService, database_bytes
from .member import Answers, Member
from .permissions import protect_streams, protect_unary
from .reflection import ReflectionService
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
        self.leases = LeaseKeeper(
            world,
            node,
            election_timeout=election_timeout,
            checkpoint_interval=config.lease_checkpoint_interval if config.enable_lease_checkpoint else None,
        )
        self._leader = LeaderCalls(world, node, timeout=5 + 2 * election_timeout)
        tokens = open_tokens(world, lambda: node.machine.auth, config.auth_token, config.auth_token_ttl)
        guard = Guard(node, tokens, world.clock, client_cert_auth=config.client_tls.client_cert_auth)
        self._guard = guard
        passwords = Passwords(world, config.bcrypt_cost)
        self._auth = AuthService(node, answers, guard, passwords, tokens, world.probe)
        quota = Quota(node, config.quota_backend_bytes)
        if node.keeper is not None:
            node.keeper.on_commit.append(quota.refresh)
        self.turns = turns = Turns()
        kv = KvService(node, answers, guard, quota, turns, max_txn_ops=config.max_txn_ops)
        lease = LeaseService(
            world, node, answers, guard, self.leases, self._leader, quota, turns,
            election_timeout_ms=config.election_timeout_ms,
        )
        maintenance = MaintenanceService(world, node, answers, guard, config, turns)
        self.watch = WatchService(
            world, node, answers, guard,
            election_timeout=election_timeout, fragment_bytes=config.max_request_bytes,
        )  # fmt: skip
        self._progress_interval = config.watch_progress_notify_interval
        self._changes = Changes(node)
        self._health = HealthService()
        if config.stop_grpc_service_on_defrag:
            maintenance.on_defragment = self._health.pause
        contest = Contest(node, Calls(kv.range, kv.delete_range, kv.txn, lease.grant), self._changes)
        unary: dict[str, UnaryHandler] = {
            **kv.unary(),
            **self._auth.unary(),
            **lease.unary(),
            **ClusterService(world, node, answers, self._leader, config).unary(),
            **maintenance.unary(),
            **self._health.unary(),
        }
        stream: dict[str, StreamHandler] = {
            **lease.stream(),
            **self.watch.stream(),
            **maintenance.stream(),
            **LeadershipService(world, node, config).stream(),
            **LockService(contest).stream(),
            **ElectionService(answers, contest).stream(),
            **self._health.stream(),
            **ReflectionService().stream(),
        }
        node.on_installed.append(self._take_new_state)
        self.unary = guard_unary(node, protect_unary(guard, unary))
        self.stream = guard_streams(node, protect_streams(guard, stream))

        metrics = getattr(world.probe, "metrics", None)
        if isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            metrics.add_source(lambda: service_samples(self.watch.hub, self.leases))

    def _take_new_state(self, revision_before: int) -> None:
        """A snapshot has replaced the machine."""
        self.watch.hub.catch_up(revision_before)
        self._changes.look_again()

    async def run(self) -> None:
        """Lease expiry, long reads, questions to the leader, progress notifications; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.leases.run)
            nursery.start_soon(self._leader.run)
            nursery.start_soon(self._auth.run)
            nursery.start_soon(self._guard.run)
            nursery.start_soon(self.turns.run)
            nursery.start_soon(self.watch.run, self._progress_interval)

    def shut(self) -> None:
        """End the calls that wait, watch streams with etcd's text for a stopping server."""
        self.watch.shut()
        self._changes.stop()
        self._health.stop()


def build_methods(node: Member, world: World, config: MemberConfig) -> Services:
    """The services of ``node``. To be called once per node: handlers are registered with it."""
    return Services(node, world, config)
