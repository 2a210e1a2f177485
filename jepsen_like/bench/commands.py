"""``tercet bench``: Tercet and etcd side by side, in one run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from .compare import Row, compare
from .load import Load, LoadFailed, parse_load
from .targets import COMMANDS, TargetFailed

__all__ = ["bench"]

_HISTORIES = Path("tests/jepsen_like/histories")


def _loads(_: click.Context, __: click.Parameter, value: str) -> list[Load]:
    try:
        return [parse_load(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _members(_: click.Context, __: click.Parameter, value: str) -> list[int]:
    try:
        counts = [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"numbers separated by commas, such as 1,3; got {value!r}") from None
    if not all(1 <= count <= 7 for count in counts):
        raise click.BadParameter(f"1 to 7 members, got {value!r}")
    return counts


@click.command()
@click.option("--members", default="1,3", callback=_members, show_default=True, help="Cluster sizes.")
@click.option("--load", "loads", default="1x1,16x16,100x10", callback=_loads, show_default=True,
              help="CONNECTIONSxSTREAMS, several with commas.")  # fmt: skip
@click.option("--against", default="etcd", show_default=True,
              help="The reference: etcd, or a command line that takes etcd's flags.")  # fmt: skip
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.1, 60),
              help="Rough length of one measurement.")  # fmt: skip
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20),
              help="Interleaved rounds; the median counts.")  # fmt: skip
@click.option("--self", "own", is_flag=True,
              help="Measure the simulator, the explorer and the checkers instead.")  # fmt: skip
@click.option("--scale", is_flag=True, help="Measure many keys, revisions, watchers and leases instead.")
@click.option("--keys", default=1_000_000, show_default=True, type=click.IntRange(0, 10_000_000),
              help="How many, for --scale; as many revisions are compacted.")  # fmt: skip
@click.option("--watchers", default=10_000, show_default=True, type=click.IntRange(0, 1_000_000),
              help="Of one prefix, for --scale; 0: leave them out.")  # fmt: skip
@click.option("--leases", default=100_000, show_default=True, type=click.IntRange(0, 10_000_000),
              help="How many, for --scale; 0: leave them out.")  # fmt: skip
@click.option("--histories", type=click.Path(path_type=Path, file_okay=False), default=_HISTORIES,
              show_default=True, help="Recorded histories for --self.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def bench(
    members: list[int],
    loads: list[Load],
    against: str,
    seconds: float,
    rounds: int,
    own: bool,
    scale: bool,
    keys: int,
    watchers: int,
    leases: int,
    histories: Path,
    as_json: bool,
) -> None:
    """Measure Put and Range, linearizable and serializable, with real protobuf payloads from h2load.

    Both targets sync every write to the same disk (the present folder's). Requests go to the leader. The
    exit status is 2 when something needed is missing or a server failed.
    """
    if own:
        _measure_ourselves(histories if histories.is_dir() else None, as_json)
        return
    if shutil.which(COMMANDS.get(against, (against.split()[0],))[0]) is None:
        raise _NotRun(f"{against} is not on PATH; on Debian: apt-get install etcd-server")
    if scale:
        _measure_scale(against, keys, watchers, leases, as_json)
        return
    console = Console(stderr=True)
    rows: list[Row] = []
    try:
        with console.status("starting") as status:
            for row in compare(("tercet", against), members, loads, seconds=seconds, rounds=rounds,
                               progress=status.update):  # fmt: skip
                rows.append(row)
                if as_json:
                    click.echo(json.dumps(row.as_json()))
                    sys.stdout.flush()
    except (LoadFailed, TargetFailed) as error:
        raise _NotRun(str(error)) from error
    if not as_json:
        _show(_table(rows))


def _measure_ourselves(histories: Path | None, as_json: bool) -> None:
    from .own import own_speeds  # loads the simulator, which the comparison does not need

    table = Table(title="our own instruments, CPU time of one process")
    for name in ("what", "measured", "unit", "budget", ""):
        table.add_column(name, justify="right" if name == "measured" else "left")
    with Console(stderr=True).status("measuring"):
        for speed in own_speeds(histories):
            if as_json:
                click.echo(json.dumps(speed.as_json()))
                continue
            row = (speed.what, f"{speed.measured:,.6g}", speed.unit, speed.budget)
            table.add_row(*row, "kept" if speed.kept else "missed")
    if not as_json:
        _show(table)


def _measure_scale(against: str, keys: int, watchers: int, leases: int, as_json: bool) -> None:
    from .scale import measure_scale

    table = Table(title="one member, many of everything; ratio = reference / tercet")
    for name in ("what", "unit", "tercet", against, "ratio"):
        table.add_column(name, justify="left" if name in ("what", "unit") else "right")
    try:
        with Console(stderr=True).status("starting") as status:
            for row in measure_scale(("tercet", against), keys, watchers, leases, status.update):
                if as_json:
                    click.echo(json.dumps(row.as_json()))
                else:
                    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
                    table.add_row(row.what, row.unit, *(f"{figure:,.1f}" for figure in row.figures), ratio)
    except (LoadFailed, TargetFailed) as error:
        raise _NotRun(str(error)) from error
    if not as_json:
        _show(table)


def _show(table: Table) -> None:
    """Print a table, as wide as it needs when nobody's terminal limits it."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


class _NotRun(click.ClickException):
    exit_code = 2


def _table(rows: list[Row]) -> Table:
    table = Table(title="requests a second, side by side; ratio = tercet / reference in the same round")
    for name in ("members", "load", "operation", "target"):
        table.add_column(name)
    for name in ("req/s", "p50 ms", "p99 ms", "CPU µs/req", "ratio"):
        table.add_column(name, justify="right")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        latency = (f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}")
        numbers = (f"{row.throughput:,.0f}", *latency, f"{row.cpu_us:.1f}", ratio)
        table.add_row(str(row.members), row.load, row.operation, row.target, *numbers)
    return table
