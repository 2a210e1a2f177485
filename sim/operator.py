"""What an administrator does to a cluster in trouble: compact, defragment, move the leader, add and remove
members, turn authentication on. As kinds of faults, so that campaigns can draw, shrink and show them.

Each job is a program on a host of its own (op1, op2, ...) that speaks to the members as a client does; it may
be refused, and it may not know what became of a request. A job that changed something puts it right at its
end, and does not give up before: ``busy`` says whether all have finished.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from tercet.core.errors import OutcomeUnknown, TercetError
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.client import Client, open_client
from tercet.net.world import World

from .cluster import Cluster
from .faults import Fault
from .world import SimWorld

__all__ = ["LOGIN", "OPERATIONS", "USER", "Operator", "ask", "logged_in"]

#: Who may do everything while authentication is on, and who may read and write ``k/``.
LOGIN: Final = ("root", "root's")
USER: Final = ("user", "user's")
_COMPACTION_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 0.3
_TRIES: Final = 5  # of a change that was definitely refused
_REQUEST_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 2.0  # for a removed member to end by itself
_SIGNED_OUT: Final = ("etcdserver: user name is empty", "etcdserver: invalid auth token")

Mend: TypeAlias = Callable[[], None]
_Job: TypeAlias = "Callable[[Operator, Client, _Task], Awaitable[None]]"


class _Task:
    """One job: its fault, on whom, and whether it should come to its end."""

    def __init__(self, fault: Fault, target: str) -> None:
        self.fault = fault
        self.target = target
        self.ending = False


class Operator:
    """Carries jobs out in one cluster."""

    def __init__(self, sim: SimWorld, cluster: Cluster) -> None:
        self._sim = sim
        self._cluster = cluster
        self.compactions: list[tuple[int, int]] = []  # that were asked for: virtual ns, revision
        self._hosts: list[str] = []
        self._fresh = len(cluster.names)  # members there have been
        self._changing: str | None = None  # the host of the job that changes who is a member

    @property
    def busy(self) -> tuple[str, ...]:
        """The hosts of jobs that have not finished."""
        return tuple(host for host in self._hosts if self._sim.running(host))

    def stop(self) -> None:
        """End all jobs, finished or not."""
        for host in self._hosts:
            self._sim.kill(host)

    def __call__(self, fault: Fault, targets: tuple[str, ...]) -> Mend | None:
        """Begin what a fault says; the mend asks it to come to an end. None when there is nothing to do."""
        target = targets[0] if targets else ""
        if target and target not in self._cluster.names:
            return None
        host = f"op{len(self._hosts) + 1}"
        if fault.kind in ("grow", "replace"):
            if self._changing is not None and self._sim.running(self._changing):
                return None
            self._changing = host
        self._hosts.append(host)
        task = _Task(fault, target)
        self._sim.start(host, partial(self._work, task))

        def mend() -> None:
            task.ending = True

        return mend

    async def _work(self, task: _Task, world: World) -> None:
        urls = self._cluster.endpoints
        if task.target in self._cluster.names:
            first = self._cluster.names.index(task.target)
            urls = urls[first:] + urls[:first]
        login = open_client(world, urls, request_timeout=_REQUEST_SECONDS, login=LOGIN)
        async with login as client:
            await OPERATIONS[task.fault.kind](self, client, task)

    # -- jobs -------------------------------------------------------------------------------------

    async def compact(self, client: Client, task: _Task) -> None:
        """Compact again and again, keeping ``amount`` revisions; every second time wait for the dropping."""
        physical = False
        while not task.ending:
            try:
                found = await logged_in(client, lambda: client.get(b"\0", limit=1))
                revision = found.header.revision - task.fault.amount
                if revision > 1:
                    self.compactions.append((self._sim.engine.now, revision))
                    await logged_in(client, partial(client.compact, revision, physical=physical))
                physical = not physical
            except TercetError:
                pass
            await client.world.clock.sleep(_COMPACTION_SECONDS)

    async def defragment(self, client: Client, task: _Task) -> None:
        """Defragment one member, once."""
        url = f"http://{task.target}:2379"
        one = open_client(client.world, (url,), request_timeout=_REQUEST_SECONDS, login=LOGIN)
        async with one as member:
            await _try(member, "Maintenance/Defragment", rpc.DefragmentRequest())

    async def move_leader(self, client: Client, task: _Task) -> None:
        """Ask the leader of the moment to hand over to the target."""
        leader = self._cluster.leader()
        if leader is None or leader not in self._cluster.names:
            return
        url = f"http://{leader}:2379"
        try:
            target = (await _ids(client)).get(task.target, 0)
        except TercetError:
            return
        one = open_client(client.world, (url,), request_timeout=_REQUEST_SECONDS, login=LOGIN)
        async with one as member:
            await _try(member, "Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=target))

    async def grow(self, client: Client, task: _Task) -> None:
        """Add a member, as a learner first when ``amount`` is 1; at the end remove it again."""
        name = self._new_name()
        if not await self._add(client, name, learner=task.fault.amount == 1):
            return
        while not task.ending:
            if task.fault.amount == 1:
                await self._promote(client, name)
            await client.world.clock.sleep(_RETRY_SECONDS)
        await self._remove(client, name, give_up=False)
        self._cluster.leave(name)
        await client.world.clock.sleep(_STOP_SECONDS)
        self._sim.kill(name)

    async def replace(self, client: Client, task: _Task) -> None:
        """Remove a member; another, on a new machine, takes its place."""
        if not await self._remove(client, task.target, give_up=True):
            return
        self._cluster.leave(task.target)
        added = False
        while not added:
            added = await self._add(client, self._new_name(), learner=False)

    async def authenticate(self, client: Client, task: _Task) -> None:
        """Make users and turn authentication on; at the end turn it off."""
        await _make_users(client)
        await _insist(client, "Auth/AuthEnable", rpc.AuthEnableRequest(), lambda: task.ending)
        while not task.ending:
            await client.world.clock.sleep(_RETRY_SECONDS)
        await _insist(client, "Auth/AuthDisable", rpc.AuthDisableRequest(), lambda: False)

    # -- members ----------------------------------------------------------------------------------

    def _new_name(self) -> str:
        self._fresh += 1
        return f"n{self._fresh}"

    async def _add(self, client: Client, name: str, *, learner: bool) -> bool:
        """Add a member and start it; False when the cluster refused."""
        request = rpc.MemberAddRequest(peerURLs=[f"http://{name}:2380"], isLearner=learner)

        async def there() -> bool:
            return name in await _ids(client)

        if not await _change(client, "Cluster/MemberAdd", request, there, give_up=True):
            return False
        self._cluster.join(name, tuple(await _hosts_of(client)))
        return True

    async def _remove(self, client: Client, name: str, *, give_up: bool) -> bool:
        try:
            member = (await _ids(client)).get(name)
        except TercetError:
            if give_up:
                return False
            member = None
        while member is None:  # it was there: a member that lags may not know of it yet
            await client.world.clock.sleep(_RETRY_SECONDS)
            client.rotate()
            try:
                member = (await _ids(client)).get(name)
            except TercetError:
                continue
        gone = member

        async def absent() -> bool:
            return gone not in (await _ids(client)).values()

        request = rpc.MemberRemoveRequest(ID=gone)
        return await _change(client, "Cluster/MemberRemove", request, absent, give_up=give_up)

    async def _promote(self, client: Client, name: str) -> None:
        try:
            members = await logged_in(client, client.members)
        except TercetError:
            return
        for member in members:
            if member.is_learner and _host_of(member.peer_urls[0]) == name:
                await _try(client, "Cluster/MemberPromote", rpc.MemberPromoteRequest(ID=member.id))


OPERATIONS: Final[Mapping[str, _Job]] = MappingProxyType({
    "compact": Operator.compact,
    "defragment": Operator.defragment,
    "move-leader": Operator.move_leader,
    "grow": Operator.grow,
    "replace": Operator.replace,
    "auth": Operator.authenticate,
})  # fmt: skip


async def ask(client: Client, method: str, request: Any) -> Any:
    """Make any unary call, e.g. ``Auth/UserAdd``; logs in when authentication turns out to be on."""
    path = f"/etcdserverpb.{method}"
    return await logged_in(client, lambda: client.call(path, request, METHODS[path].response.FromString))


async def logged_in(client: Client, call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call; once more with a token when it failed for want of one."""
    try:
        return await call()
    except RpcError as error:
        if error.message not in _SIGNED_OUT:
            raise
    await client.log_in()
    return await call()


async def _try(client: Client, method: str, request: Any) -> str:
    """Make a call; what was wrong, "" for nothing."""
    try:
        await ask(client, method, request)
    except TercetError as error:
        return str(error) or "failed"
    return ""


async def _insist(client: Client, method: str, request: Any, enough: Callable[[], bool]) -> None:
    while await _try(client, method, request) and not enough():
        client.rotate()
        await client.world.clock.sleep(_RETRY_SECONDS)


async def _change(
    client: Client, method: str, request: Any, done: Callable[[], Awaitable[bool]], *, give_up: bool
) -> bool:
    """Change who is a member and be sure of it; False when it was refused and has never been in doubt."""
    refusals, doubt = 0, False
    while True:
        try:
            if doubt and await done():
                return True
            await ask(client, method, request)
            return True
        except OutcomeUnknown:
            doubt = True
        except TercetError:
            refusals += 1
            if give_up and not doubt and refusals >= _TRIES:
                return False
            doubt = doubt or not give_up
        client.rotate()
        await client.world.clock.sleep(_RETRY_SECONDS)


async def _ids(client: Client) -> dict[str, int]:
    """Member ids by the host in their peer URLs."""
    members = await logged_in(client, client.members)
    return {_host_of(member.peer_urls[0]): member.id for member in members}


async def _hosts_of(client: Client) -> list[str]:
    while True:
        try:
            return list(await _ids(client))
        except TercetError:
            await client.world.clock.sleep(_RETRY_SECONDS)


def _host_of(url: str) -> str:
    return url.split("/")[2].split(":")[0]


async def _make_users(client: Client) -> None:
    """Root, and a user who may read and write ``k/``; whatever exists already stays."""
    for name, password in (LOGIN, USER):
        await _try(client, "Auth/UserAdd", rpc.AuthUserAddRequest(name=name, password=password))
    await _try(client, "Auth/RoleAdd", rpc.AuthRoleAddRequest(name="root"))
    await _try(client, "Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user=LOGIN[0], role="root"))
    await _try(client, "Auth/RoleAdd", rpc.AuthRoleAddRequest(name="keys"))
    grant = rpc.AuthRoleGrantPermissionRequest(name="keys")
    grant.perm.permType, grant.perm.key, grant.perm.range_end = 2, b"k/", b"k0"  # type: ignore[assignment]
    await _try(client, "Auth/RoleGrantPermission", grant)
    await _try(client, "Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user=USER[0], role="keys"))
