"""The interleaved comparison: every load on one target, then at once on the other, several rounds.

Every other round runs the targets in the opposite order, since the second one finds a warmer machine.

This machine is shared and noisy, so only ratios taken in the same minute are worth keeping: a row's ratio is
the median over the rounds of (this target's throughput / the reference's throughput).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tercet.core.wire.proto import rpc_pb2 as rpc

from .load import Load, LoadFailed, Measurement, run_h2load
from .payloads import OPERATIONS, Operation, grpc_frame
from .targets import Target

__all__ = ["Row", "compare"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result. ``ratio``: throughput over the reference's; None for the reference itself.
    ``cpu_us`` counts all members."""

    target: str
    members: int
    load: str
    operation: str
    throughput: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    ratio: float | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Sample:
    measured: Measurement
    cpu_us: float


#: By target, load and operation: one sample a round.
_Samples: TypeAlias = dict[tuple[str, Load, str], list[_Sample]]


def _requests(seconds: float, load: Load, operation: Operation, speed: float) -> int:
    """How many requests take about ``seconds`` at ``speed`` a second, within bounds."""
    parallel = load.connections * load.streams
    return max(parallel * 4, min(int(seconds * speed * operation.weight), 2_000_000))


def _measure(target: Target, operation: Operation, load: Load, requests: int) -> _Sample:
    before, cpu = target.revision(), target.cpu_seconds()
    measured = run_h2load(target.url(operation.path), operation.body, load, requests)
    cpu = target.cpu_seconds() - cpu
    written = target.revision() - before
    if operation.writes and written != requests:
        raise LoadFailed(f"{target.name}: {requests} puts were answered but the revision moved by {written}")
    return _Sample(measured, cpu / requests * 1e6)


def _seed(target: Target) -> None:
    """Give the reads something to read."""
    put = next(o for o in OPERATIONS if o.writes)
    assert put.body == grpc_frame(rpc.PutRequest.FromString(put.body[5:]).SerializeToString())
    run_h2load(target.url(put.path), put.body, Load(1, 1), 1)


#: Requests a second to size the runs with; only the length of a run depends on it.
_GUESS = {Load(1, 1): 2_500.0}


def compare(
    names: Sequence[str],
    members: Sequence[int],
    loads: Sequence[Load],
    *,
    seconds: float,
    rounds: int,
    progress: Callable[[str], None],
) -> Iterator[Row]:
    """Measure every target, the last of ``names`` being the reference; yields rows by members and load.

    Raises:
        LoadFailed, TargetFailed: a server or the generator failed; everything started is stopped.
    """
    for count in members:
        samples: _Samples = {}
        for number in range(rounds):
            for load in loads:
                order = names if number % 2 == 0 else names[::-1]
                _round(order, count, load, seconds, samples, partial(_tell, progress, number + 1))
        yield from _rows(names, count, loads, samples)


def _tell(progress: Callable[[str], None], number: int, text: str) -> None:
    progress(f"round {number}: {text}")


def _round(
    names: Sequence[str],
    count: int,
    load: Load,
    seconds: float,
    samples: _Samples,
    progress: Callable[[str], None],
) -> None:
    """Start fresh clusters of every target and run every operation on each in turn."""
    with tempfile.TemporaryDirectory(prefix="tercet-bench-", dir=".") as folder, ExitStack() as stack:
        targets = [stack.enter_context(Target(name, count, Path(folder).resolve())) for name in names]
        for target in targets:
            _seed(target)
        requests = {o.name: _requests(seconds, load, o, _GUESS.get(load, 20_000.0)) for o in OPERATIONS}
        for operation in OPERATIONS:
            for target in targets:
                progress(f"{count} member(s), {load}, {operation.name}, {target.name}")
                sample = _measure(target, operation, load, requests[operation.name])
                samples.setdefault((target.name, load, operation.name), []).append(sample)


def _rows(names: Sequence[str], count: int, loads: Sequence[Load], samples: _Samples) -> Iterator[Row]:
    reference = names[-1]
    for load in loads:
        for operation in OPERATIONS:
            base = samples[reference, load, operation.name]
            for name in names:
                mine = samples[name, load, operation.name]
                pairs = zip(mine, base, strict=True)
                ratios = [a.measured.throughput / b.measured.throughput for a, b in pairs]
                yield Row(
                    target=name,
                    members=count,
                    load=str(load),
                    operation=operation.name,
                    throughput=round(statistics.median(s.measured.throughput for s in mine), 1),
                    p50_ms=round(statistics.median(s.measured.p50_ms for s in mine), 3),
                    p99_ms=round(statistics.median(s.measured.p99_ms for s in mine), 3),
                    cpu_us=round(statistics.median(s.cpu_us for s in mine), 1),
                    ratio=None if name == reference else round(statistics.median(ratios), 2),
                )
