"""``tercet campaign``: run many seeds, replay one, shrink one, say what was found."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import NoReturn

import click
import msgspec

from tercet.sim.commands import parse_seeds
from tercet.sim.faults import describe_schedule, kinds_named

from .campaign import Summary, run_campaign, shrink_run
from .checkers.verdict import EXIT_CODES
from .experiment import Outcome, Plan, carry_out, mutation_named
from .motifs import motifs_named
from .mutations import MUTATIONS
from .mutations.hunt import as_table, hunt
from .real.commands import real
from .simhunt import Catch, hunt_simulated
from .store import load_outcomes, load_plan, save_run, story
from .workloads.mix import PROFILES

__all__ = ["campaign"]

_FOLDER = click.Path(path_type=Path)


@click.group("campaign", help="Many seeded runs of a whole cluster in a simulated world, each one checked.")
def campaign() -> None: ...


campaign.add_command(real)


def _json(value: object) -> None:
    click.echo(msgspec.json.encode(value).decode())


def _nodes(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= size <= 9 for size in found):
        raise click.UsageError(f"--nodes: need sizes from 1 to 9 with commas, got {text!r}")
    return found


@campaign.command("run")
@click.option("--seeds", metavar="N..M", help="Both ends included. Default: 100 seeds from a drawn one.")
@click.option("--nodes", default="3,5", show_default=True, help="Cluster sizes, taken in turn.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=15.0, show_default=True,
              help="Virtual length of the fault phase.")  # fmt: skip
@click.option("--faults", default="all", show_default=True,
              help="all, none, motifs, motifs:NAME, or kinds and families with commas.")  # fmt: skip
@click.option("--workload", type=click.Choice(list(PROFILES)), help="Default: drawn from each seed.")
@click.option("--mutation", default="", help="Plant a bug of the zoo, e.g. B4.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option("--twice", is_flag=True, help="Run each seed under two hash seeds and compare the digests.")
@click.option("--minutes", type=click.FloatRange(min=0.0), help="Stop after so much time.")
@click.option("--first", is_flag=True, help="Stop at the first failure.")
@click.option("--shrink", "shrink_first", type=click.IntRange(min=0), default=1, show_default=True,
              help="Shrink so many of the failures.")  # fmt: skip
@click.option("--folder", type=_FOLDER, help="Where failing runs are kept. [default: runs/NAME]")
@click.option("--json", "as_json", is_flag=True, help="One object a line, the summary last.")
def run(
    seeds: str | None,
    nodes: str,
    seconds: float,
    faults: str,
    workload: str | None,
    mutation: str,
    jobs: int,
    twice: bool,
    minutes: float | None,
    first: bool,
    shrink_first: int,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Run seeds. Exit code 0: all valid; 1: one failed; 2: unknown or not run.

    A failing seed is run a second time and its digest compared before it is reported; its folder has the
    history, the schedule, a trace and the command that replays it. Then the first failure is shrunk to a
    short schedule, which is kept beside it.
    """
    sizes = _nodes(nodes)
    try:
        chosen = parse_seeds(seeds) if seeds else _drawn_seeds()
        mutation_named(mutation)
        if faults.startswith("motifs"):
            motifs_named(faults)
        else:
            kinds_named(faults)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    target = folder or Path("runs") / f"{mutation or 'shipped'}-{chosen.start}-{chosen.stop - 1}"
    click.echo(f"seeds {chosen.start}..{chosen.stop - 1}, failing runs in {target}", err=True)
    plans = (
        Plan(
            seed=seed,
            nodes=sizes[seed % len(sizes)],
            seconds=seconds,
            faults=faults,
            profile=workload or "",
            mutation=mutation,
        )
        for seed in chosen
    )
    summary = Summary()
    failures: list[Outcome] = []
    started = time.monotonic()
    outcomes = run_campaign(plans, jobs=jobs, folder=target, twice=twice)
    try:
        for outcome in outcomes:
            summary.add(outcome)
            _progress(summary, len(chosen), started)
            if outcome.verdict == "invalid" and outcome.checker not in ("determinism", "harness"):
                failures.append(outcome)
            if as_json:
                _json(outcome)
            elif outcome.verdict != "valid":
                _wipe()
                _failure(outcome, target)
            if (first and outcome.verdict == "invalid") or (
                minutes is not None and time.monotonic() - started > minutes * 60
            ):
                break
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
    finally:
        outcomes.close()
    _wipe()
    spent = time.monotonic() - started
    for outcome in failures[:shrink_first]:
        folder = target / f"seed-{outcome.seed}"
        _shrink_into(folder / "shrunk", outcome.plan, 100, as_json)
    _finish(summary, spent, as_json)


def _drawn_seeds() -> range:
    start = SystemRandom().getrandbits(32)
    return range(start, start + 100)


def _progress(summary: Summary, total: int, started: float) -> None:
    if not sys.stderr.isatty():
        return
    share = summary.runs / total
    spent = time.monotonic() - started
    left = spent / share - spent
    bar = "#" * int(share * 30)
    text = (
        f"[{bar:<30}] {summary.runs}/{total}  {summary.invalid} failed  {summary.runs / spent:.1f}/s  "
        f"{left:.0f} s left"
    )
    click.echo(f"\r{text:<100}\r", nl=False, err=True)


def _wipe() -> None:
    if sys.stderr.isatty():
        click.echo("\r" + " " * 100 + "\r", nl=False, err=True)


def _failure(outcome: Outcome, folder: Path) -> None:
    click.echo(f"seed {outcome.seed}: {click.style(outcome.verdict, fg='red')} ({outcome.checker})")
    reason = outcome.reason.strip().splitlines()[-1] if outcome.reason else ""
    click.echo(f"  {reason if len(reason) <= 400 else reason[:400] + ' ...'}")
    click.echo(f"  replay: tercet campaign replay {folder / f'seed-{outcome.seed}'}")
    click.echo(f"  shrink: tercet campaign shrink {folder / f'seed-{outcome.seed}'}")


def _finish(summary: Summary, spent: float, as_json: bool) -> NoReturn:
    if as_json:
        _json({"summary": summary, "verdict": summary.verdict, "seconds": round(spent, 1)})
    else:
        for line in _summary_lines(summary):
            click.echo(line)
        click.echo(f"{spent:.1f} s, {summary.runs / max(spent, 1e-9):.2f} runs a second")
    sys.exit(EXIT_CODES[summary.verdict])


def _summary_lines(summary: Summary) -> list[str]:
    fired = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.faults_fired.items()))
    return [
        f"{summary.runs} runs: {summary.valid} valid, {summary.invalid} invalid, {summary.unknown} unknown, "
        f"{summary.mismatches} digests differ",
        f"{summary.operations} operations, "
        f"{summary.virtual_seconds:.0f} virtual s in {summary.cpu_seconds:.0f} CPU s",
        f"faults fired: {fired or 'none'}",
        *([f"failing seeds: {', '.join(map(str, summary.failing))}"] if summary.failing else []),
    ]


@campaign.command("replay")
@click.argument("run_folder", type=_FOLDER, metavar="RUN")
@click.option("--trace", type=_FOLDER, help="Write a trace of all members here.")
@click.option("--json", "as_json", is_flag=True)
def replay(run_folder: Path, trace: Path | None, as_json: bool) -> None:
    """Do a kept run again (its folder, or a plan.json) and compare the digest with the first time."""
    plan = _load(run_folder)
    parts: list[bytes] = []
    outcome, record = carry_out(plan, parts.append if trace is not None else None)
    if trace is not None:
        trace.write_bytes(b"".join(parts))
    if as_json:
        _json(outcome)
    else:
        for line in story(run_folder, outcome, record)[2:]:
            click.echo(line)
        click.echo(f"\n{_agreement(run_folder, outcome)}")
    sys.exit(EXIT_CODES[outcome.verdict])


def _agreement(run_folder: Path, outcome: Outcome) -> str:
    try:
        before = msgspec.json.decode((run_folder / "outcome.json").read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError):
        return "nothing to compare with"
    if before.digest == outcome.digest:
        return "the same digest as the first time"
    return f"ANOTHER DIGEST than the first time, which was {before.digest}"


def _load(folder: Path) -> Plan:
    try:
        return load_plan(folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@campaign.command("shrink")
@click.argument("run_folder", type=_FOLDER, metavar="RUN")
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="Runs to spend.")
@click.option("--folder", type=_FOLDER, help="Where the shrunk run is kept. [default: RUN/shrunk]")
@click.option("--json", "as_json", is_flag=True)
def shrink(run_folder: Path, runs: int, folder: Path | None, as_json: bool) -> None:
    """Make a failing run's schedule as short as can be, and keep the short run."""
    try:
        outcome = _shrink_into(folder or run_folder / "shrunk", _load(run_folder), runs, as_json)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(EXIT_CODES[outcome.verdict])


def _shrink_into(target: Path, plan: Plan, runs: int, as_json: bool) -> Outcome:
    """Shrink a failing plan, keep and print the short run; ``ValueError`` when it does not fail."""

    def tell(smaller: Plan) -> None:
        click.echo(f"shrinking: {len(smaller.schedule or ())} faults in {smaller.seconds:g} s", err=True)

    shrunk, _ = shrink_run(plan, runs=runs, progress=tell if sys.stderr.isatty() else None)
    parts: list[bytes] = []
    outcome, record = carry_out(shrunk.plan, parts.append)
    save_run(target, outcome, record, b"".join(parts))
    if as_json:
        _json(outcome)
    else:
        click.echo(
            f"{len(plan.schedule or ())} faults -> {len(shrunk.plan.schedule or ())} in {shrunk.runs} runs"
        )
        for line in story(target, outcome, record):
            click.echo(line)
    return outcome


@campaign.command("report")
@click.argument("folder", type=_FOLDER, metavar="CAMPAIGN")
@click.option("--json", "as_json", is_flag=True)
def report(folder: Path, as_json: bool) -> None:
    """What a campaign came to, and each of its failures with the faults that led there."""
    try:
        outcomes = load_outcomes(folder)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    summary = Summary()
    for outcome in outcomes:
        summary.add(outcome)
    if as_json:
        _json({"summary": summary, "verdict": summary.verdict})
        sys.exit(EXIT_CODES[summary.verdict])
    for line in _summary_lines(summary):
        click.echo(line)
    for outcome in outcomes:
        if outcome.verdict != "valid":
            _failure(outcome, folder)
            for line in describe_schedule(outcome.plan.schedule or ()):
                click.echo(f"    {line}")
    sys.exit(EXIT_CODES[summary.verdict])


@campaign.command("list")
@click.argument("folder", type=_FOLDER, default=Path("runs"), metavar="[FOLDER]")
@click.option("--json", "as_json", is_flag=True)
def list_(folder: Path, as_json: bool) -> None:
    """The campaigns kept in a folder."""
    found = sorted(path.parent for path in folder.glob("*/campaign.jsonl"))
    for path in found:
        summary = Summary()
        for outcome in load_outcomes(path):
            summary.add(outcome)
        if as_json:
            _json({"campaign": str(path), "runs": summary.runs, "failing": summary.failing})
        else:
            click.echo(f"{path}  {summary.runs} runs, {len(summary.failing)} failed")
    if not found and not as_json:
        click.echo(f"no campaigns in {folder}")


@campaign.command("zoo")
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
              help="Of each shrunk schedule, in the explored world.")  # fmt: skip
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
    missed = False
    if world != "simulated":
        named = [MUTATIONS[name] for name in chosen or MUTATIONS]
        wanted = [mutation for mutation in named if mutation.world == "both"]
        rows = []
        found = hunt(
            wanted, first_seed=seed, cpu_seconds=minutes * 60, replays=replays, exhaustive=exhaustive,
            starts=starts, jobs=jobs,
        )
        for row in found:
            rows.append(row)
            missed = missed or not (row.found and row.replayed and row.shipped_valid)
            if as_json:
                _json({"world": "explored", "row": row})
        if not as_json:
            click.echo("explored world: the bare core\n" + as_table(rows))
    if world != "explored":
        catches = []
        for catch in _catches(chosen or tuple(MUTATIONS), seed, minutes, jobs):
            catches.append(catch)
            if as_json:
                _json({"world": "simulated", "row": catch})
        if world == "simulated":
            missed = any(not (c.found and c.replayed and c.shipped_valid) for c in catches)
        if not as_json:
            click.echo(
                "\nsimulated world: members, disks, sockets and clients; three and five members in turn"
            )
            click.echo("\n".join(_catch_table(catches)))
    sys.exit(1 if missed else 0)


def _catches(names: tuple[str, ...], seed: int, minutes: float, jobs: int) -> Iterator[Catch]:
    for name in names:
        click.echo(f"hunting {name} in the simulated world", err=True)
        yield hunt_simulated(name, first_seed=seed, seeds=100_000, minutes=minutes, jobs=jobs)


def _catch_table(catches: list[Catch]) -> list[str]:
    lines = [f"{'bug':<17}{'seeds':>7}{'cpu s':>9}  {'found by':<12}{'faults':>10}  replayed"]
    for catch in catches:
        if catch.found:
            good = catch.replayed and catch.shipped_valid
            lines.append(
                f"{catch.mutation:<17}{catch.seeds_tried:>7}{catch.cpu_seconds:>9.1f}  {catch.checker:<12}"
                f"{f'{catch.faults} -> {catch.shrunk_to}':>10}  {'yes' if good else 'NO'}"
            )
        else:
            lines.append(f"{catch.mutation:<17}{catch.seeds_tried:>7}{catch.cpu_seconds:>9.1f}  not found")
    return lines
