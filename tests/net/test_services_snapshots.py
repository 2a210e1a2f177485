"""Snapshots and hashes through the Maintenance service, and its answers about downgrades."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import pytest
import trio

from tercet.core.etcd_snapshot import Import
from tercet.core.machine import Command
from tercet.core.mvcc.record import Record
from tercet.core.rpc_errors import TIMEOUT
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server.services.snapshots import SNAPSHOT_CHUNK_BYTES
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk

Test = Callable[[Desk, trio.Nursery], Awaitable[None]]


def with_desk(test: Test) -> None:
    async def run(world: World) -> None:
        desk = Desk(world)
        async with trio.open_nursery() as nursery:
            await test(desk, nursery)
            nursery.cancel_scope.cancel()

    run_in_world(run)


async def snapshot(desk: Desk, nursery: trio.Nursery, between: Callable[[], object] = list) -> list[Record]:
    """The records of a snapshot; ``between`` is called before each piece of it is read."""
    stream = desk.open(nursery, "Maintenance/Snapshot", window=0)
    stream.request(rpc.SnapshotRequest())
    data = blob = b""
    left: list[int] = []
    while not left or left[-1] or len(blob) != 32:
        between()
        response = await stream.response()
        blob = response.blob
        left.append(response.remaining_bytes)
        data += blob
        assert len(blob) == min(SNAPSHOT_CHUNK_BYTES, len(blob))
    await stream.finished.wait()
    assert stream.status == (0, "")
    assert left[0] == len(data) - 32 - min(SNAPSHOT_CHUNK_BYTES, len(data) - 32)
    assert left == sorted(left, reverse=True)
    assert data[-32:] == hashlib.sha256(data[:-32]).digest()
    source = Import(lambda offset, length: data[offset : offset + length], len(data))
    assert source.state().applied_index
    return list(source.records())


def test_a_snapshot_comes_in_pieces_with_its_hash_at_the_end() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for number in range(400):
            desk.put(b"key-%d" % (number % 90), b"v" * number)
        desk.ask("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"key-1"))
        records = await snapshot(desk, nursery)
        assert [record.mod_revision for record in records] == list(range(2, 403))
        assert records[-1].version == 0

    with_desk(test)


def test_a_snapshot_does_not_see_what_is_written_while_it_is_read() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        for number in range(300):
            desk.put(b"key-%d" % number, b"v" * 1000)
        first = desk.member.machine.revision

        def between() -> None:
            desk.put(b"key-0", b"later")
            desk.ask("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"key-1"))

        records = await snapshot(desk, nursery, between)
        assert desk.member.machine.revision > first + 10
        assert len(records) <= 302  # what came before the first piece was made may be in it
        assert all(record.mod_revision <= first + 2 for record in records)

    with_desk(test)


def test_the_hash_depends_on_the_state_and_on_nothing_else() -> None:
    async def asked(desk: Desk, nursery: trio.Nursery) -> int:
        stream = desk.open(nursery, "Maintenance/Hash")
        stream.request(rpc.HashRequest())
        response = await stream.response()
        assert response.header.revision == desk.member.machine.revision
        number: int = response.hash
        return number

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        other = Desk(desk.world)
        for one in (desk, other):
            one.put(b"k", b"1")
        assert await asked(desk, nursery) == await asked(other, nursery) == await asked(desk, nursery)
        other.put(b"k", b"2")
        assert await asked(desk, nursery) != await asked(other, nursery)

    with_desk(test)


_INVALID = (3, "etcdserver: invalid downgrade target version")
_FORMAT = (3, "etcdserver: wrong downgrade target version format")


@pytest.mark.parametrize(
    ("action", "version", "answer"),
    [
        ("VALIDATE", "3.3.0", (0, "")),
        ("VALIDATE", "3.3", (0, "")),
        ("VALIDATE", "3.4.0", _INVALID),
        ("VALIDATE", "2.3.0", _INVALID),
        ("VALIDATE", "", _FORMAT),
        ("ENABLE", "x.y", _FORMAT),
        ("ENABLE", "3.5.0", _INVALID),
        ("ENABLE", "3.3.0", (0, "")),
        ("CANCEL", "", (9, "etcdserver: no inflight downgrade job")),
    ],
)
def test_downgrades_are_judged_as_etcd_judges_them(
    action: str, version: str, answer: tuple[int, str]
) -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        if answer[0] != 9:
            unknown = desk.call("Maintenance/Downgrade", rpc.DowngradeRequest(version="3.3.0"))
            assert unknown.status == (14, "etcdserver: cluster version not found during downgrade")
        decide(desk)
        assert downgrade(desk, action, version) == (answer, "" if answer[0] else "3.4.0")
        assert desk.member.machine.downgrade == ("3.3.0" if (action, answer[0]) == ("ENABLE", 0) else "")

    with_desk(test)


def decide(desk: Desk) -> None:
    version = internal.ClusterVersion(version="3.4.0").SerializeToString()
    desk.member.propose(Command.CLUSTER_VERSION, version, lambda _: None)


def downgrade(desk: Desk, action: str, version: str = "") -> tuple[tuple[int, str] | None, str]:
    """The status of a call, and the version in its answer."""
    kind = rpc.DowngradeRequest.DowngradeAction.Value(action)
    call = desk.call("Maintenance/Downgrade", rpc.DowngradeRequest(action=kind, version=version))
    return call.status, rpc.DowngradeResponse.FromString(call.answer or b"").version


def test_one_downgrade_is_under_way_at_a_time_and_can_be_cancelled() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        decide(desk)
        assert downgrade(desk, "ENABLE", "3.3.0") == ((0, ""), "3.4.0")
        under_way = (9, "etcdserver: cluster has a downgrade job in progress")
        assert downgrade(desk, "ENABLE", "3.3.0") == (under_way, "")
        assert downgrade(desk, "VALIDATE", "3.3.0") == (under_way, "")
        assert downgrade(desk, "CANCEL") == ((0, ""), "3.4.0")
        assert downgrade(desk, "ENABLE", "3.3") == ((0, ""), "3.4.0")

    with_desk(test)


def test_a_downgrade_needs_a_state_that_is_up_to_date() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        decide(desk)
        desk.member.read_error = TIMEOUT
        assert downgrade(desk, "ENABLE", "3.3.0") == ((14, "etcdserver: request timed out"), "")
        assert desk.member.machine.downgrade == ""

    with_desk(test)
