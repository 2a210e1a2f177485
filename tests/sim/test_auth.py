"""Authentication in whole simulated clusters: members that lag while it is turned on (bug zoo B25)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.client import Client, open_client
from tercet.sim.cluster import Cluster
from tercet.sim.world import SimWorld

Test = Callable[[SimWorld, Cluster], Awaitable[None]]


def in_cluster(test: Test, seed: int, **options: Any) -> SimWorld:
    """Run a test beside three members in a simulated world."""
    sim = SimWorld(seed, ())
    cluster = Cluster(sim, 3, options={"bcrypt_cost": 4, **options})

    async def main() -> None:
        cluster.start()
        while cluster.leader() is None:
            await sim.sleep(0.1)
        await test(sim, cluster)

    sim.run(main)
    assert [failure for failure in sim.failures if failure[1] in cluster.names] == []
    return sim


async def ask(client: Client, method: str, request: Any) -> Any:
    """Any unary call."""
    path = f"/etcdserverpb.{method}"
    return await client.call(path, request, METHODS[path].response.FromString)


async def make_users(client: Client) -> None:
    """Root and alice, who may do everything below a/."""
    for name in ("root", "alice"):
        await ask(client, "Auth/UserAdd", rpc.AuthUserAddRequest(name=name, password=f"{name}'s"))
    await ask(client, "Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    await ask(client, "Auth/RoleAdd", rpc.AuthRoleAddRequest(name="a"))
    grant = rpc.AuthRoleGrantPermissionRequest(name="a")
    grant.perm.permType, grant.perm.key, grant.perm.range_end = 2, b"a/", b"a0"  # type: ignore[assignment]
    await ask(client, "Auth/RoleGrantPermission", grant)
    await ask(client, "Auth/UserGrantRole", rpc.AuthUserGrantRoleRequest(user="alice", role="a"))


def user(sim: SimWorld, host: str, name: str, *endpoints: str) -> Client:
    """A client of a user, which logs in by itself when its token is no good."""
    sim.host(host)
    return open_client(sim.world_for(host), endpoints, login=(name, f"{name}'s"))


async def hashes(sim: SimWorld, cluster: Cluster) -> list[int]:
    """Every member's hash over all that is replicated, once all have applied the same."""
    async with user(sim, "h", "root", *cluster.endpoints) as root:
        await root.log_in()  # an entry of its own: once, so that the log stands still
        tokens = [root.metadata] * len(cluster.endpoints)
        for _ in range(100):
            found: list[tuple[int, int]] = []
            for number, endpoint in enumerate(cluster.endpoints):
                async with user(sim, f"h{number}", "root", endpoint) as client:
                    client.metadata = tokens[number]
                    await client.get(b"a/x")
                    tokens[number] = client.metadata  # another one: a snapshot had taken it past that entry
                    answer = await ask(client, "Maintenance/Hash", rpc.HashRequest())
                    found.append(((await client.status()).raft_applied_index, answer.hash))
            if len({applied for applied, _ in found}) == 1:
                return [number for _, number in found]
            await sim.sleep(0.2)
    raise AssertionError(f"the members do not come together: {found}")


@pytest.mark.parametrize("snapshot_count", [100_000, 10])
@pytest.mark.parametrize("seed", [1, 2])
def test_members_agree_when_authentication_was_turned_on_while_one_lagged(
    seed: int, snapshot_count: int
) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        lagging = next(name for name in cluster.names if name != cluster.leader())
        others = [f"http://{name}:2379" for name in cluster.names if name != lagging]
        async with cluster.client("c1", tuple(others)) as client:
            await client.put(b"a/x", b"before")
            await make_users(client)
            sim.crash(lagging)
            await ask(client, "Auth/AuthEnable", rpc.AuthEnableRequest())
            with pytest.raises(RpcError, match="user name is empty"):
                await client.put(b"a/x", b"refused")
        async with user(sim, "c2", "alice", *others) as alice:
            await alice.log_in()
            for number in range(30):
                await alice.put(b"a/x", b"%d" % number)
            with pytest.raises(RpcError, match="permission denied"):
                await alice.put(b"b", b"refused")
            sim.restart(lagging)
            await sim.sleep(3)
        async with user(sim, "c3", "alice", f"http://{lagging}:2379") as alice:
            await alice.log_in()
            assert (await alice.get(b"a/x")).kvs[0].value == b"29"
            with pytest.raises(RpcError, match="permission denied"):
                await alice.get(b"b")
        async with cluster.client("c4", (f"http://{lagging}:2379",)) as nobody:
            with pytest.raises(RpcError, match="user name is empty"):
                await nobody.get(b"a/x", serializable=True)
        assert len(set(await hashes(sim, cluster))) == 1

    in_cluster(test, seed, snapshot_count=snapshot_count)


async def change_something(client: Client, rng: random.Random) -> None:
    """One change of users or roles; refusals are as good as changes."""
    name, role = rng.choice(["alice", "bob", "carol"]), rng.choice(["a", "b"])
    grant = rpc.AuthRoleGrantPermissionRequest(name=role)
    grant.perm.permType, grant.perm.key = rng.choice([0, 1, 2]), b"a/x"  # type: ignore[assignment]
    method, request = rng.choice([
        ("UserAdd", rpc.AuthUserAddRequest(name=name, password=f"{name}'s")),
        ("UserDelete", rpc.AuthUserDeleteRequest(name=name)),
        ("UserChangePassword", rpc.AuthUserChangePasswordRequest(name=name, password=f"{name}'s")),
        ("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=name, role=role)),
        ("UserRevokeRole", rpc.AuthUserRevokeRoleRequest(name=name, role=role)),
        ("RoleAdd", rpc.AuthRoleAddRequest(name=role)),
        ("RoleDelete", rpc.AuthRoleDeleteRequest(role=role)),
        ("RoleGrantPermission", grant),
        ("AuthDisable", rpc.AuthDisableRequest()),
        ("AuthEnable", rpc.AuthEnableRequest()),
    ])  # fmt: skip
    with suppress(TercetError):
        await ask(client, f"Auth/{method}", request)


async def write_as(sim: SimWorld, cluster: Cluster, name: str, done: trio.Event) -> None:
    """Put and get as a user, whatever comes of it."""
    async with user(sim, f"w-{name}", name, *cluster.endpoints) as client:
        while not done.is_set():
            with suppress(TercetError):
                await client.log_in()
            for key in (b"a/x", b"b/x"):
                with suppress(TercetError):
                    await client.put(key, name.encode())
                    await client.get(key)
            await sim.sleep(0.2)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_members_agree_after_crashes_while_users_and_roles_change(seed: int) -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        rng = random.Random(f"{seed}/auth-changes")
        done = trio.Event()
        async with cluster.client("c1") as client:
            await make_users(client)
            await ask(client, "Auth/AuthEnable", rpc.AuthEnableRequest())
        async with user(sim, "c2", "root", *cluster.endpoints) as root, trio.open_nursery() as nursery:
            for name in ("alice", "bob"):
                nursery.start_soon(write_as, sim, cluster, name, done)
            for step in range(80):
                if step % 20 == 5:
                    sim.crash(rng.choice(cluster.names))
                if step % 20 == 15:
                    for name in cluster.names:
                        if not sim.running(name):
                            sim.restart(name)
                with suppress(TercetError):
                    await root.log_in()
                await change_something(root, rng)
                await sim.sleep(0.1)
            done.set()
        async with user(sim, "c3", "root", *cluster.endpoints) as root:
            with suppress(RpcError):  # off: then there are no tokens, and everybody may
                await root.log_in()
            await ask(root, "Auth/AuthEnable", rpc.AuthEnableRequest())
        assert len(set(await hashes(sim, cluster))) == 1

    in_cluster(test, seed, snapshot_count=50)


def test_a_token_of_one_member_is_good_on_all_at_once() -> None:
    async def test(sim: SimWorld, cluster: Cluster) -> None:
        async with cluster.client("c1") as client:
            await make_users(client)
            await ask(client, "Auth/AuthEnable", rpc.AuthEnableRequest())
        for round_number in range(5):
            async with user(sim, f"c2-{round_number}", "alice", cluster.endpoints[0]) as alice:
                await alice.log_in()
                for number, endpoint in enumerate(cluster.endpoints):
                    sim.host(f"c3-{round_number}-{number}")
                    world = sim.world_for(f"c3-{round_number}-{number}")
                    async with open_client(world, [endpoint]) as other:
                        other.metadata = alice.metadata
                        await other.put(b"a/x", b"v")
                        assert (await other.get(b"a/x", serializable=True)).kvs

    in_cluster(test, 3)


def test_the_same_seed_draws_the_same_tokens_and_hashes() -> None:
    def run() -> tuple[str, ...]:
        tokens: list[str] = []

        async def test(sim: SimWorld, cluster: Cluster) -> None:
            async with cluster.client("c1") as client:
                await make_users(client)
                await ask(client, "Auth/AuthEnable", rpc.AuthEnableRequest())
            async with user(sim, "c2", "alice", *cluster.endpoints) as alice:
                await alice.log_in()
                tokens.append(alice.metadata[0][1])

        sim = in_cluster(test, 7)
        return (*tokens, sim.engine.digest)

    assert run() == run()
