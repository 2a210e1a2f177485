"""A desk with users, for tests of authentication without a network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from google.protobuf.message import Message

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeCall

__all__ = ["PASSWORDS", "AuthDesk", "with_auth_desk"]

PASSWORDS = {"root": "root's password", "alice": "alice's password", "bob": "bob's password"}


class AuthDesk(Desk):
    """Users root, alice (read and write a/, lease 5 holds a/x) and bob (nothing); authentication is on.

    Keys a/x and z/x hold ``secret-a`` and ``secret-z``.
    """

    tokens: dict[str, str]

    async def furnish(self) -> None:
        """Make users, roles and keys, and log everybody in."""
        for name, password in PASSWORDS.items():
            await self.wait("Auth/UserAdd", rpc.AuthUserAddRequest(name=name, password=password))
        await self.wait("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        await self.wait("Auth/RoleAdd", rpc.AuthRoleAddRequest(name="a"))
        grant = rpc.AuthRoleGrantPermissionRequest(name="a")
        grant.perm.permType, grant.perm.key, grant.perm.range_end = 2, b"a/", b"a0"  # type: ignore[assignment]
        await self.wait("Auth/RoleGrantPermission", grant)
        await self.wait("Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="alice", role="a"))
        self.ask("Lease/LeaseGrant", rpc.LeaseGrantRequest(ID=5, TTL=100_000))
        self.put(b"a/x", b"secret-a", lease=5)
        self.put(b"z/x", b"secret-z")
        await self.wait("Auth/AuthEnable", rpc.AuthEnableRequest())
        self.tokens = {name: await self.log_in(name) for name in PASSWORDS}

    async def answer(self, method: str, request: Message, **metadata: str) -> FakeCall:
        """Make a call and wait until it is answered."""
        call = self.call(method, request, **metadata)
        while call.status is None:
            await self.world.clock.sleep(0.01)
        return call

    async def wait(self, method: str, request: Message, **metadata: str) -> Any:
        """The response of a call that succeeds."""
        call = await self.answer(method, request, **metadata)
        assert call.status == (0, ""), call.status
        return METHODS[f"/etcdserverpb.{method}"].response.FromString(call.answer)

    async def log_in(self, name: str) -> str:
        """A token."""
        request = rpc.AuthenticateRequest(name=name, password=PASSWORDS[name])
        return str((await self.wait("Auth/Authenticate", request)).token)


def with_auth_desk(
    test: Callable[[AuthDesk, trio.Nursery], Awaitable[None]],
    *,
    seed: int = 1,
    prepare: Callable[[World], None] | None = None,
    **options: Any,
) -> None:
    """Run a test with a furnished desk whose services run; ``prepare`` is called first."""

    async def run(world: World) -> None:
        if prepare is not None:
            prepare(world)
        desk = AuthDesk(world, bcrypt_cost=4, **options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.run)
            await world.clock.sleep(0.01)
            await desk.furnish()
            await test(desk, nursery)
            nursery.cancel_scope.cancel()

    run_in_world(run, seed=seed)
