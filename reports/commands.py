"""``tercet trace``: verify, show, play and export recorded traces.

Several files are one trace, ordered by time: the members of a real cluster write one each. Exit codes are
those of all verdicts: 0 valid, 1 invalid, 2 unknown or not run.
"""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from tercet.core.trace import BadTrace, Trace, Verification, merge, read_trace, verify

from .trace_player import render_player
from .trace_still import render_still
from .trace_text_lines import lines_of

__all__ = ["trace"]

_EXIT_CODES = {"valid": 0, "invalid": 1, "unknown": 2}
_files = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")


@click.group("trace")
def trace() -> None:
    """Verify, show and play recorded traces.

    A trace is written by tercet sim run --trace FILE (all members in one), by an explored or kept run
    (--trace, too), and by a real member that was started with tercet --trace FILE. The files of several
    members are given together.
    """


def _read(files: tuple[Path, ...]) -> Trace:
    """All files as one trace; a clear message and exit code 2 when one cannot be read."""
    traces = []
    for file in files:
        try:
            traces.append(read_trace(file.read_bytes()))
        except (OSError, BadTrace) as problem:
            text = problem.strerror if isinstance(problem, OSError) else str(problem)
            click.echo(f"tercet trace: {file}: {text}", err=True)
            sys.exit(2)
    return merge(traces)


@trace.command("verify", short_help="Replay through the core, compare it all.")
@_files
@click.option("--json", "as_json", is_flag=True, help="One object instead of text.")
def verify_command(files: tuple[Path, ...], as_json: bool) -> None:
    """Replay a trace through the core and compare every effect and digest."""
    whole = _read(files)
    result = verify(whole.records, truncated=whole.truncated)
    click.echo(json.dumps(_row(whole, result)) if as_json else _report(whole, result))
    sys.exit(_EXIT_CODES[result.verdict])


def _row(whole: Trace, result: Verification) -> dict[str, object]:
    return {
        "verdict": result.verdict,
        "records": len(whole.records),
        "steps": result.steps,
        "skipped": result.skipped,
        "nodes": sorted(whole.name_of(node) for node in result.nodes),
        "seed": whole.header.seed,
        "truncated": result.truncated,
        "mismatches": [
            {
                "record": found.position, "node": whole.name_of(found.node), "sequence": found.sequence,
                "what": found.what, "text": found.text,
            }
            for found in result.mismatches
        ],
    }  # fmt: skip


def _report(whole: Trace, result: Verification) -> str:
    names = ", ".join(sorted(whole.name_of(node) for node in result.nodes))
    lines = [
        f"{result.verdict}: {len(whole.records)} records of {len(result.nodes)} nodes ({names}), "
        f"{result.steps} steps repeated with equal effects and digests"
    ]
    if result.skipped:
        lines.append(f"{result.skipped} steps skipped: their node had no start, or had already disagreed")
    if result.truncated:
        lines.append("the file ends inside a record, as a killed member leaves it")
    for found in result.mismatches:
        lines.append(
            f"mismatch at record {found.position}, {whole.name_of(found.node)} step {found.sequence}: "
            f"{found.what}: {found.text}"
        )
    return "\n".join(lines)


@trace.command("show", short_help="Print what happened in words.")
@_files
@click.option("--node", "names", multiple=True, help="Only this member; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Quiet steps, too: ticks and heartbeats.")
@click.option("--from", "first", type=click.IntRange(min=0), default=0, help="First record, from 0.")
@click.option("--count", type=click.IntRange(min=1), help="At most so many lines.")
def show(
    files: tuple[Path, ...], names: tuple[str, ...], everything: bool, first: int, count: int | None
) -> None:
    """Print what happened, one step a line, in words."""
    for number, line in enumerate(lines_of(_read(files), names=names, everything=everything, first=first)):
        if number == count:
            break
        click.echo(line)


@trace.command("export", short_help="Write the player as HTML, or a picture.")
@_files
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: the file's name and .html.")
@click.option("--title", default="", help="The page's heading.")
@click.option("--svg", is_flag=True, help="A still picture instead of the player.")
@click.option("--at", type=click.IntRange(min=0), help="With --svg: the record in the middle.")
def export(files: tuple[Path, ...], output: Path | None, title: str, svg: bool, at: int | None) -> None:
    """Write the player as one self-contained HTML file, or a still picture as SVG."""
    whole = _read(files)
    target = output or files[0].with_suffix(".svg" if svg else ".html")
    text = render_still(whole, at, title=title) if svg else render_player(whole, title=title)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as problem:
        click.echo(f"tercet trace: {target}: {problem.strerror}", err=True)
        sys.exit(2)
    click.echo(str(target))


@trace.command("play", short_help="Open the player in the browser.")
@_files
def play(files: tuple[Path, ...]) -> None:
    """Open the player in the browser."""
    page = render_player(_read(files))
    with NamedTemporaryFile(suffix=".html", prefix="tercet-trace-", delete=False) as file:
        file.write(page.encode())
    click.echo(file.name)
    if not webbrowser.open(Path(file.name).as_uri()):
        click.echo("no browser found: open the file above in one", err=True)
