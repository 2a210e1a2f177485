"""``tercet gateway start``: a TCP proxy as a process of its own, with the flags of ``etcd gateway start``.

The endpoints are given, or found by DNS: unless ``--insecure-discovery`` says otherwise, those that DNS names
must show a certificate of the domain before they are used.
"""

from __future__ import annotations

import os
import signal
import sys

import click
import trio

from .dial import Address, Dialer, listen, read_url
from .flag_values import FlagError, parse_duration
from .real import real_world
from .tcp_proxy import TcpProxy
from .tls_settings import ClientTls, TlsError
from .world import World

__all__ = ["discover_members", "gateway"]


@click.command(no_args_is_help=True)
@click.argument("action", type=click.Choice(["start"]))
@click.option("--endpoints", default="127.0.0.1:2379", show_default=True, help="comma separated members")
@click.option("--listen-addr", default="127.0.0.1:23790", show_default=True, help="listen address")
@click.option("--retry-delay", default="1m0s", show_default=True, help="delay before asking failed endpoints")
@click.option("--discovery-srv", default="", help="DNS domain that names the members")
@click.option("--discovery-srv-name", default="", help="service name to query when using DNS discovery")
@click.option("--insecure-discovery", is_flag=True, help="accept members that do not prove the domain")
@click.option("--trusted-ca-file", default="", help="authorities that members named by DNS are checked by")
def gateway(
    action: str,
    endpoints: str,
    listen_addr: str,
    retry_delay: str,
    discovery_srv: str,
    discovery_srv_name: str,
    insecure_discovery: bool,
    trusted_ca_file: str,
) -> None:
    """Pass what clients send on to any member that can be reached.

    Flags may stand on either side of the word "start", as for etcd.
    """
    try:
        retry_seconds = parse_duration(retry_delay)
        place = read_url(listen_addr)
        given = [read_url(endpoint) for endpoint in endpoints.split(",")]
    except (FlagError, ValueError) as problem:
        raise click.ClickException(str(problem)) from None
    world = real_world("gateway", environment=os.environ)
    tls = None if insecure_discovery else ClientTls(ca_file=trusted_ca_file, server_name=discovery_srv)

    async def main() -> None:
        found = given
        if discovery_srv:
            found = await discover_members(world, discovery_srv, discovery_srv_name, tls)
        proxy = TcpProxy(world, found, retry_seconds=retry_seconds)
        listener = await listen(world, place)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(proxy.run, listener)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break

    try:
        trio.run(main)
    except (OSError, ValueError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(1)


async def discover_members(world: World, domain: str, name: str, tls: ClientTls | None) -> list[Address]:
    """The members that DNS names; with ``tls``, those that prove to be of the domain.

    Raises:
        ValueError: there are none.
    """
    suffix = f"-{name}" if name else ""
    found = []
    for scheme, service in (("https", "etcd-client-ssl"), ("http", "etcd-client")):
        try:
            records = await world.net.lookup_services(f"_{service}{suffix}._tcp.{domain}")
        except OSError:
            continue
        found += [Address(scheme == "https", host, port) for host, port in records]
    if tls is not None:
        found = [address for address in found if await _proves_itself(world, address, tls)]
    if not found:
        raise ValueError(f"no endpoints discovered in {domain}")
    return found


async def _proves_itself(world: World, address: Address, tls: ClientTls) -> bool:
    if not address.secure:
        world.probe.log("warn", "ignored an insecure endpoint", address=address.authority)
        return False
    try:
        (await Dialer(world, tls).dial(f"https://{address.authority}")).close()
    except (OSError, TlsError) as problem:
        world.probe.log(
            "warn", "ignored an endpoint that failed", address=address.authority, error=str(problem)
        )
        return False
    return True
