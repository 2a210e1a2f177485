"""The command ``tercet sim run``; ``tercet sim explore`` is added to the same group from above.

What clients do, how their history is checked and which bugs can be planted belongs to the layer above; it
comes in as a ``Harness``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import SystemRandom
from typing import Any, Protocol

import click
import msgspec

from .faults import Schedule, describe_schedule, kinds_named
from .run import Experiment, Result, run_simulation

__all__ = ["Harness", "RunRow", "make_sim_group", "parse_seeds"]

_EXIT = {"valid": 0, "invalid": 1, "unknown": 2}


class Harness(Protocol):
    """What ``sim run`` needs from above."""

    @property
    def workloads(self) -> tuple[str, ...]:
        """Names for ``--workload``; the first is the default."""

    def experiment(self, workload: str, seed: int) -> Experiment:
        """A new experiment for one run."""

    def judge(self, experiment: Experiment) -> tuple[str, str]:
        """The history's verdict (valid, invalid or unknown) and the reason in words, after the run."""

    def mutation(self, name: str) -> AbstractContextManager[None]:
        """Plants a bug for the body. Raises ``ValueError`` for an unknown name."""


class RunRow(msgspec.Struct, kw_only=True):
    """One line of ``--json``."""

    seed: int
    digest: str
    verdict: str
    reason: str
    nodes: int
    virtual_seconds: float
    cpu_seconds: float
    faults_fired: dict[str, int]
    operations: int
    events: int
    problems: list[str]


def make_sim_group(harness: Harness) -> click.Group:
    """The group ``sim`` with ``run``; further commands may be added to it."""

    @click.group("sim", help="A whole cluster in a simulated world: one integer reproduces a run.")
    def sim() -> None: ...

    @sim.command("run")
    @click.option("--nodes", type=click.IntRange(1, 9), default=3, show_default=True)
    @click.option("--clients", type=click.IntRange(1, 64), default=5, show_default=True)
    @click.option("--seconds", type=click.FloatRange(min=0.1), default=15.0, show_default=True,
                  help="Virtual length of the fault phase.")  # fmt: skip
    @click.option("--seed", type=int, help="Default: drawn, and printed.")
    @click.option("--seeds", help="A range N..M, both ends included.")
    @click.option("--faults", default="all", show_default=True,
                  help="all, none, or kinds and families with commas; '?' lists them.")  # fmt: skip
    @click.option("--schedule", "schedule_file", type=click.Path(path_type=Path, exists=True),
                  help="JSON of the faults instead of drawing them.")  # fmt: skip
    @click.option("--workload", type=click.Choice(harness.workloads), default=harness.workloads[0],
                  show_default=True, help="What the clients do.")  # fmt: skip
    @click.option("--mutation", help="Plant a bug of the zoo, e.g. B4; '?' lists them.")
    @click.option("--trace", type=click.Path(path_type=Path), help="Record a trace of the one seed.")
    @click.option("--json", "as_json", is_flag=True, help="One object a line.")
    def run(
        nodes: int,
        clients: int,
        seconds: float,
        seed: int | None,
        seeds: str | None,
        faults: str,
        schedule_file: Path | None,
        workload: str,
        mutation: str | None,
        trace: Path | None,
        as_json: bool,
    ) -> None:
        """Simulate a cluster for each seed, and check its history; the same seed is always the same run.

        Exit code 0: all valid; 1: one invalid; 2: one unknown.
        """
        chosen = _seeds(seed, seeds)
        if trace is not None and len(chosen) != 1:
            raise click.UsageError("--trace records one seed")
        try:
            kinds = kinds_named(faults)
            planted: AbstractContextManager[None] = harness.mutation(mutation) if mutation else nullcontext()
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        with planted:
            worst = _simulate(
                harness, workload, chosen, trace, as_json, nodes=nodes, seconds=seconds, clients=clients,
                kinds=kinds, schedule=_read_schedule(schedule_file),
            )  # fmt: skip
        sys.exit(worst)

    return sim


def _simulate(
    harness: Harness, workload: str, seeds: Sequence[int], trace: Path | None, as_json: bool, **options: Any
) -> int:
    """Run and print each seed; the exit code of the worst. ``options`` are those of ``run_simulation``."""
    worst = 0
    for number, seed in enumerate(seeds):
        _progress(number, len(seeds), seed)
        parts: list[bytes] = []
        experiment = harness.experiment(workload, seed)
        recorder = None if trace is None else parts.append
        result = run_simulation(seed, experiment, trace=recorder, **options)
        row = _row(result, *harness.judge(experiment))
        if trace is not None:
            trace.write_bytes(b"".join(parts))
        _progress(None, len(seeds), seed)
        _print(row, result, as_json)
        worst = max(worst, _EXIT[row.verdict], key=(0, 2, 1).index)
    return worst


def parse_seeds(text: str) -> range:
    """``N..M`` with both ends, or one number. Raises ``ValueError``."""
    first, dots, last = text.partition("..")
    found = range(int(first), int(last if dots else first) + 1)
    if not found:
        raise ValueError(f"need N <= M, got {text}")
    return found


def _seeds(seed: int | None, seeds: str | None) -> range:
    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed or --seeds")
    if seeds is not None:
        try:
            return parse_seeds(seeds)
        except ValueError as error:
            raise click.UsageError(f"--seeds: {error}") from error
    chosen = SystemRandom().getrandbits(32) if seed is None else seed
    return range(chosen, chosen + 1)


def _read_schedule(path: Path | None) -> Schedule | None:
    if path is None:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Schedule)
    except msgspec.DecodeError as error:
        raise click.UsageError(f"{path} is not a schedule: {error}") from error


def _row(result: Result, verdict: str, reason: str) -> RunRow:
    if result.problems:
        verdict, reason = "invalid", "; ".join(result.problems)
    return RunRow(
        seed=result.seed,
        digest=result.digest,
        verdict=verdict,
        reason=reason,
        nodes=result.nodes,
        virtual_seconds=round(result.virtual_seconds, 3),
        cpu_seconds=round(result.cpu_seconds, 3),
        faults_fired=result.faults_fired,
        operations=result.operations,
        events=result.events,
        problems=result.problems,
    )


def _progress(number: int | None, total: int, seed: int) -> None:
    """One line on a terminal, overwritten by the next; ``number`` None wipes it."""
    if total > 1 and sys.stderr.isatty():
        text = "" if number is None else f"seed {seed}, {number} of {total} done"
        click.echo(f"\r{text:<60}\r", nl=False, err=True)


def _print(row: RunRow, result: Result, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(row).decode())
        return
    fired = ", ".join(f"{kind} {count}" for kind, count in row.faults_fired.items()) or "none"
    click.echo(
        f"seed {row.seed}  {row.verdict}  digest {row.digest}  {row.operations} operations, "
        f"{row.virtual_seconds:.1f} virtual s in {row.cpu_seconds:.2f} CPU s  faults: {fired}"
    )
    if row.verdict != "valid":
        _explain(row.reason, describe_schedule(result.schedule))


def _explain(reason: str, schedule: Iterable[str]) -> None:
    click.echo(f"  {reason}")
    for line in schedule:
        click.echo(f"    {line}")
