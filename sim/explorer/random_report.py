"""A random search for the command line: its progress, what it found, and the command that shows it again."""

from __future__ import annotations

import base64
import binascii
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .many import explore_in_processes
from .random import Exploration, Outcome, replay
from .schedule import Schedule, describe
from .shrink import shrink
from .tracing import trace_schedule

__all__ = ["Output", "replay_schedule", "schedule_from_text", "schedule_to_text", "search_at_random"]

_DEFAULT_SCHEDULES = 1000
_LINE_EVERY = 10_000  # schedules between two lines where there is no terminal


class Output(msgspec.Struct, frozen=True):
    """How to tell what was found."""

    mutation: str | None  # the planted bug, to be named in the command that shows a failure again
    trace: str | None  # the file for the trace
    as_json: bool


def schedule_to_text(schedule: Schedule) -> str:
    """A schedule as one word, fit for a command line."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(schedule)).decode().rstrip("=")


def schedule_from_text(text: str) -> Schedule:
    """The schedule of ``schedule_to_text``.

    Raises:
        ValueError: the text is not such a schedule.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(data, type=Schedule)
    except (binascii.Error, msgspec.DecodeError) as error:
        raise ValueError(f"not a schedule: {error}") from error


def search_at_random(
    output: Output, *, seed: int | None, schedules: int | None, minutes: float | None, nodes: int,
    seconds: float, strict: bool, jobs: int,
) -> int:
    """Explore, shrink what fails, and tell it.

    Args:
        seed: the first one; None: pick one.
        schedules: how many at most; None: a thousand, or no limit when ``minutes`` is given.
        minutes: of CPU time at most; None: no limit.

    Returns:
        The exit code: 0 all valid, 1 a violation.
    """
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    if not output.as_json:
        click.echo(f"seed {seed}", err=True)
    if schedules is None and minutes is None:
        schedules = _DEFAULT_SCHEDULES
    with _progress(schedules, output.as_json) as progress:
        found = explore_in_processes(
            jobs, first_seed=seed, schedules=schedules, nodes=nodes, seconds=seconds,
            cpu_seconds=None if minutes is None else minutes * 60.0, strict=strict, progress=progress,
        )
    short = None if found.failure is None else shrink(found.failure)
    if short is not None:
        _write_trace(short.schedule, output)
    if output.as_json:
        click.echo(msgspec.json.encode(_as_dict(found, short, output)).decode())
    else:
        _tell(found, short, output)
    return 0 if short is None else 1


def replay_schedule(schedule: Schedule, output: Output) -> int:
    """Run one schedule and tell what comes of it; the exit code as for ``search_at_random``."""
    _write_trace(schedule, output)
    outcome = replay(schedule)
    verdict = "valid" if outcome.valid else "invalid"
    if output.as_json:
        row = {
            "seed": outcome.seed,
            "schedules": 1,
            "digest": outcome.digest,
            "mutation": output.mutation,
            "verdict": verdict,
            "violation": f"{outcome.rule}: {outcome.text}" if outcome.rule else None,
            "trace": [describe(each) for each in schedule.deviations],
        }
        click.echo(msgspec.json.encode(row).decode())
    else:
        for deviation in schedule.deviations:
            click.echo(f"  {describe(deviation)}")
        click.echo(f"{verdict}, digest {outcome.digest}")
        if not outcome.valid:
            click.echo(f"  {outcome.rule}: {outcome.text}")
    return 0 if outcome.valid else 1


def _write_trace(schedule: Schedule, output: Output) -> None:
    if output.trace is None:
        return
    _, data = trace_schedule(schedule, _again(schedule, output))
    try:
        Path(output.trace).write_bytes(data)
    except OSError as error:
        raise click.FileError(output.trace, str(error)) from error


def _again(schedule: Schedule, output: Output) -> str:
    planted = f"--mutation {output.mutation} " if output.mutation else ""
    return f"tercet sim explore {planted}--replay {schedule_to_text(schedule)}"


@contextmanager
def _progress(schedules: int | None, quiet: bool) -> Iterator[Callable[[int, float], None] | None]:
    """A bar on a terminal, else a line now and then; both on standard error."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield _line
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task("exploring", total=schedules)

            def tell(done: int, used: float) -> None:
                bars.update(task, completed=done, description=_speed(done, used))

            yield tell


def _line(done: int, used: float) -> None:
    if done % _LINE_EVERY == 0:
        click.echo(_speed(done, used), err=True)


def _speed(done: int, used: float) -> str:
    return f"{done} schedules, {done / max(used, 1e-9):.0f} a CPU second"


def _as_dict(found: Exploration, short: Outcome | None, output: Output) -> dict[str, object]:
    return {
        "schedules": found.schedules,
        "seed": found.first_seed,
        "cpu_seconds": round(found.cpu_seconds, 3),
        "virtual_seconds": round(found.virtual_seconds, 3),
        "steps": found.steps,
        "digest": found.digest,
        "mutation": output.mutation,
        "verdict": "valid" if short is None else "invalid",
        "failing_seed": None if short is None else short.seed,
        "violation": None if short is None else f"{short.rule}: {short.text}",
        "trace": None if short is None else [describe(act) for act in short.schedule.deviations],
        "replay": None if short is None else _again(short.schedule, output),
    }


def _tell(found: Exploration, short: Outcome | None, output: Output) -> None:
    speed = found.schedules / max(found.cpu_seconds, 1e-9)
    click.echo(
        f"{found.schedules} schedules, {found.virtual_seconds:.0f} virtual seconds in "
        f"{found.cpu_seconds:.1f} CPU seconds ({speed:.0f} schedules a second), digest {found.digest}"
    )
    if short is None:
        click.echo("valid")
        return
    assert found.failure is not None
    click.echo(f"invalid: seed {short.seed} breaks {short.rule}")
    click.echo(f"  {short.text}")
    before, after = len(found.failure.schedule.deviations), len(short.schedule.deviations)
    click.echo(f"shrunk from {before} deviations to {after}:")
    for deviation in short.schedule.deviations:
        click.echo(f"  {describe(deviation)}")
    click.echo(f"see it again: {_again(short.schedule, output)}")
