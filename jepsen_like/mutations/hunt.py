"""The hunt: plant every bug, let the explorer find it, shrink it, replay it, and make a table of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

import click
import msgspec

from tercet.sim.explorer.random import explore, replay
from tercet.sim.explorer.shrink import shrink

from . import MUTATIONS, Mutation

__all__ = ["Row", "as_table", "hunt", "hunt_command"]


class Row(msgspec.Struct, frozen=True):
    """What became of one planted bug."""

    name: str
    origin: str
    found: bool
    seeds_tried: int
    cpu_seconds: float  # until found
    rule: str  # what it broke; "" when not found
    deviations: int  # in the schedule that found it
    shrunk_to: int
    replayed: bool  # the shrunk schedule gives the same digest and violation again
    shipped_valid: bool  # the shrunk schedule breaks nothing in the shipped core


def hunt(
    mutations: Iterable[Mutation] | None = None,
    *,
    first_seed: int = 0,
    nodes: int = 5,
    cpu_seconds: float = 120.0,
    strict: bool = True,
) -> Iterator[Row]:
    """Hunt each of ``mutations`` (None: all) for at most ``cpu_seconds`` of CPU time."""
    for mutation in MUTATIONS.values() if mutations is None else mutations:
        yield _hunt_one(mutation, first_seed, nodes, cpu_seconds, strict)


def _hunt_one(mutation: Mutation, first_seed: int, nodes: int, cpu_seconds: float, strict: bool) -> Row:
    with mutation.apply():
        start = time.process_time()
        found = explore(first_seed=first_seed, nodes=nodes, cpu_seconds=cpu_seconds, strict=strict)
        used = time.process_time() - start
        failure = found.failure
        if failure is None:
            return Row(mutation.name, mutation.origin, False, found.schedules, used, "", 0, 0, False, True)
        short = shrink(failure)
        again = replay(short.schedule)
    shipped = replay(short.schedule)
    return Row(
        mutation.name,
        mutation.origin,
        True,
        found.schedules,
        used,
        short.rule,
        len(failure.schedule.deviations),
        len(short.schedule.deviations),
        (again.digest, again.rule, again.text) == (short.digest, short.rule, short.text),
        shipped.valid,
    )


def as_table(rows: Iterable[Row]) -> str:
    """The rows as text, one line each under a heading."""
    lines = [
        f"{'bug':<17}{'origin':<28}{'seeds':>7}{'cpu s':>8}  {'breaks':<24}{'deviations':>12}  replayed"
    ]
    for row in rows:
        if row.found:
            shrunk = f"{row.deviations} -> {row.shrunk_to}"
            replayed = "yes" if row.replayed and row.shipped_valid else "NO"
        else:
            shrunk, replayed = "", "NOT FOUND"
        lines.append(
            f"{row.name:<17}{row.origin:<28}{row.seeds_tried:>7}{row.cpu_seconds:>8.2f}  {row.rule:<24}"
            f"{shrunk:>12}  {replayed}"
        )
    return "\n".join(lines)


def hunt_command(names: Callable[[], Iterable[str]] = MUTATIONS.keys) -> click.Command:
    """The command that prints the table."""

    @click.command("hunt", short_help="Plant every known bug and let the explorer find it.")
    @click.option("--nodes", type=click.IntRange(3, 9), default=5, show_default=True)
    @click.option("--seed", type=int, default=0, show_default=True, help="The first seed.")
    @click.option("--minutes", type=click.FloatRange(min=0.0), default=2.0, show_default=True,
                  help="CPU time at most for each bug.")
    @click.option("--mutation", "chosen", multiple=True, type=click.Choice(list(names())),
                  help="Only this one.")
    @click.option("--consequences", is_flag=True,
                  help="Do not compare promises with the disk when they are sent; wait for what follows.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    def command(
        nodes: int, seed: int, minutes: float, chosen: tuple[str, ...], consequences: bool, as_json: bool
    ) -> None:
        """Plant every known bug in turn; find it, shrink it, replay it. Exit code 1 if one stays hidden."""
        wanted = [MUTATIONS[name] for name in chosen] if chosen else None
        rows = []
        for row in hunt(
            wanted, first_seed=seed, nodes=nodes, cpu_seconds=minutes * 60.0, strict=not consequences
        ):
            rows.append(row)
            if as_json:
                click.echo(msgspec.json.encode(row).decode())
        if not as_json:
            click.echo(as_table(rows))
        if not all(row.found and row.replayed and row.shipped_valid for row in rows):
            raise SystemExit(1)

    return command
