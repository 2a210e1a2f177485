"""Find the first members of a cluster by DNS: ``--discovery-srv`` names a domain with SRV records.

``_etcd-server-ssl._tcp.DOMAIN`` lists members that speak TLS, ``_etcd-server._tcp.DOMAIN`` those that do not;
``--discovery-srv-name`` adds a suffix to the service. The record that resolves to one of our own peer URLs is
ours and gets our name, the others are numbered, as in etcd.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tercet.core.errors import Rejected

from .config import MemberConfig
from .dial import read_url
from .world import World

__all__ = ["DiscoveryFailed", "discover"]

_SERVICES: Final = (("https", "etcd-server-ssl"), ("http", "etcd-server"))


class DiscoveryFailed(Rejected):
    """The records do not say who the members are; nothing was bound or written."""


async def discover(world: World, config: MemberConfig) -> MemberConfig:
    """The configuration with the members that DNS names; unchanged without ``discovery_srv``.

    A member that has a log knows its cluster, and asks nobody.

    Raises:
        DiscoveryFailed: there are no such records, or none of them is ours.
    """
    if not config.discovery_srv or _has_log(world, config.log_folder):
        return config
    ours = await _own_places(world, config)
    suffix = f"-{config.discovery_srv_name}" if config.discovery_srv_name else ""
    found: dict[str, list[str]] = {}
    problems: list[str] = []
    for scheme, service in _SERVICES:
        name = f"_{service}{suffix}._tcp.{config.discovery_srv}"
        try:
            records = await world.net.lookup_services(name)
        except OSError as problem:
            problems.append(f"error querying DNS SRV records for _{service}{suffix} {problem}")
            continue
        for host, port in records:
            member = await _member(world, scheme, host, port, ours)
            if member is not None:
                label = config.name if member else str(len(found))
                found.setdefault(label, []).append(f"{scheme}://{host}:{port}")
    if not found:
        raise DiscoveryFailed(f"error setting up DNS discovery: {'; '.join(problems)}")
    if config.name not in found:
        raise DiscoveryFailed(f'cannot find local etcd member "{config.name}" in SRV records')
    members = {label: tuple(sorted(urls)) for label, urls in found.items()}
    shown = ",".join(f"{name}={url}" for name, urls in members.items() for url in urls)
    world.probe.log("info", "found the members by DNS", domain=config.discovery_srv, members=shown)
    return replace(config, initial_cluster=members, initial_advertise_peer_urls=members[config.name])


def _has_log(world: World, folder: str) -> bool:
    return world.disk.exists(folder) and any(name.endswith(".wal") for name in world.disk.list(folder))


async def _own_places(world: World, config: MemberConfig) -> frozenset[tuple[str, str, int]]:
    """Scheme, address and port of each of our own peer URLs."""
    places: list[tuple[str, str, int]] = []
    for url in config.initial_advertise_peer_urls:
        address = read_url(url)
        try:
            found = await world.net.lookup_host(address.host)
        except OSError as problem:
            raise DiscoveryFailed(f"could not resolve our own URL {url}: {problem}") from None
        places += [("https" if address.secure else "http", place, address.port) for place in found]
    return frozenset(places)


async def _member(
    world: World, scheme: str, host: str, port: int, ours: frozenset[tuple[str, str, int]]
) -> bool | None:
    """Whether a record is ours; None when its host cannot be resolved, which etcd skips, too."""
    try:
        places = await world.net.lookup_host(host)
    except OSError as problem:
        world.probe.log("warn", "could not resolve a host of an SRV record", host=host, error=str(problem))
        return None
    return any((scheme, place, port) in ours for place in places)
