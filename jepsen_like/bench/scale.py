"""Many keys and many revisions: how a server starts, what it takes, and how long it stalls.

One member of each target gets the same keys, one after the other: it is filled by transactions, its memory
is read, everything is read at once, it is stopped and started, and memory is read again. Then it takes as
many puts of one key and is told to compact them, while one client puts on and notes how long each put takes:
the longest is the stall that a user would see; so it is beside other large requests (``stalls``). Watchers
and leases (``crowds``) have members of their own. A ratio is the reference's figure over ours.

Seconds of the clock depend on what else the machine does; the CPU time of the server does so less, and is
shown beside them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from tercet.core.wire.proto import rpc_pb2 as rpc

from .crowds import Figure, lease_figures, watcher_figures
from .load import Load, run_h2load
from .payloads import VALUE_BYTES, grpc_frame
from .stalls import deletion_figures, fill, large_request, longest_put, reading_figures, scale_client
from .targets import Target

__all__ = ["ScaleRow", "measure_scale"]

_PREFIX = b"/scale/"
_LEASED = 100_000  # keys on one lease
_STALL_SECONDS = 15.0  # for so long a client puts on after the compaction was asked for
_RESTART_SECONDS = 120.0
_PATIENCE_SECONDS = 1_800.0  # on a machine that is busy with other things


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
        what = f"filling {keys:,} keys of {VALUE_BYTES} bytes"
        yield from _timed(target, what, lambda: trio.run(fill, target.url(""), _PREFIX, keys))
        yield "memory after filling", "MB", target.memory_bytes() / 1e6
        progress(f"{name}: reading everything")
        request = rpc.RangeRequest(key=_PREFIX, range_end=_PREFIX[:-1] + b"0", serializable=True)
        body, path = request.SerializeToString(), target.url("/etcdserverpb.KV/Range")
        what = f"a range over {keys:,} keys"
        yield from _timed(target, what, large_request(path, body))
        progress(f"{name}: putting beside large reads")
        yield from reading_figures(target, _PREFIX)
        progress(f"{name}: restarting")
        began = time.monotonic()
        target.restart(_RESTART_SECONDS)
        yield "restart, until healthy (stopping counted)", "s", time.monotonic() - began
        yield "restart, CPU", "s", target.cpu_seconds()
        yield "memory after the restart", "MB", target.memory_bytes() / 1e6
        progress(f"{name}: putting {keys:,} revisions")
        put = grpc_frame(rpc.PutRequest(key=_PREFIX + b"hot", value=b"v" * VALUE_BYTES).SerializeToString())
        path = target.url("/etcdserverpb.KV/Put")
        run_h2load(path, put, Load(16, 16), keys, timeout_seconds=_PATIENCE_SECONDS)
        progress(f"{name}: compacting")
        quiet, stalled = trio.run(_compact, target.url(""))
        yield "longest put before the compaction", "ms", quiet * 1e3
        yield f"longest put while {keys:,} revisions are compacted", "ms", stalled * 1e3
        yield "memory after the compaction", "MB", target.memory_bytes() / 1e6
        progress(f"{name}: deleting")
        yield from deletion_figures(target, _PREFIX, min(keys, _LEASED))


def _timed(target: Target, what: str, work: Callable[[], object]) -> Iterator[Figure]:
    """How long ``work`` takes, and how much of it the server computes."""
    began, cpu = time.monotonic(), target.cpu_seconds()
    work()
    yield what, "s", time.monotonic() - began
    yield f"{what}, CPU", "s", target.cpu_seconds() - cpu


async def _compact(endpoint: str) -> tuple[float, float]:
    """The longest put of a client before, and one while everything old is compacted, in seconds."""
    async with scale_client(endpoint) as client:
        before = await longest_put(client, 5.0)
        revision = (await client.get(_PREFIX + b"hot")).header.revision
        await client.compact(revision, timeout=60.0)
        after = await longest_put(client, _STALL_SECONDS)
    return before, after
