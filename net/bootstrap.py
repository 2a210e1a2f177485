"""How a member begins: with its own log, as one of the first members, or as one more of a cluster that runs.

With a log on disk the log alone says who we are, and the flags about the cluster's beginning are not looked
at, as in etcd, but for one: to begin a *new* cluster of another token with this data is surely a mistake, and
is refused. Without a log, ``--initial-cluster-state`` decides.

*new*: our id and the cluster's follow from ``--initial-cluster``, and our log begins with one committed entry
for each of the first members, the same on all of them. A member that lost its data directory must not start
so: it has forgotten its votes and the entries it acknowledged, and under its old id it would be counted
again. So before anything is bound or written it asks the others' peer URLs for ``/members``: whoever is
listed with client URLs has published them, so it had started. Others that cannot be reached, or do not
answer in time, are ignored, or no cluster could start at all; one that has itself just restarted may not
have replayed our entry yet.

*existing*: somebody has added us, and drawn our id. The others are asked for ``/members``, and the flags must
list the same peer URLs as they do; ours among them tell our id. We start with nothing and wait for the
leader.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Final

import h11
import msgspec
import trio

from tercet.core.errors import Rejected
from tercet.core.members import bootstrap_entries
from tercet.core.raft.types import Entry
from tercet.core.wal import HEADER_BYTES, Identity
from tercet.core.wal.format import decode_header

from .config import MemberConfig, cluster_id, member_id
from .dial import Dialer, read_url
from .tls_context import peer_client_tls
from .world import Connection, World

__all__ = ["BootstrapRefused", "Start", "keep_token", "plan_start"]

ASK_SECONDS: Final = 1.0  # for one member's answer, connecting included
ANSWER_BYTES_MAX: Final = 1_048_576
_NOBODY_ANSWERED: Final = (
    "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
)


class BootstrapRefused(Rejected):
    """A member without data must not start; nothing was bound or written."""


@dataclass(frozen=True, slots=True)
class Start:
    """Who a member is and what it begins with."""

    identity: Identity
    #: What the log of a first member begins with; it is written when the log is empty.
    entries: tuple[Entry, ...] = ()
    #: Whom to dial before the log tells: peer URLs by id, perhaps ourselves among them.
    peer_urls: dict[int, tuple[str, ...]] = field(default_factory=dict)
    #: Names by id, for traces.
    names: tuple[tuple[int, str], ...] = ()


class _Row(msgspec.Struct):
    """One member of an answer: those with client URLs have started before."""

    id: int
    name: str = ""
    peerURLs: list[str] = []
    clientURLs: list[str] = []
    isLearner: bool = False

    def go_text(self) -> str:
        """The row as a Go program prints it, which is what etcd's error shows."""
        learner = "true" if self.isLearner else "false"
        return (
            f"&{{ID:{self.id:x} RaftAttributes:{{PeerURLs:[{' '.join(self.peerURLs)}] IsLearner:{learner}}}"
            f" Attributes:{{Name:{self.name} ClientURLs:[{' '.join(self.clientURLs)}]}}}}"
        )


async def plan_start(world: World, config: MemberConfig) -> Start:
    """Find out who we are and how to begin; nothing is bound or written.

    Raises:
        BootstrapRefused: another member knows that we had started, or the running cluster does not know us,
            or the data is another cluster's.
        Corruption: the log on disk cannot be read.
        ValueError: the flags contradict themselves.
    """
    identity = _identity_on_disk(world, config.log_folder)
    first = _first_members(config)
    if identity is not None:
        _refuse_other_token(world, config)
        if first is not None and first.identity == identity:
            return first  # perhaps it stopped before its first entries were written
        return Start(identity)
    if config.initial_cluster_state == "existing":
        return await _join(world, config)
    if first is None:
        raise ValueError(
            f'couldn\'t find local name "{config.name}" in the initial cluster configuration, '
            f"or its peer URLs differ from {','.join(config.initial_advertise_peer_urls)}"
        )
    await _refuse_second_life(world, config, first.identity.member_id)
    return first


def _first_members(config: MemberConfig) -> Start | None:
    """The beginning of a new cluster by the flags; None when they do not name us, or join a running one."""
    rows = config.members()
    own_id = member_id(config.initial_advertise_peer_urls, config.initial_cluster_token)
    ids = tuple(row[0] for row in rows)
    if own_id not in ids or config.initial_cluster_state == "existing":
        return None
    return Start(
        Identity(cluster_id(ids), own_id),
        bootstrap_entries(rows),
        {row[0]: row[2] for row in rows},
        tuple((row[0], row[1]) for row in rows),
    )


def _identity_on_disk(world: World, folder: str) -> Identity | None:
    """Whose log the folder holds; None when it holds none."""
    disk = world.disk
    names = [name for name in disk.list(folder) if name.endswith(".wal")] if disk.exists(folder) else []
    if not names:
        return None
    file = disk.open(posixpath.join(folder, names[-1]))
    try:
        return decode_header(names[-1], file.read_at(0, HEADER_BYTES)).identity
    finally:
        file.close()


def keep_token(world: World, config: MemberConfig) -> None:
    """Note at the first start which token this data belongs to."""
    path = _token_path(config)
    if not world.disk.exists(path):
        world.disk.write_atomic(path, config.initial_cluster_token.encode())


def _token_path(config: MemberConfig) -> str:
    return posixpath.join(config.data_dir, "member", "cluster-token")


def _refuse_other_token(world: World, config: MemberConfig) -> None:
    path, token = _token_path(config), config.initial_cluster_token
    if config.initial_cluster_state != "new" or not world.disk.exists(path):
        return
    kept = world.disk.read(path).decode(errors="replace")
    if kept != token:
        raise BootstrapRefused(
            f'{config.data_dir} holds a member of another cluster: its token is "{kept}", not "{token}". '
            f"Give another --data-dir, or --initial-cluster-token={kept}, or --initial-cluster-state=existing"
        )


async def _refuse_second_life(world: World, config: MemberConfig, own_id: int) -> None:
    known: list[int] = []
    dialer = Dialer(world, peer_client_tls(config.peer_tls))

    async def ask(urls: tuple[str, ...]) -> None:
        answer = await _ask(world, dialer, urls)
        if answer is not None and any(row.id == own_id and row.clientURLs for row in answer[1]):
            known.append(own_id)

    async with trio.open_nursery() as nursery:
        for other, _, urls in config.members():
            if other != own_id:
                nursery.start_soon(ask, urls)
    if known:
        raise BootstrapRefused(f"member {own_id:x} has already been bootstrapped")


async def _join(world: World, config: MemberConfig) -> Start:
    """Ask the running cluster who we are."""
    others = {name: urls for name, urls in config.initial_cluster.items() if name != config.name}
    dialer = Dialer(world, peer_client_tls(config.peer_tls))
    answer = await _ask(world, dialer, tuple(sorted(url for urls in others.values() for url in urls)))
    if answer is None:
        raise BootstrapRefused(_NOBODY_ANSWERED)
    cluster, rows = answer
    local = {name: tuple(sorted(urls)) for name, urls in config.initial_cluster.items()}
    reason = _difference(rows, list(local.values()))
    if reason:
        members = " ".join(row.go_text() for row in sorted(rows, key=lambda row: row.id))
        shown = f"{{ClusterID:{cluster:x} Members:[{members}] RemovedMemberIDs:[]}}"
        raise BootstrapRefused(f"error validating peerURLs {shown}: {reason}")
    by_urls = {tuple(sorted(row.peerURLs)): row for row in rows}
    ours = by_urls[local[config.name]]
    if ours.clientURLs:
        raise BootstrapRefused(
            f"member {ours.id:x} has already been bootstrapped: remove it and add it again to start anew"
        )
    return Start(
        Identity(cluster, ours.id),
        peer_urls={row.id: tuple(row.peerURLs) for row in rows},
        names=tuple(sorted((by_urls[urls].id, name) for name, urls in local.items())),
    )


def _difference(rows: list[_Row], local: list[tuple[str, ...]]) -> str:
    """Why the flags do not describe the running cluster, in etcd's words; "" when they do."""
    if len(rows) != len(local):
        return "member count is unequal"
    for row in rows:
        if tuple(sorted(row.peerURLs)) not in local:
            other = next(urls for urls in local if urls not in [tuple(sorted(r.peerURLs)) for r in rows])
            return (
                f"PeerURLs: no match found for existing member ({row.id:x}, [{' '.join(row.peerURLs)}]), "
                f'last resolver error (resolved urls: "{row.peerURLs[0]}" != "{other[0]}")'
            )
    return ""


async def _ask(world: World, dialer: Dialer, urls: tuple[str, ...]) -> tuple[int, list[_Row]] | None:
    """The cluster's id and members, by the first of ``urls`` that answers; None when nobody does."""
    for url in urls:
        with world.clock.timeout(ASK_SECONDS):
            try:
                cluster, body = await _fetch(dialer, url)
                rows = msgspec.json.decode(body, type=list[_Row])
            except (OSError, ValueError, trio.ClosedResourceError, h11.ProtocolError) as problem:
                world.probe.log("debug", "could not get cluster response", url=url, error=str(problem))
            else:
                return cluster, rows
    return None


async def _fetch(dialer: Dialer, url: str) -> tuple[int, bytes]:
    connection = await dialer.dial(url)
    try:
        return await _get(connection, read_url(url).authority)
    finally:
        connection.close()


async def _get(connection: Connection, host: str) -> tuple[int, bytes]:
    """Cluster id and body of ``GET /members``; ``ValueError`` unless the status is 200."""
    protocol = h11.Connection(h11.CLIENT)
    headers = [("Host", host), ("Connection", "close")]
    request = protocol.send(h11.Request(method="GET", target="/members", headers=headers))
    await connection.send_all((request or b"") + (protocol.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    cluster = 0
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await connection.receive(65_536))
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise ValueError(f"status {event.status_code}")
            cluster = int(dict(event.headers).get(b"x-etcd-cluster-id", b"0"), 16)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > ANSWER_BYTES_MAX:
                raise ValueError("the answer is too long")
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return cluster, bytes(body)
