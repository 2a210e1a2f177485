"""The hunt: plant every bug, let the explorer find it, shrink it, replay it, and make a table of that."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import msgspec
from msgspec.structs import replace

from tercet.sim.explorer.commands import schedule_to_text
from tercet.sim.explorer.exhaustive.search import Search
from tercet.sim.explorer.random import explore, replay
from tercet.sim.explorer.shrink import shrink

from . import MUTATIONS, Mutation

__all__ = ["SHORT", "Row", "as_table", "hunt"]


class Row(msgspec.Struct, frozen=True):
    """What became of one planted bug."""

    name: str
    origin: str
    found: bool
    seeds_tried: int  # the median over ``starts``
    cpu_seconds: float  # until found; the median over ``starts``
    rule: str  # what it broke; "" when not found
    deviations: int  # in the schedule that found it
    shrunk_to: int
    replayed: bool  # the shrunk schedule gives the same digest and violation in each of ``replays`` runs
    shipped_valid: bool  # the shrunk schedule breaks nothing in the shipped core
    replays: int = 0
    schedule: str = ""  # the shrunk one, for ``tercet sim explore --replay``
    exhaustive: str = ""  # moves and states of the exhaustive search, or why the bug has no scope for it
    starts: int = 1  # the hunt began anew at so many seeds
    worst_seconds: float = 0.0  # the longest that one of them took


#: A schedule that does not become as short as this is put aside for that of another failing seed.
SHORT = 15
_OTHER_SEEDS = 12
_APART = 1_000_000  # seeds between two starts


def hunt(
    mutations: Iterable[Mutation] | None = None,
    *,
    first_seed: int = 0,
    nodes: int | None = None,
    cpu_seconds: float = 120.0,
    strict: bool = True,
    replays: int = 1,
    exhaustive: bool = False,
    starts: int = 1,
    jobs: int = 1,
) -> Iterator[Row]:
    """Hunt each of ``mutations`` (None: all that are in the core) for at most ``cpu_seconds`` of CPU time.

    Args:
        nodes: in clusters of so many; None: as many as the bug needs.
        replays: how often each shrunk schedule is run again, >= 1.
        exhaustive: also search the scopes of those bugs that have one.
        starts: how often each is hunted, from seeds far apart, >= 1; the row tells the median time and the
            worst, and a bug counts as found when every hunt found it. What the first one found is shrunk.
        jobs: processes, >= 1; with more than one, the mutations must be those of ``MUTATIONS``.
    """
    if mutations is None:
        mutations = [mutation for mutation in MUTATIONS.values() if mutation.world == "both"]
    work = partial(
        _hunt_row, first_seed=first_seed, nodes=nodes, cpu_seconds=cpu_seconds, strict=strict,
        replays=replays, exhaustive=exhaustive, starts=starts,
    )
    if jobs == 1:
        yield from map(work, mutations)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(_hunt_named, work), [mutation.name for mutation in mutations])


def _hunt_named(work: partial[Row], name: str) -> Row:
    return work(MUTATIONS[name])


def _hunt_row(
    mutation: Mutation, *, first_seed: int, nodes: int | None, cpu_seconds: float, strict: bool, replays: int,
    exhaustive: bool, starts: int,
) -> Row:
    size = nodes or mutation.nodes
    row = _hunt_one(mutation, first_seed, size, cpu_seconds, strict, replays)
    tried, times, found = [row.seeds_tried], [row.cpu_seconds], row.found
    for start in range(1, starts):
        with mutation.apply():
            again = explore(
                first_seed=first_seed + start * _APART, nodes=size, cpu_seconds=cpu_seconds, strict=strict
            )
        found = found and again.failure is not None
        tried.append(again.schedules)
        times.append(again.cpu_seconds)
    return replace(
        row,
        found=found,
        seeds_tried=int(statistics.median(tried)),
        cpu_seconds=statistics.median(times),
        worst_seconds=max(times),
        starts=starts,
        exhaustive=_search(mutation) if exhaustive else "",
    )


def _hunt_one(
    mutation: Mutation, first_seed: int, nodes: int, cpu_seconds: float, strict: bool, replays: int
) -> Row:
    with mutation.apply():
        start = time.process_time()
        found = explore(first_seed=first_seed, nodes=nodes, cpu_seconds=cpu_seconds, strict=strict)
        used = time.process_time() - start
        failure = found.failure
        if failure is None:
            return Row(mutation.name, mutation.origin, False, found.schedules, used, "", 0, 0, False, True)
        short = shrink(failure)
        for _ in range(_OTHER_SEEDS):
            if len(short.schedule.deviations) <= SHORT:
                break
            left = cpu_seconds - (time.process_time() - start)
            other = explore(
                first_seed=failure.seed + 1, nodes=nodes, cpu_seconds=max(left, 1.0), strict=strict
            ).failure
            if other is None:
                break
            failure, shorter = other, shrink(other)
            if len(shorter.schedule.deviations) < len(short.schedule.deviations):
                short = shorter
        again = [replay(short.schedule) for _ in range(replays)]
    first = found.failure
    assert first is not None
    shipped = replay(short.schedule)
    return Row(
        mutation.name,
        mutation.origin,
        True,
        found.schedules,
        used,
        short.rule,
        len(first.schedule.deviations),
        len(short.schedule.deviations),
        all((each.digest, each.rule, each.text) == (short.digest, short.rule, short.text) for each in again),
        shipped.valid,
        replays,
        schedule_to_text(short.schedule),
    )


def _search(mutation: Mutation) -> str:
    if mutation.scope is None:
        return f"outside: {mutation.outside}" if mutation.outside else ""
    with mutation.apply():
        finding = Search(mutation.scope, cpu_seconds=600.0).run()
    if finding.verdict != "invalid":
        return f"NOT FOUND in {finding.states}"
    return f"{len(finding.labels)} moves, {finding.states}"


def as_table(rows: Iterable[Row]) -> str:
    """The rows as text, one line each under a heading, and the times of all in one line."""
    lines = [
        f"{'bug':<17}{'origin':<28}{'seeds':>7}{'median s':>10}{'worst s':>9}  {'breaks':<21}"
        f"{'deviations':>12}  {'replayed':<10}exhaustive: moves, states"
    ]
    rows = tuple(rows)
    for row in rows:
        if row.found:
            shrunk = f"{row.deviations} -> {row.shrunk_to}"
            replayed = f"{row.replays}/{row.replays}" if row.replayed and row.shipped_valid else "NO"
        else:
            shrunk, replayed = "", "NOT FOUND"
        lines.append(
            f"{row.name:<17}{row.origin:<28}{row.seeds_tried:>7}{row.cpu_seconds:>10.2f}"
            f"{row.worst_seconds:>9.2f}  {row.rule:<21}{shrunk:>12}  {replayed:<10}{row.exhaustive or '-'}"
        )
    if rows:
        slowest, worst = max(row.cpu_seconds for row in rows), max(row.worst_seconds for row in rows)
        lines.append(
            f"{sum(row.found for row in rows)} of {len(rows)} found; CPU seconds over {rows[0].starts} "
            f"starting seeds: the slowest median {slowest:.1f}, the worst of all {worst:.1f}"
        )
    return "\n".join(lines)
