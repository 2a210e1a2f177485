"""May a member without data start? Not when the cluster has known it before.

A member that lost its data directory has forgotten its votes and the entries it acknowledged; under its old
id it would be counted again, and writes could vanish. So before anything is bound or written, a member
without a log asks the others' peer URLs for ``/members``, as etcd does: whoever is listed with client URLs
has published them, so it had started. Others that cannot be reached, or do not answer in time, are ignored,
or no cluster could start at all; one that has itself just restarted may not have replayed our entry yet.
"""

from __future__ import annotations

import posixpath
from typing import Final

import h11
import msgspec
import trio

from tercet.core.errors import Rejected

from .config import MemberConfig, member_id
from .peers import split_url
from .world import Connection, World

__all__ = ["BootstrapRefused", "check_bootstrap"]

ASK_SECONDS: Final = 1.0  # for one member's answer, connecting included
ANSWER_BYTES_MAX: Final = 1_048_576


class BootstrapRefused(Rejected):
    """A member without data must not start; nothing was bound or written."""


class _Row(msgspec.Struct):
    """One member of an answer: those with client URLs have started before."""

    id: int
    clientURLs: list[str] = []


async def check_bootstrap(world: World, config: MemberConfig) -> None:
    """Refuse a start without data where the cluster may still count on what was lost.

    Raises:
        BootstrapRefused: another member knows that we had started, or we are to join an existing cluster.
    """
    if _has_log(world, config.data_dir):
        return
    if config.initial_cluster_state == "existing":
        raise BootstrapRefused(
            f"no data in {config.data_dir}, and --initial-cluster-state=existing: joining a running cluster"
            " is not supported by this version of Tercet"
        )
    own_id = member_id(config.initial_advertise_peer_urls, config.initial_cluster_token)
    known: list[int] = []
    async with trio.open_nursery() as nursery:
        for other, _, urls in config.members():
            if other != own_id:
                nursery.start_soon(_ask, world, urls, own_id, known)
    if known:
        raise BootstrapRefused(f"member {own_id:x} has already been bootstrapped")


def _has_log(world: World, data_dir: str) -> bool:
    folder = posixpath.join(data_dir, "member", "wal")
    return world.disk.exists(folder) and any(name.endswith(".wal") for name in world.disk.list(folder))


async def _ask(world: World, urls: tuple[str, ...], own_id: int, known: list[int]) -> None:
    """Append ``own_id`` to ``known`` when the member at ``urls`` says that we had started."""
    for url in urls:
        rows: list[_Row] = []
        with world.clock.timeout(ASK_SECONDS):
            try:
                rows = await _members(world, url)
            except (OSError, trio.ClosedResourceError, h11.ProtocolError, msgspec.DecodeError) as problem:
                world.probe.log("debug", "could not ask a member for /members", url=url, error=str(problem))
        if any(row.id == own_id and row.clientURLs for row in rows):
            known.append(own_id)
            return


async def _members(world: World, url: str) -> list[_Row]:
    host, port = split_url(url)
    connection = await world.net.connect(host, port)
    try:
        return msgspec.json.decode(await _get(connection, url.partition("://")[2]), type=list[_Row])
    finally:
        connection.close()


async def _get(connection: Connection, host: str) -> bytes:
    """The body of ``GET /members``; empty unless the status is 200."""
    protocol = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("Connection", "close")]
    request = protocol.send(h11.Request(method="GET", target="/members", headers=headers))
    await connection.send_all((request or b"") + (protocol.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await connection.receive(65_536))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            return b""
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > ANSWER_BYTES_MAX:
                return b""
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return bytes(body)
