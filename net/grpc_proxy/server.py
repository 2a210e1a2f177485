"""A proxy as it runs: its port, its connection to the cluster, its pages."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import open_client
from ..config import MemberConfig
from ..listeners import Listeners, with_own_certificates
from ..server.front import Front, front_limits
from ..server.http import Http1Handler, make_site_handler
from ..tls_checks import common_name_in
from ..tls_settings import ClientTls, TlsError
from ..world import Connection, Listener, World
from .namespace import Namespace
from .pages import ProxyPages
from .relay import Relay, RelayLimits

__all__ = ["ProxyConfig", "RunningProxy", "run_proxy"]

@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """What one proxy needs to know."""

    endpoints: tuple[str, ...]  # of the cluster; at least one
    tls: ClientTls | None = None  # towards the cluster; None: as the endpoints say
    namespace: bytes = b""
    own: rpc.Member | None = None  # see ``Relay``
    limits: RelayLimits = field(default_factory=RelayLimits)
    #: The proxy's own port: client and metrics URLs, certificates, the bound of streams.
    front: MemberConfig = field(default_factory=MemberConfig)


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy that runs, as ``run_proxy`` tells its starter; addresses are ``host:port``."""

    address: str
    metrics_addresses: tuple[str, ...]


async def run_proxy(
    world: World,
    config: ProxyConfig,
    *,
    task_status: trio.TaskStatus[RunningProxy] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a proxy until cancelled.

    Raises:
        OSError: an address cannot be listened on.
        TlsError: certificates cannot be used. The cluster takes the common name of the proxy's for a user,
            whoever the proxy asks for, so it must be empty.
    """
    _check_common_name(world, config.tls)
    front_config = with_own_certificates(world, config.front)
    listeners = Listeners(world)
    try:
        await listeners.open(front_config)
        world.probe.log(
            "info", "listening for gRPC proxy client requests", address=listeners.client[0].address
        )
        async with (
            open_client(world, config.endpoints, tls=config.tls) as client,
            trio.open_nursery() as nursery,
        ):
            relay = Relay(
                client,
                namespace=Namespace(config.namespace) if config.namespace else None,
                limits=config.limits,
                own=config.own,
            )
            pages = make_site_handler(ProxyPages(client, front_config))
            front = Front(world, relay, pages, limits=front_limits(front_config))
            nursery.start_soon(front.run)
            for listener in listeners.client:
                nursery.start_soon(front.serve_listener, listener)
            for listener in listeners.metrics:
                nursery.start_soon(_serve_pages, world, listener, pages)
            world.probe.log("info", "started gRPC proxy", address=listeners.client[0].address)
            metrics = tuple(listener.address for listener in listeners.metrics)
            task_status.started(RunningProxy(listeners.client[0].address, metrics))
            await trio.sleep_forever()
    finally:
        listeners.close()


def _check_common_name(world: World, tls: ClientTls | None) -> None:
    if tls is None or not tls.cert_file:
        return
    try:
        name = common_name_in(world.disk.read(tls.cert_file))
    except OSError as problem:
        raise TlsError(f"open {tls.cert_file}: {(problem.strerror or str(problem)).lower()}") from None
    except ValueError as problem:
        raise TlsError(f"{tls.cert_file} is no certificate: {problem}") from None
    if name:
        raise TlsError(f"cert has non empty Common Name ({name})")


async def _serve_pages(world: World, listener: Listener, pages: Http1Handler) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            connection = await listener.accept()
            nursery.start_soon(_serve_page, world, connection, pages)


async def _serve_page(world: World, connection: Connection, pages: Http1Handler) -> None:
    try:
        await pages(world, connection, b"")
    finally:
        connection.close()
