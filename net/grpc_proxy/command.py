"""``tercet grpc-proxy start``: the proxy as a process of its own, with etcd's flags."""

from __future__ import annotations

import os
import platform
import signal
import sys
from dataclasses import replace
from typing import Any

import click
import trio
from prometheus_client import ProcessCollector

from tercet.core.wire.proto import rpc_pb2 as rpc

from ..address import read_url
from ..config import MemberConfig
from ..exception_groups import only_leaf
from ..flag_values import FlagError
from ..metrics import Metrics
from ..proxy_commands import discover_members
from ..real import real_world
from ..runtime_metrics import CollectorPauses, runtime_samples
from ..tls_settings import ClientTls, TlsSettings, check_settings
from ..world import World
from .relay import RelayLimits
from .server import ProxyConfig, run_proxy

__all__ = ["grpc_proxy"]

_HOME = "127.0.0.1:23790"
#: Flags of etcd's that would promise what is not done here.
_REFUSED = ("resolver_prefix", "experimental_leasing_prefix", "experimental_serializable_ordering")


def _text(name: str, default: str, shown: str) -> Any:
    return click.option(f"--{name}", default=default, show_default=bool(default), help=shown)


def _switch(name: str, shown: str) -> Any:
    return click.option(f"--{name}", is_flag=True, help=shown)


def _number(name: str, default: int, shown: str) -> Any:
    return click.option(f"--{name}", type=int, default=default, show_default=True, help=shown)


_OPTIONS = (
    _text("listen-addr", _HOME, "listen address"),
    _text("endpoints", "127.0.0.1:2379", "comma separated members"),
    _text("namespace", "", "prefix of all keys: clients see what lies behind it as a cluster of their own"),
    _text("advertise-client-url", _HOME, "what the list of members names: the proxy; empty: the members"),
    _text("metrics-addr", "", "one more address for /metrics and /health, a URL"),
    _text("cert", "", "certificate shown to the members; its common name must be empty"),
    _text("key", "", "its key"),
    _text("cacert", "", "authorities that members are checked by"),
    _switch("insecure-skip-tls-verify", "do not check who the members are"),
    _text("cert-file", "", "certificate shown to clients"),
    _text("key-file", "", "its key"),
    _text("trusted-ca-file", "", "authorities that clients are checked by"),
    _text("client-crl-file", "", "revoked certificates of clients"),
    _text("listen-cipher-suites", "", "TLS cipher suites towards clients, by Go's names"),
    _switch("auto-tls", "TLS for clients with a self-made certificate"),
    _text("data-dir", "default.proxy", "folder of that certificate"),
    _number("max-send-bytes", 1_572_864, "largest message to a member"),
    _number("max-recv-bytes", 2**31 - 1, "largest message of a member"),
    _number("max-concurrent-streams", 2**32 - 1, "most open calls of one client"),
    _text("discovery-srv", "", "DNS domain that names the members"),
    _text("discovery-srv-name", "", "service name to query when using DNS discovery"),
    _switch("insecure-discovery", "accept members that do not prove the domain"),
    _switch("debug", "log more"),
    _switch("enable-pprof", "no effect: there are no Go profiles here"),
    _text("resolver-prefix", "", "not supported"),
    _number("resolver-ttl", 0, "not supported"),
    _text("experimental-leasing-prefix", "", "not supported"),
    _switch("experimental-serializable-ordering", "not supported"),
)


@click.command(no_args_is_help=True)
@click.argument("action", type=click.Choice(["start"]))
def grpc_proxy(action: str, **given: Any) -> None:
    """Hand every call on to a cluster, and its answer back.

    Flags may stand on either side of the word "start".
    """
    for name in _REFUSED:
        if given[name]:
            flag = name.replace("_", "-")
            raise click.ClickException(f"--{flag} is not supported by this version of Tercet")
    world = real_world("grpc-proxy", environment=os.environ, log_level="debug" if given["debug"] else "info")
    try:
        config = _configure(given)
        trio.run(_serve, world, config, given, strict_exception_groups=True)
    except (FlagError, OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(1)


for _option in reversed(_OPTIONS):
    grpc_proxy = _option(grpc_proxy)


def _configure(given: dict[str, Any]) -> ProxyConfig:
    """Raises ``ValueError``: an address, a certificate or a suite cannot be used."""
    suites = given["listen_cipher_suites"]
    server = TlsSettings(
        cert_file=given["cert_file"],
        key_file=given["key_file"],
        trusted_ca_file=given["trusted_ca_file"],
        crl_file=given["client_crl_file"],
        cipher_suites=tuple(suites.split(",")) if suites else (),
        auto=given["auto_tls"],
        skip_san_check=True,
    )
    check_settings(server)
    place = read_url(given["listen_addr"])
    metrics = given["metrics_addr"]
    files = ClientTls(
        ca_file=given["cacert"], cert_file=given["cert"], key_file=given["key"],
        insecure_skip_verify=given["insecure_skip_tls_verify"],
    )  # fmt: skip
    advertised = given["advertise_client_url"]
    return ProxyConfig(
        endpoints=tuple(part.strip() for part in given["endpoints"].split(",")),
        tls=None if files == ClientTls() else files,
        namespace=given["namespace"].encode(),
        own=rpc.Member(name=platform.node(), clientURLs=[advertised]) if advertised else None,
        limits=RelayLimits(send_bytes=given["max_send_bytes"], receive_bytes=given["max_recv_bytes"]),
        front=MemberConfig(
            name="grpc-proxy",
            data_dir=given["data_dir"],
            listen_client_urls=(f"{'https' if server.usable else 'http'}://{place.authority}",),
            listen_peer_urls=(),
            listen_metrics_urls=(metrics,) if metrics else (),
            max_concurrent_streams=given["max_concurrent_streams"],
            client_tls=server,
        ),
    )


async def _serve(world: World, config: ProxyConfig, given: dict[str, Any]) -> None:
    """Run until a signal."""
    metrics = getattr(world.probe, "metrics", None)
    if isinstance(metrics, Metrics):
        ProcessCollector(registry=metrics.registry)
        metrics.registry.register(CollectorPauses())
        metrics.add_source(runtime_samples)
    domain = given["discovery_srv"]
    if domain:
        proof = ClientTls(ca_file=given["cacert"], server_name=domain)
        tls = None if given["insecure_discovery"] else proof
        found = await discover_members(world, domain, given["discovery_srv_name"], tls)
        urls = tuple(f"{'https' if one.secure else 'http'}://{one.authority}" for one in found)
        config = replace(config, endpoints=urls)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_proxy, world, config)
                async for number in signals:
                    name = signal.Signals(number).name
                    world.probe.log("info", "received signal; shutting down", signal=name)
                    nursery.cancel_scope.cancel()
                    break
        except BaseExceptionGroup as group:
            raise only_leaf(group) from None
