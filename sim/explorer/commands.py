"""``tercet sim explore``: look for a schedule that breaks the core, shrink it, say how to see it again."""

from __future__ import annotations

import base64
import binascii
import random
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec

from .exhaustive.report import EXIT_CODES, changes_of, search_scope
from .exhaustive.scope import Scope
from .many import explore_in_processes
from .random import Exploration, Outcome, replay
from .schedule import Schedule, describe
from .shrink import shrink
from .tracing import trace_schedule

__all__ = ["explore_command", "schedule_from_text", "schedule_to_text"]

_COUNT = click.IntRange(0, 15)
Planter = Callable[[str], AbstractContextManager[None]]


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


def _scope_options(command: Callable[..., object]) -> Callable[..., object]:
    """The options of an exhaustive search."""
    counts = {
        "crashes": "Crashes, each with a restart.",
        "duplicates": "Messages that arrive twice (see also --lasting).",
        "beats": "Heartbeats.",
        "reads": "Reads.",
        "slow-writes": "Writes during which other things happen.",
        "stalls": "Times that a state machine stands still.",
        "transfers": "Transfers of leadership.",
    }
    options = [
        click.option("--terms", type=click.IntRange(1, 15), default=2, show_default=True,
                     help="With --exhaustive: nobody campaigns beyond this term."),
        click.option("--entries", type=click.IntRange(0, 15), default=2, show_default=True,
                     help="With --exhaustive: proposals. Messages are lost, late and reordered at will."),
        *[
            click.option(f"--{name}", type=_COUNT, default=0, help=f"With --exhaustive: {text}")
            for name, text in counts.items()
        ],
        click.option("--lasting", is_flag=True,
                     help="With --exhaustive: every message may arrive any number of times, at any time."),
        click.option("--change", multiple=True, metavar="CHANGE",
                     help="With --exhaustive: a configuration change, e.g. 'add 4' or 'remove 1, add 4'."),
        click.option("--memory-mb", type=click.IntRange(min=64), default=8192, show_default=True,
                     help="With --exhaustive: give up beyond this."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def explore_command(plant: Planter) -> click.Command:
    """The command; ``plant(name)`` puts a planted bug in place (ValueError: no such bug)."""

    @click.command("explore", short_help="Search schedules of the pure core for a broken invariant.")
    @click.option("--random", "_random", is_flag=True, help="Random schedules (the default).")
    @click.option("--exhaustive", is_flag=True, help="Every interleaving of a small scope.")
    @click.option("--nodes", type=click.IntRange(1, 9), help="[default: 5, or 3 with --exhaustive]")
    @_scope_options
    @click.option("--schedules", type=click.IntRange(min=1), help="How many at most [default: 1000].")
    @click.option("--seconds", type=click.FloatRange(min=0.1), default=8.0, show_default=True,
                  help="Virtual time with faults in each schedule.")
    @click.option("--minutes", type=click.FloatRange(min=0.0), help="CPU time at most.")
    @click.option("--seed", type=int, help="The first seed; one is picked and printed if not given.")
    @click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True,
                  help="Processes, at random; the result does not depend on it.")
    @click.option("--mutation", metavar="NAME", help="Plant a bug, e.g. B4.")
    @click.option("--consequences", is_flag=True,
                  help="Do not compare promises with the disk when they are sent; wait for what follows.")
    @click.option("--replay", "token", metavar="SCHEDULE", help="Run one schedule, as printed by a failure.")
    @click.option("--trace", "trace_file", type=click.Path(dir_okay=False), metavar="FILE",
                  help="Write the failing (or replayed) schedule's run as a trace for 'tercet trace'.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def command(
        _random: bool, exhaustive: bool, nodes: int | None, schedules: int | None, seconds: float,
        minutes: float | None,
        seed: int | None, jobs: int, mutation: str | None, consequences: bool, token: str | None,
        trace_file: str | None, as_json: bool, terms: int, entries: int, change: tuple[str, ...],
        memory_mb: int, **budgets: Any,
    ) -> None:
        """Search schedules of the pure core: the properties of Raft after every step.

        At random: long schedules with every kind of fault, and at the end a majority must get on by itself.
        Exhaustively: every order of deliveries, losses and timeouts within --terms and --entries, with so
        many --crashes, --duplicates and so on; the shortest run to a violation is told.

        Exit code 0: all valid; 1: a violation was found; 2: not run, or a limit was hit.
        """
        try:
            planted = plant(mutation) if mutation else nullcontext()
            schedule = schedule_from_text(token) if token else None
            scope = None
            if exhaustive:
                changes = tuple([changes_of(text) for text in change])
                size = nodes or 3
                joining = max([0, *[node - size for each in changes for _, node in each]])
                scope = Scope(
                    nodes=size, joining=joining, terms=terms, entries=entries, changes=changes,
                    strict=not consequences, **budgets,
                )
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        if scope is not None:
            planted_name = f" --mutation {mutation}" if mutation else ""
            with planted:
                verdict = search_scope(
                    scope, memory_mb=memory_mb, minutes=minutes, trace=trace_file, as_json=as_json,
                    again=f"tercet sim explore --exhaustive{planted_name} ({scope})",
                )
            sys.exit(EXIT_CODES[verdict])
        nodes = nodes or 5
        with planted:
            if schedule is not None:
                _write_trace(schedule, mutation, trace_file)
                sys.exit(_replay(schedule, mutation, as_json))
            if seed is None:
                seed = random.SystemRandom().randrange(1 << 32)
            if not as_json:
                click.echo(f"seed {seed}", err=True)
            if schedules is None and minutes is None:
                schedules = 1000
            found = explore_in_processes(
                jobs, first_seed=seed, schedules=schedules, nodes=nodes, seconds=seconds,
                cpu_seconds=None if minutes is None else minutes * 60.0, strict=not consequences,
                progress=None if as_json else _progress,
            )
            short = None if found.failure is None else shrink(found.failure)
            if short is not None:
                _write_trace(short.schedule, mutation, trace_file)
        _report(found, short, mutation, as_json)
        sys.exit(0 if found.failure is None else 1)

    return command


def _write_trace(schedule: Schedule, mutation: str | None, path: str | None) -> None:
    if path is None:
        return
    _, data = trace_schedule(schedule, _again(schedule, mutation))
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise click.FileError(path, str(error)) from error


def _progress(done: int, used: float) -> None:
    click.echo(f"\r{done} schedules, {done / max(used, 1e-9):.0f} a CPU second", nl=False, err=True)


def _again(schedule: Schedule, mutation: str | None) -> str:
    planted = f"--mutation {mutation} " if mutation else ""
    return f"tercet sim explore {planted}--replay {schedule_to_text(schedule)}"


def _report(found: Exploration, short: Outcome | None, mutation: str | None, as_json: bool) -> None:
    if as_json:
        click.echo(
            msgspec.json.encode(
                {
                    "schedules": found.schedules,
                    "seed": found.first_seed,
                    "cpu_seconds": round(found.cpu_seconds, 3),
                    "virtual_seconds": round(found.virtual_seconds, 3),
                    "steps": found.steps,
                    "digest": found.digest,
                    "mutation": mutation,
                    "verdict": "valid" if short is None else "invalid",
                    "failing_seed": None if short is None else short.seed,
                    "violation": None if short is None else f"{short.rule}: {short.text}",
                    "trace": None if short is None else [describe(act) for act in short.schedule.deviations],
                    "replay": None if short is None else _again(short.schedule, mutation),
                }
            ).decode()
        )
        return
    speed = found.schedules / max(found.cpu_seconds, 1e-9)
    click.echo(
        f"\r{found.schedules} schedules, {found.virtual_seconds:.0f} virtual seconds in "
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
    click.echo(f"see it again: {_again(short.schedule, mutation)}")


def _replay(schedule: Schedule, mutation: str | None, as_json: bool) -> int:
    outcome = replay(schedule)
    verdict = "valid" if outcome.valid else "invalid"
    if as_json:
        click.echo(
            msgspec.json.encode(
                {
                    "seed": outcome.seed,
                    "schedules": 1,
                    "digest": outcome.digest,
                    "mutation": mutation,
                    "verdict": verdict,
                    "violation": f"{outcome.rule}: {outcome.text}" if outcome.rule else None,
                    "trace": [describe(each) for each in schedule.deviations],
                }
            ).decode()
        )
    else:
        for deviation in schedule.deviations:
            click.echo(f"  {describe(deviation)}")
        click.echo(f"{verdict}, digest {outcome.digest}")
        if not outcome.valid:
            click.echo(f"  {outcome.rule}: {outcome.text}")
    return 0 if outcome.valid else 1
