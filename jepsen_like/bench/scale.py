"""Many keys and many revisions: how a server starts, what it takes, and how long it stalls.

One member of each target gets the same keys, one after the other: it is filled by transactions, its memory
is read, everything is read at once, it is stopped and started, and memory is read again. Then it takes as
many puts of one key and is told to compact them, while one client puts on and notes how long each put takes:
the longest is the stall that a user would see. Another client puts on while everything is read and while the
history is hashed. Watchers and leases (``crowds``) have members of their own. A ratio is the reference's
figure over ours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client, open_client
from tercet.net.client.values import Put
from tercet.net.real import real_world

from .crowds import Figure, lease_figures, watcher_figures
from .load import Load, run_h2load
from .payloads import VALUE_BYTES, grpc_frame
from .targets import Target

__all__ = ["ScaleRow", "measure_scale"]

_PREFIX = b"/scale/"
_IN_ONE = 100  # puts in a transaction while filling
_FILLERS = 8
_STALL_SECONDS = 15.0  # for so long a client puts on after the compaction was asked for
_RESTART_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """One figure for all targets, in the order in which they were given."""

    what: str
    unit: str
    figures: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """The reference's figure over ours; above 1 we are better. None: nothing to compare with."""
        return self.figures[1] / self.figures[0] if len(self.figures) > 1 and self.figures[0] else None

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio}


def measure_scale(
    targets: tuple[str, ...], keys: int, watchers: int, leases: int, progress: Callable[[str], None]
) -> Iterator[ScaleRow]:
    """Measure every target with so many keys, then watchers, then leases; yield the figures side by side.

    A part that is asked for with 0 is left out.

    Raises:
        TargetFailed, LoadFailed: a server died, or a request failed.
    """
    for measure, count in ((_figures, keys), (watcher_figures, watchers), (lease_figures, leases)):
        columns = []
        for name in targets:
            with tempfile.TemporaryDirectory(prefix="tercet-scale-", dir=".") as folder:
                columns.append(list(measure(name, count, Path(folder).resolve(), progress)) if count else [])
        for rows in zip(*columns, strict=True):
            yield ScaleRow(rows[0][0], rows[0][1], tuple(round(row[2], 3) for row in rows))


def _figures(name: str, keys: int, folder: Path, progress: Callable[[str], None]) -> Iterator[Figure]:
    with Target(name, 1, folder) as target:
        progress(f"{name}: filling {keys:,} keys")
        began = time.monotonic()
        trio.run(_fill, target.url(""), keys)
        yield f"filling {keys:,} keys of {VALUE_BYTES} bytes", "s", time.monotonic() - began
        yield "memory after filling", "MB", target.memory_bytes() / 1e6
        progress(f"{name}: reading everything")
        request = rpc.RangeRequest(key=_PREFIX, range_end=_PREFIX[:-1] + b"0", serializable=True)
        body = grpc_frame(request.SerializeToString())
        path = target.url("/etcdserverpb.KV/Range")
        whole = run_h2load(path, body, Load(1, 1), 1, window_bits=30)
        yield f"a range over {keys:,} keys", "s", whole.seconds
        stalled = trio.run(_beside, target.url(""), lambda: run_h2load(path, body, Load(1, 1), 1))
        yield "longest put while all keys are read", "ms", stalled * 1e3
        path, body = target.url("/etcdserverpb.Maintenance/HashKV"), grpc_frame(b"")
        stalled = trio.run(_beside, target.url(""), lambda: run_h2load(path, body, Load(1, 1), 1))
        yield "longest put while all keys are hashed", "ms", stalled * 1e3
        progress(f"{name}: restarting")
        began = time.monotonic()
        target.restart(_RESTART_SECONDS)
        yield "restart, until healthy (stopping counted)", "s", time.monotonic() - began
        yield "memory after the restart", "MB", target.memory_bytes() / 1e6
        progress(f"{name}: putting {keys:,} revisions")
        put = grpc_frame(rpc.PutRequest(key=_PREFIX + b"hot", value=b"v" * VALUE_BYTES).SerializeToString())
        run_h2load(target.url("/etcdserverpb.KV/Put"), put, Load(16, 16), keys)
        progress(f"{name}: compacting")
        quiet, stalled = trio.run(_compact, target.url(""))
        yield "longest put before the compaction", "ms", quiet * 1e3
        yield f"longest put while {keys:,} revisions are compacted", "ms", stalled * 1e3
        yield "memory after the compaction", "MB", target.memory_bytes() / 1e6


async def _fill(endpoint: str, keys: int) -> None:
    value = b"v" * VALUE_BYTES

    async def fill(client: Client, first: int) -> None:
        for start in range(first * _IN_ONE, keys, _FILLERS * _IN_ONE):
            numbers = range(start, min(start + _IN_ONE, keys))
            await client.txn(success=[Put(_PREFIX + b"%09d" % number, value) for number in numbers])

    world = real_world("scale", log_level="fatal", environment={})
    async with open_client(world, [endpoint], request_timeout=60.0) as client, trio.open_nursery() as nursery:
        for first in range(_FILLERS):
            nursery.start_soon(fill, client, first)


async def _compact(endpoint: str) -> tuple[float, float]:
    """The longest put of a client before, and one while everything old is compacted, in seconds."""
    world = real_world("scale", log_level="fatal", environment={})
    async with open_client(world, [endpoint], request_timeout=60.0) as client:
        before = await _longest_put(client, 5.0)
        revision = (await client.get(_PREFIX + b"hot")).header.revision
        await client.compact(revision, timeout=60.0)
        after = await _longest_put(client, _STALL_SECONDS)
    return before, after


async def _beside(endpoint: str, work: Callable[[], object]) -> float:
    """The longest put of a client while ``work`` runs in a thread, in seconds."""
    world = real_world("scale", log_level="fatal", environment={})
    longest = 0.0
    async with open_client(world, [endpoint], request_timeout=60.0) as client, trio.open_nursery() as nursery:
        await client.put(_PREFIX + b"beside", b"")  # connected
        done = trio.Event()

        async def run() -> None:
            await trio.to_thread.run_sync(work)
            done.set()

        nursery.start_soon(run)
        while not done.is_set():
            longest = max(longest, await _longest_put(client, 0.05))
    return longest


async def _longest_put(client: Client, seconds: float) -> float:
    longest, end = 0.0, trio.current_time() + seconds
    while trio.current_time() < end:
        began = trio.current_time()
        await client.put(_PREFIX + b"beside", b"v" * VALUE_BYTES)
        longest = max(longest, trio.current_time() - began)
    return longest
