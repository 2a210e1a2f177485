"""The command ``tercet check``; it loads neither the simulator nor the members."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from .checkers.verdict import EXIT_CODES, Limits, Verdict, worst
from .checking import MODEL_NAMES, check_history
from .picture import draw
from .readers import FORMATS, read_history

__all__ = ["check"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``tercet check --json``."""

    history: str
    verdict: Verdict
    cpu_seconds: float


@click.command("check")
@click.argument("histories", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="HISTORY...")
@click.option(
    "--model", type=click.Choice(MODEL_NAMES), help="Default: what the file says or its format implies."
)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Default: by the first line.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Limit for each history."
)
@click.option(
    "--states",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Limit of remembered configurations (150-250 bytes each).",
)
@click.option("--core/--no-core", default=True, show_default=True, help="Look for the smallest failing core.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def check(
    histories: tuple[Path, ...],
    model: str | None,
    format_: str | None,
    seconds: float,
    states: int,
    core: bool,
    as_json: bool,
) -> None:
    """Check recorded histories: ours, Jepsen logs, EDN maps. A folder means all the files in it.

    Exit code 0 when all are valid, 1 when one is invalid, 2 when one is unknown or cannot be read.
    """
    limits = Limits(states=states, seconds=seconds, clock=time.monotonic)
    found: list[Verdict] = []
    for path in _files(histories):
        started = time.process_time()
        try:
            verdict = check_history(read_history(path.read_bytes(), format_), model, limits, core=core)
        except (OSError, ValueError) as error:
            verdict = Verdict(verdict="unknown", checker="reader", reason=str(error))
        found.append(verdict)
        spent = time.process_time() - started
        if as_json:
            row = Row(history=str(path), verdict=verdict, cpu_seconds=round(spent, 6))
            click.echo(msgspec.json.encode(row).decode())
        else:
            _print(path, verdict, spent)
    sys.exit(EXIT_CODES[worst(verdict.verdict for verdict in found)])


def _files(paths: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix in (".log", ".txt", ".edn", ".jsonl"))
        else:
            found.append(path)
    return found


def _print(path: Path, verdict: Verdict, spent: float) -> None:
    colour = {"valid": "green", "invalid": "red", "unknown": "yellow"}[verdict.verdict]
    size = f"{verdict.checked} of {verdict.total}" if verdict.verdict != "valid" else str(verdict.total)
    click.echo(
        f"{path}: {click.style(verdict.verdict, fg=colour)} ({verdict.checker}, {size} operations, "
        f"{spent * 1000:.1f} ms)"
    )
    if verdict.reason:
        click.echo(f"  {verdict.reason}")
    if verdict.core:
        click.echo(f"  smallest failing core, {len(verdict.core)} operations:")
        for line in draw(verdict.core):
            click.echo(f"    {line}")
