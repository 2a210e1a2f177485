"""``tercet campaign zoo``: every planted bug is to be found, shrunk and replayed; the tables of that."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from .campaign_show import echo_json
from .mutations import MUTATIONS
from .mutations.hunt import Row, as_table, hunt
from .simhunt import Catch, hunt_simulated

__all__ = ["zoo"]


@click.command("zoo", short_help="Find, shrink, replay every planted bug.")
@click.option(
    "--world", type=click.Choice(["both", "explored", "simulated"]), default="both", show_default=True
)
@click.option(
    "--mutation", "chosen", multiple=True, type=click.Choice(list(MUTATIONS)), help="Only this one."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The first seed.")
@click.option("--minutes", type=click.FloatRange(min=0.0), default=2.0, show_default=True,
              help="At most for each bug and world.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Processes.")  # fmt: skip
@click.option("--starts", type=click.IntRange(1, 1000), default=1, show_default=True,
              help="Hunt from so many seeds, in the explored world; tell median and worst.")  # fmt: skip
@click.option("--replays", type=click.IntRange(min=1), default=100, show_default=True,
              help="Of each shrunk schedule.")  # fmt: skip
@click.option("--exhaustive", is_flag=True,
              help="Also search every interleaving of each bug's small scope.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def zoo(
    world: str,
    chosen: tuple[str, ...],
    seed: int,
    minutes: float,
    jobs: int,
    starts: int,
    replays: int,
    exhaustive: bool,
    as_json: bool,
) -> None:
    """Plant every known bug in turn; find it, shrink it, replay it; print the table.

    In the explored world every bug must be found. Exit code 0 when it was so, else 1.
    """
    names = chosen or tuple(MUTATIONS)
    missed = False
    if world != "simulated":
        wanted = [MUTATIONS[name] for name in names if MUTATIONS[name].world == "both"]
        found = hunt(
            wanted, first_seed=seed, cpu_seconds=minutes * 60, replays=replays, exhaustive=exhaustive,
            starts=starts, jobs=jobs,
        )
        missed = _show_explored(found, as_json)
    if world != "explored":
        late = _show_simulated(_catches(names, seed, minutes, jobs, replays), as_json)
        missed = missed or (late and world == "simulated")
    sys.exit(1 if missed else 0)


def _show_explored(found: Iterator[Row], as_json: bool) -> bool:
    """Print the rows; True when one is not as it must be."""
    rows = []
    for row in found:
        rows.append(row)
        if as_json:
            echo_json({"world": "explored", "row": row})
    if not as_json:
        click.echo("explored world: the bare core\n" + as_table(rows))
    return any(not (row.found and row.replayed and row.shipped_valid) for row in rows)


def _catches(
    names: tuple[str, ...], seed: int, minutes: float, jobs: int, replays: int
) -> Iterator[Catch]:
    for name in names:
        click.echo(f"hunting {name} in the simulated world", err=True)
        yield hunt_simulated(
            name, first_seed=seed, seeds=100_000, minutes=minutes, jobs=jobs, replays=replays
        )


def _show_simulated(found: Iterator[Catch], as_json: bool) -> bool:
    """Print the catches; True when one is not as it must be."""
    catches = []
    for catch in found:
        catches.append(catch)
        if as_json:
            echo_json({"world": "simulated", "row": catch})
    if not as_json:
        click.echo("\nsimulated world: members, disks, sockets and clients; three and five members in turn")
        click.echo("\n".join(_catch_table(catches)))
    return any(not (catch.found and catch.replayed and catch.shipped_valid) for catch in catches)


def _catch_table(catches: list[Catch]) -> list[str]:
    lines = [f"{'bug':<17}{'seeds':>7}{'cpu s':>9}  {'found by':<12}{'faults':>10}  replayed"]
    for catch in catches:
        start = f"{catch.mutation:<17}{catch.seeds_tried:>7}{catch.cpu_seconds:>9.1f}  "
        if not catch.found:
            lines.append(f"{start}not found")
            continue
        good = catch.replayed and catch.shipped_valid
        replayed = f"{catch.replays}/{catch.replays}" if good else "NO"
        lines.append(f"{start}{catch.checker:<12}{f'{catch.faults} -> {catch.shrunk_to}':>10}  {replayed}")
    return lines
