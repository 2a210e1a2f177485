"""The client library against unmodified members in a simulated world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from tercet.core import rpc_errors
from tercet.core.errors import OutcomeUnknown, Rejected
from tercet.core.rpc_errors import RpcError, RpcRejected, RpcUnknown
from tercet.core.wire.proto import lock_pb2
from tercet.net.client import (
    Client,
    Compacted,
    Compare,
    Delete,
    Get,
    Put,
    Txn,
    Unreachable,
    WatchBatch,
    open_client,
    prefix_end,
)
from tercet.net.client.connection import Patience
from tercet.net.client.errors import rpc_error
from tercet.net.world import World
from tercet.sim.cluster import Cluster
from tercet.sim.contract import run_in_world
from tercet.sim.world import SimWorld

Test = Callable[[SimWorld, Cluster, Client], Awaitable[None]]


def with_client(test: Test, size: int = 1, seed: int = 3) -> None:
    sim = SimWorld(seed, ())
    cluster = Cluster(sim, size)

    async def main() -> None:
        cluster.start()
        async with cluster.client("client") as client:
            await test(sim, cluster, client)

    sim.run(main)
    assert [failure for failure in sim.failures if failure[1] in cluster.names] == []


def test_put_get_and_delete_answer_with_etcds_records() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        first = await client.put(b"a", b"1")
        second = await client.put(b"a", b"2", prev_kv=True)
        assert (first.prev, second.header.revision) == (None, first.header.revision + 1)
        assert second.prev is not None and second.prev.value == b"1"
        await client.put(b"b", b"3")
        found = await client.get(b"a", range_end=b"c", limit=1, sort_order="descend")
        assert ([kv.key for kv in found.kvs], found.count, found.more) == ([b"b"], 2, True)
        [kv] = (await client.get(b"a")).kvs
        assert (kv.value, kv.version, kv.create_revision, kv.mod_revision) == (b"2", 2, 2, 3)
        old = await client.get(b"a", revision=2)
        assert old.kvs[0].value == b"1"
        counted = await client.get(b"\0", range_end=b"\0", count_only=True)
        assert (counted.count, counted.kvs) == (2, ())
        deleted = await client.delete(b"a", range_end=prefix_end(b"a"), prev_kv=True)
        assert (deleted.deleted, [kv.value for kv in deleted.prevs]) == (1, [b"2"])

    with_client(test)


def test_a_transaction_takes_one_branch_and_answers_each_operation() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        inner = Txn(compares=(Compare.version(b"none", "=", 0),), success=(Put(b"c", b"3"),))
        await client.put(b"b", b"y")
        result = await client.txn(
            [Compare.create_revision(b"a", "=", 0), Compare.value(b"b", "!=", b"x")],
            [Put(b"a", b"1"), inner, Get(b"a")],
            [Delete(b"a")],
        )
        assert result.succeeded and len(result.responses) == 3
        again = await client.txn([Compare.mod_revision(b"a", ">", 100)], [], [Delete(b"a", prev_kv=True)])
        assert not again.succeeded
        assert getattr(again.responses[0], "deleted", None) == 1
        assert [kv.value for kv in (await client.get(b"c")).kvs] == [b"3"]

    with_client(test)


def test_a_refusal_is_definite_and_carries_etcds_code_and_text() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        with pytest.raises(Rejected) as refused:
            await client.put(b"", b"x")
        assert refused.value == rpc_errors.EMPTY_KEY
        with pytest.raises(RpcError) as large:
            await client.put(b"a", bytes(1_600_000))
        assert large.value == rpc_errors.REQUEST_TOO_LARGE
        await client.compact((await client.put(b"a", b"x")).header.revision)
        with pytest.raises(RpcError) as compacted:
            await client.get(b"a", revision=1)
        assert compacted.value == rpc_errors.COMPACTED

    with_client(test)


def test_messages_larger_than_every_window_pass_in_both_directions() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(client.put, b"large-%d" % number, bytes([number]) * 1_400_000)
        found = await client.get(b"large", range_end=b"largf")
        assert [(len(kv.value), kv.value[0]) for kv in found.kvs] == [(1_400_000, n) for n in range(6)]

    with_client(test)


def test_many_tasks_share_one_connection() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(client.put, b"%03d" % number, b"v")
        found = await client.get(b"\0", range_end=b"\0")
        assert found.count == 200
        assert found.header.revision == 201

    with_client(test)


def test_without_any_reachable_endpoint_a_write_is_definitely_not_done() -> None:
    async def main(world: World) -> None:
        async with open_client(world, ("http://127.0.0.1:1",), request_timeout=1.0) as client:
            with pytest.raises(Unreachable):
                await client.put(b"a", b"b")

    run_in_world(main)


def test_a_write_whose_member_dies_has_an_unknown_outcome_and_a_read_is_tried_elsewhere() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        answered = (await client.put(b"a", b"0")).header.member_id
        (member,) = (found.name for found in await client.members() if found.id == answered)
        outcomes: list[str] = []

        async def write() -> None:
            try:
                await client.put(b"a", b"1")
                outcomes.append("ok")
            except OutcomeUnknown:
                outcomes.append("unknown")

        for link in sim.network.links(["n1", "n2", "n3"], ["client"]):
            link.cut += 1  # requests arrive, answers do not
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await sim.sleep(1.0)
            sim.crash(member)
            for link in sim.network.links(["n1", "n2", "n3"], ["client"]):
                link.cut -= 1
        assert outcomes == ["unknown"]
        assert (await client.get(b"a", timeout=10.0)).kvs[0].value == b"1"

    with_client(test, size=3)


def test_a_watch_tells_every_event_once_and_in_order_over_crashes_of_its_members() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        seen: list[int] = []
        written: list[int] = []

        async def watch(task_status: trio.TaskStatus[None]) -> None:
            async with (
                cluster.client("watcher") as other,
                other.watch(b"key", range_end=b"kez", prev_kv=True) as watcher,
            ):
                task_status.started()
                async for batch in watcher:
                    seen.extend(event.kv.mod_revision for event in batch.events)
                    if watcher.next_revision > 61:
                        assert watcher.reconnects
                        return

        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: watch(task_status))
            for number in range(60):
                result = await client.put(b"key-%d" % (number % 7), b"%d" % number, timeout=20.0)
                written.append(result.header.revision)
                if number in (20, 40):
                    victim = cluster.names[number // 20 - 1]
                    sim.network.reset_between(sim.host("watcher"), sim.host(victim))
                    for name in cluster.names:
                        sim.network.reset_between(sim.host("watcher"), sim.host(name))
        assert seen == written

    with_client(test, size=3)


def test_a_watch_from_the_past_begins_there_and_one_from_compacted_revisions_says_so() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        for number in range(5):
            await client.put(b"a", b"%d" % number)
        async with client.watch(b"a", start_revision=3) as watcher:
            batches: list[WatchBatch] = []
            while sum(len(batch.events) for batch in batches) < 4:
                batches.append(await watcher.receive())
            assert [e.kv.value for batch in batches for e in batch.events] == [b"1", b"2", b"3", b"4"]
            await client.delete(b"a")
            [event] = (await watcher.receive()).events
            assert (event.kind, event.kv.mod_revision) == ("delete", 7)
        await client.compact(6)
        with pytest.raises(Compacted) as compacted:
            async with client.watch(b"a", start_revision=3) as watcher:
                await watcher.receive()
        assert compacted.value.compact_revision == 6

    with_client(test)


def test_progress_is_told_on_request_without_events() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        async with client.watch(b"a") as watcher:
            await client.put(b"other", b"x")
            await watcher.request_progress()
            batch = await watcher.receive()
            assert batch.progress and batch.revision == 2

    with_client(test)


def test_a_lease_ends_with_its_keys_unless_it_is_kept_alive() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        kept = await client.lease_grant(3)
        left = await client.lease_grant(3, lease_id=77)
        assert left.id == 77
        await client.put(b"kept", b"x", lease=kept.id)
        await client.put(b"left", b"x", lease=left.id)
        state = await client.lease_time_to_live(left.id, keys=True)
        assert (state.granted_ttl, state.keys) == (3, (b"left",))
        async with client.keep_alive(kept.id) as keeper:
            await sim.sleep(8.0)
            assert not keeper.lost.is_set()
            assert [kv.key for kv in (await client.get(b"\0", range_end=b"\0")).kvs] == [b"kept"]
            assert await client.leases() == (kept.id,)
            await client.lease_revoke(kept.id)
            with trio.fail_after(10):
                await keeper.lost.wait()
        assert await client.lease_keep_alive_once(kept.id) == 0
        assert (await client.get(b"kept")).kvs == ()

    with_client(test)


class _Overtaken:
    """A connection whose server has changed its users between asking and doing, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked = 0

    async def unary(self, path: str, message: bytes, metadata: object) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.asked <= self.times:
            raise rpc_errors.AUTH_OLD_REVISION.with_traceback(None)
        return b""


@pytest.mark.parametrize(("times", "asked", "succeeds"), [(3, 4, True), (1000, 101, False)])
def test_a_call_overtaken_by_changes_of_users_is_made_again(
    monkeypatch: pytest.MonkeyPatch, times: int, asked: int, succeeds: bool
) -> None:
    server = _Overtaken(times)

    async def connection(_: Client) -> _Overtaken:
        return server

    async def body(world: World) -> bool:
        async with open_client(world, ["http://localhost:1"]) as client:
            try:
                await client.put(b"a", b"1")
            except RpcError as error:
                assert error.message == rpc_errors.AUTH_OLD_REVISION.message
                return False
        return True

    monkeypatch.setattr(Client, "connection", connection)
    assert run_in_world(body, seed=4) is succeeds
    assert server.asked == asked


class _Reopened:
    """A member that turned authentication off: it refuses tokens and has none to give."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def unary(self, path: str, message: bytes, metadata: object) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(path.rpartition("/")[2])
        if metadata:
            raise rpc_errors.INVALID_AUTH_TOKEN.with_traceback(None)
        if path.endswith("/Authenticate"):
            raise rpc_errors.AUTH_NOT_ENABLED.with_traceback(None)
        return b""


def test_a_call_goes_on_without_its_token_when_authentication_was_turned_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = _Reopened()

    async def connection(_: Client) -> _Reopened:
        return server

    async def body(world: World) -> None:
        async with open_client(world, ["http://localhost:1"], login=("root", "secret")) as client:
            client.metadata = (("token", "old.1"),)
            await client.put(b"a", b"1")

    monkeypatch.setattr(Client, "connection", connection)
    run_in_world(body, seed=4)
    assert server.asked == ["Put", "Authenticate", "Put"]


def test_status_names_the_leader_and_the_answering_member() -> None:
    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        await client.put(b"a", b"b")
        status = await client.status()
        assert status.leader == status.header.member_id
        assert status.version and status.raft_index >= status.raft_applied_index > 0

    with_client(test)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (3, "etcdserver: key is not provided", RpcRejected),
        (14, "etcdserver: request timed out", RpcUnknown),
        (14, "etcdserver: no leader", RpcRejected),
        (14, "something else", RpcUnknown),
        (4, "context deadline exceeded", RpcUnknown),
        (5, "anything", RpcRejected),
        (99, "no such code", RpcUnknown),
    ],
)
def test_a_status_says_whether_something_may_have_happened(
    code: int, text: str, kind: type[RpcError]
) -> None:
    assert type(rpc_error(code, text)) is kind


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0"), (b"ab", b"ac")]
)
def test_a_prefix_ends_before_the_next_one(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


def test_a_client_needs_endpoints_and_a_timeout() -> None:
    async def main(world: World) -> None:
        with pytest.raises(ValueError, match="need endpoints"):
            open_client(world, ())
        with pytest.raises(ValueError, match="need http://host:port"):
            open_client(world, ("nonsense",))

    run_in_world(main)


def test_an_endpoint_that_takes_calls_and_says_nothing_costs_the_patience_not_the_timeout() -> None:
    sim = SimWorld(8, ())
    cluster = Cluster(sim, 1)

    async def swallow(task_status: trio.TaskStatus[None]) -> None:
        listener = await sim.world_for("mute").net.listen("mute", 7)
        task_status.started()
        connection = await listener.accept()
        while await connection.receive(1000):
            pass

    async def main() -> None:
        cluster.start()
        world = sim.world_for("client")
        async with trio.open_nursery() as nursery:
            await nursery.start(swallow)
            endpoints = ("http://mute:7", *cluster.endpoints)
            patience = Patience(silence=2.0, answer=6.0)
            async with open_client(world, endpoints, request_timeout=60.0, patience=patience) as client:
                begun = world.clock.monotonic()
                assert (await client.get(b"a")).kvs == ()
                assert 8.0 <= world.clock.monotonic() - begun < 13.0
            nursery.cancel_scope.cancel()

    sim.run(main)


def test_a_call_that_takes_its_time_after_a_long_idleness_is_not_given_up() -> None:
    """Nothing was heard while nothing was asked: that is no sign that the server is gone."""

    async def test(sim: SimWorld, cluster: Cluster, client: Client) -> None:
        clock = client.world.clock
        lease = await client.lease_grant(600)
        await client.put(b"l/0", b"", lease=lease.id)
        await clock.sleep(101.0)

        async def free() -> None:
            await clock.sleep(12.0)
            async with open_client(client.world, cluster.endpoints) as other:
                await other.delete(b"l/0")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(free)
            request = lock_pb2.LockRequest(name=b"l", lease=lease.id)
            locked = await client.call("/v3lockpb.Lock/Lock", request, lock_pb2.LockResponse.FromString, 30.0)
        assert locked.key.startswith(b"l/")

    with_client(test)
