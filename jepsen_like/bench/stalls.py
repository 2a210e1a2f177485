"""How long a user waits beside somebody else's large request: one client puts on and on meanwhile.

Each figure is the longest put of that client while the whole store was read, hashed, sent, written anew, or
deleted. A put that is committed after a large deletion waits until it is carried out, with every server; a
put beside a read should not notice it.
"""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import trio

from tercet.core.errors import OutcomeUnknown
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client, open_client
from tercet.net.client.values import Put
from tercet.net.real import real_world

from .crowds import Figure
from .load import Load, run_h2load
from .payloads import VALUE_BYTES, grpc_frame
from .targets import Target

__all__ = [
    "deletion_figures", "fill", "large_request", "longest_put", "reading_figures", "scale_client",
]

_BESIDE = b"/beside"
_VALUE = b"v" * VALUE_BYTES
_IN_ONE = 100  # puts in a transaction while filling
_FILLERS = 8
_WINDOW_BITS = 30  # of who reads everything
_LEASE_ID = 4711
_PATIENCE_SECONDS = 1_800.0


def scale_client(endpoint: str) -> Client:
    """A client that waits for long."""
    world = real_world("scale", log_level="fatal", environment={})
    return open_client(world, [endpoint], request_timeout=60.0)


async def fill(endpoint: str, prefix: bytes, keys: int, lease: int = 0) -> None:
    """Put so many keys, a hundred in a transaction, from a few clients at once."""

    async def part(client: Client, first: int) -> None:
        for start in range(first * _IN_ONE, keys, _FILLERS * _IN_ONE):
            numbers = range(start, min(start + _IN_ONE, keys))
            await client.txn(success=[Put(prefix + b"%09d" % number, _VALUE, lease) for number in numbers])

    async with scale_client(endpoint) as client, trio.open_nursery() as nursery:
        for first in range(_FILLERS):
            nursery.start_soon(part, client, first)


async def longest_put(client: Client, seconds: float) -> float:
    """The longest put of a client that puts one after the other for so long, in seconds."""
    longest, end = 0.0, trio.current_time() + seconds
    while trio.current_time() < end:
        began = trio.current_time()
        with suppress(OutcomeUnknown):  # the server gave it up: the wait was as long as it lets one wait
            await client.put(_BESIDE, _VALUE)
        longest = max(longest, trio.current_time() - began)
    return longest


async def _beside(endpoint: str, work: Callable[[], object]) -> float:
    """The longest put of a client while ``work`` runs in a thread, in seconds."""
    longest = 0.0
    async with scale_client(endpoint) as client, trio.open_nursery() as nursery:
        await client.put(_BESIDE, b"")  # connected
        done = trio.Event()

        async def run() -> None:
            await trio.to_thread.run_sync(work)
            done.set()

        nursery.start_soon(run)
        while not done.is_set():
            longest = max(longest, await longest_put(client, 0.05))
    return longest


def reading_figures(target: Target, prefix: bytes) -> Iterator[Figure]:
    """Beside requests that look at every key of the store."""
    everything = rpc.RangeRequest(key=prefix, range_end=prefix[:-1] + b"0", serializable=True)
    in_txn = rpc.TxnRequest(success=[rpc.RequestOp(request_range=everything)])
    requests = {
        "read": ("etcdserverpb.KV/Range", everything.SerializeToString()),
        "read in a transaction": ("etcdserverpb.KV/Txn", in_txn.SerializeToString()),
        "hashed": ("etcdserverpb.Maintenance/HashKV", b""),
        "sent as a snapshot": ("etcdserverpb.Maintenance/Snapshot", b""),
    }
    for what, (method, message) in requests.items():
        began = time.monotonic()
        stalled = trio.run(_beside, target.url(""), large_request(target.url(f"/{method}"), message))
        yield f"all keys {what}, beside puts", "s", time.monotonic() - began
        yield f"longest put while all keys are {what}", "ms", stalled * 1e3
    stalled = trio.run(_beside, target.url(""), lambda: _read_json(target, everything))
    yield "longest put while all keys are read as JSON", "ms", stalled * 1e3
    path = target.url("/etcdserverpb.Maintenance/Defragment")
    stalled = trio.run(_beside, target.url(""), large_request(path, b""))
    yield "longest put while the file is defragmented", "ms", stalled * 1e3


def deletion_figures(target: Target, prefix: bytes, leased: int) -> Iterator[Figure]:
    """Beside the end of a lease of so many keys, and the deletion of all."""
    grant = rpc.LeaseGrantRequest(ID=_LEASE_ID, TTL=3600).SerializeToString()
    large_request(target.url("/etcdserverpb.Lease/LeaseGrant"), grant)()
    trio.run(fill, target.url(""), b"/leased/", leased, _LEASE_ID)
    revoke = rpc.LeaseRevokeRequest(ID=_LEASE_ID).SerializeToString()
    path = target.url("/etcdserverpb.Lease/LeaseRevoke")
    stalled = trio.run(_beside, target.url(""), large_request(path, revoke))
    yield f"longest put while a lease of {leased:,} keys ends", "ms", stalled * 1e3
    delete = rpc.DeleteRangeRequest(key=prefix, range_end=prefix[:-1] + b"0").SerializeToString()
    path = target.url("/etcdserverpb.KV/DeleteRange")
    stalled = trio.run(_beside, target.url(""), large_request(path, delete))
    yield "longest put while all keys are deleted", "ms", stalled * 1e3


def large_request(path: str, message: bytes) -> Callable[[], object]:
    """How to send one request whose answer may be long."""
    body = grpc_frame(message)
    return lambda: run_h2load(
        path, body, Load(1, 1), 1, timeout_seconds=_PATIENCE_SECONDS, window_bits=_WINDOW_BITS
    )


def _read_json(target: Target, request: rpc.RangeRequest) -> None:
    body = {"key": base64.b64encode(request.key).decode(), "serializable": True}
    body["range_end"] = base64.b64encode(request.range_end).decode()
    connection = http.client.HTTPConnection("127.0.0.1", target.leader_port, timeout=300)
    try:
        connection.request("POST", "/v3/kv/range", json.dumps(body))
        response = connection.getresponse()
        while response.read(1 << 20):
            pass
    finally:
        connection.close()
