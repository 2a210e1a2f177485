"""The counts of /metrics: those of etcd 3.4.23 for the same requests, and listeners for them alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.mvcc.steps import finish
from tercet.core.raft.types import Entry
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client
from tercet.net.config import MemberConfig
from tercet.net.member import Running, run_member
from tercet.net.real import real_world

PUT, DELETE, TXN = Command.PUT, Command.DELETE_RANGE, Command.TXN


def ver(key: bytes, wanted: int) -> rpc.Compare:
    return rpc.Compare(key=key, target=rpc.Compare.VERSION, result=rpc.Compare.EQUAL, version=wanted)


def put(key: bytes, **fields: bool) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, **fields))


def get(key: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key))


def delete(key: bytes, **fields: bool) -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, **fields))


def applied(machine: Machine, kind: Command, payload: bytes) -> RpcError | None:
    index = machine.applied_index + 1
    return machine.apply(Entry(1, index, encode_command(kind, 1, index, payload))).error


#: Command, request, and what it adds to puts, deletes, ranges and txns when key ``a`` exists; the numbers are
#: those that etcd 3.4.23 gave for the same.
CASES = {
    "put": (PUT, rpc.PutRequest(key=b"k"), (1, 0, 0, 0)),
    "put with the previous value": (PUT, rpc.PutRequest(key=b"k", prev_kv=True), (1, 0, 1, 1)),
    "put that keeps the value": (PUT, rpc.PutRequest(key=b"a", ignore_value=True), (1, 0, 1, 1)),
    "put that finds nothing to keep": (PUT, rpc.PutRequest(key=b"k", ignore_value=True), (0, 0, 1, 0)),
    "put on no lease": (PUT, rpc.PutRequest(key=b"k", lease=77), (0, 0, 0, 0)),
    "delete": (DELETE, rpc.DeleteRangeRequest(key=b"a"), (0, 1, 0, 0)),
    "delete of nothing": (DELETE, rpc.DeleteRangeRequest(key=b"k"), (0, 1, 0, 0)),
    "delete with the previous value": (DELETE, rpc.DeleteRangeRequest(key=b"a", prev_kv=True), (0, 1, 1, 1)),
    "a txn of one put": (TXN, rpc.TxnRequest(success=[put(b"q")]), (1, 0, 0, 0)),
    "comparisons are ranges and a piece of their own": (
        TXN,
        rpc.TxnRequest(compare=[ver(b"x", 0), ver(b"y", 0)], success=[put(b"q"), get(b"q")]),
        (1, 0, 3, 2),
    ),
    "comparisons after the first that fails are not looked at": (
        TXN,
        rpc.TxnRequest(
            compare=[ver(b"x", 5), ver(b"y", 0)],
            success=[put(b"q")],
            failure=[get(b"a"), put(b"z"), delete(b"x")],
        ),
        (1, 1, 2, 1),
    ),
    "previous values in a txn": (
        TXN, rpc.TxnRequest(success=[put(b"q", prev_kv=True), delete(b"y", prev_kv=True)]), (1, 1, 2, 1),
    ),
    "a txn that is refused": (
        TXN, rpc.TxnRequest(success=[put(b"q", ignore_value=True), put(b"k")]), (0, 0, 1, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_writes_are_counted_as_etcd_counts_them(case: str) -> None:
    kind, request, expected = CASES[case]
    machine = Machine()
    assert applied(machine, PUT, rpc.PutRequest(key=b"a", value=b"1").SerializeToString()) is None
    machine.tally.clear()
    applied(machine, kind, request.SerializeToString())
    tally = machine.tally
    assert (tally.puts, tally.deletes, tally.ranges, tally.txns) == expected


def test_reads_are_counted_also_those_that_are_refused() -> None:
    machine = Machine()
    machine.range(rpc.RangeRequest(key=b"a"))
    with pytest.raises(RpcError, match=rpc_errors.FUTURE_REVISION.message):
        machine.range(rpc.RangeRequest(key=b"a", revision=99))
    assert (machine.tally.ranges, machine.tally.txns) == (2, 0)
    finish(machine.read_txn(rpc.TxnRequest(compare=[ver(b"a", 0)], success=[get(b"a")])))
    assert (machine.tally.ranges, machine.tally.txns) == (4, 1)


def test_the_end_of_a_lease_deletes_each_of_its_keys() -> None:
    machine = Machine()
    applied(machine, Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=5, TTL=60).SerializeToString())
    for key in (b"a", b"b"):
        applied(machine, PUT, rpc.PutRequest(key=key, lease=5).SerializeToString())
    applied(machine, Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5).SerializeToString())
    applied(machine, Command.LEASE_REVOKE, rpc.LeaseRevokeRequest(ID=5).SerializeToString())
    tally = machine.tally
    assert (tally.deletes, tally.txns, tally.leases_granted, tally.leases_revoked) == (2, 1, 1, 1)


@asynccontextmanager
async def member(folder: Path) -> AsyncIterator[Running]:
    """A real member on free ports, with one address for metrics."""
    config = MemberConfig(
        data_dir=str(folder / "data"),
        listen_client_urls=("http://127.0.0.1:0",),
        listen_peer_urls=("http://127.0.0.1:0",),
        listen_metrics_urls=("http://127.0.0.1:0",),
    )
    world = real_world("default", write_log=lambda _: None)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(run_member, world, config))
        nursery.cancel_scope.cancel()


def client_of(running: Running) -> Client:
    """A client of the member."""
    world = real_world("client", write_log=lambda _: None)
    return Client(world, [f"http://{running.client_addresses[0]}"], request_timeout=90)


async def fetch(address: str, path: str) -> tuple[str, list[str]]:
    """The status line and the lines of the body."""
    host, _, port = address.rpartition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n".encode())
        text = b"".join([part async for part in stream]).decode()
    head, _, body = text.partition("\r\n\r\n")
    return head.splitlines()[0], body.splitlines()


async def test_metrics_urls_serve_metrics_and_health_and_nothing_else(tmp_path: Path) -> None:
    async with member(tmp_path) as running, client_of(running) as client:
        await client.put(b"key", b"value")
        (address,) = running.metrics_addresses
        status, lines = await fetch(address, "/metrics")
        assert status == "HTTP/1.1 200 OK"
        assert {
            "etcd_mvcc_put_total 1.0", "etcd_debugging_mvcc_put_total 1.0", "etcd_mvcc_range_total 0.0",
            "etcd_debugging_mvcc_keys_total 1.0", "etcd_debugging_mvcc_watcher_total 0.0",
        } <= set(lines)
        assert await fetch(address, "/health") == ("HTTP/1.1 200 OK", ['{"health":"true"}'])
        for path in ("/version", "/v3/kv/range", "/members"):
            assert (await fetch(address, path))[0] == "HTTP/1.1 404 Not Found"
        status, lines = await fetch(running.client_addresses[0], "/metrics")
        assert "etcd_mvcc_put_total 1.0" in lines


async def test_the_replay_of_the_log_is_not_counted(tmp_path: Path) -> None:
    async with member(tmp_path) as running, client_of(running) as client:
        await client.put(b"key", b"value")
    async with member(tmp_path) as running, client_of(running) as client:
        await client.get(b"key")
        await client.put(b"other", b"value")
        _, lines = await fetch(running.metrics_addresses[0], "/metrics")
        assert {"etcd_mvcc_put_total 1.0", "etcd_debugging_mvcc_keys_total 2.0"} <= set(lines)
