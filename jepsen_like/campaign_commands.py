"""``tercet campaign``: run many seeds, replay one, shrink one, say what was found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from typing import Any

import click
import msgspec

from tercet.sim.commands import parse_seeds
from tercet.sim.faults import describe_schedule, kinds_named

from .campaign import Summary, run_campaign, shrink_run
from .campaign_show import Bar, echo_json, show_failure, summary_lines
from .checkers.verdict import EXIT_CODES
from .experiment import Outcome, Plan, carry_out, mutation_named
from .motifs import motifs_named
from .real.commands import real
from .store import load_outcomes, load_plan, save_run, story
from .workloads.mix import PROFILES
from .zoo_commands import zoo

__all__ = ["campaign"]

_FOLDER = click.Path(path_type=Path)


@click.group("campaign")
def campaign() -> None:
    """Many seeded runs of a whole cluster in a simulated world, each one checked.

    Begin with: tercet campaign run --seeds 1..20 --seconds 8. Or plant a bug and have it found: tercet
    campaign zoo --world explored --mutation B3.
    """


campaign.add_command(real)
campaign.add_command(zoo)


class _Order(msgspec.Struct, frozen=True):
    """What ``campaign run`` was asked for; the fields are its options."""

    seeds: str | None
    nodes: str
    seconds: float
    faults: str
    workload: str | None
    mutation: str
    jobs: int
    twice: bool
    minutes: float | None
    first: bool
    shrink_first: int
    folder: Path | None
    as_json: bool

    def chosen(self) -> range:
        """The seeds.

        Raises:
            click.UsageError: they, or other options, are not what they must be.
        """
        _nodes(self.nodes)
        try:
            mutation_named(self.mutation)
            if self.faults.startswith("motifs"):
                motifs_named(self.faults)
            else:
                kinds_named(self.faults)
            return parse_seeds(self.seeds) if self.seeds else _drawn_seeds()
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    def plans(self, seeds: range) -> Iterator[Plan]:
        """One run for each seed."""
        sizes = _nodes(self.nodes)
        for seed in seeds:
            yield Plan(
                seed=seed,
                nodes=sizes[seed % len(sizes)],
                seconds=self.seconds,
                faults=self.faults,
                profile=self.workload or "",
                mutation=self.mutation,
            )

    def is_over(self, outcome: Outcome, spent: float) -> bool:
        """This outcome is the last one wanted."""
        late = self.minutes is not None and spent > self.minutes * 60
        return late or (self.first and outcome.verdict == "invalid")


def _nodes(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= size <= 9 for size in found):
        raise click.UsageError(f"--nodes: need sizes from 1 to 9 with commas, got {text!r}")
    return found


@campaign.command("run", short_help="Run seeds, check each, shrink a failure.")
@click.option("--seeds", metavar="N..M", help="Both ends included. Default: 100 seeds from a drawn one.")
@click.option("--nodes", default="3,5", show_default=True, help="Cluster sizes, taken in turn.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=15.0, show_default=True,
              help="Virtual length of the fault phase.")  # fmt: skip
@click.option("--faults", default="all", show_default=True,
              help="all, none, motifs, motifs:NAME, or kinds, families; '?' lists them.")  # fmt: skip
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
def run(**options: Any) -> None:
    """Run seeds. Exit code 0: all valid; 1: one failed; 2: unknown or not run.

    A failing seed is run a second time and its digest compared before it is reported; its folder has the
    history, the schedule, a trace and the command that replays it. Then the first failure is shrunk to a
    short schedule, which is kept beside it.
    """
    order = _Order(**options)
    seeds = order.chosen()
    name = f"{order.mutation or 'shipped'}-{seeds.start}-{seeds.stop - 1}"
    folder = order.folder or Path("runs") / name
    click.echo(f"seeds {seeds.start}..{seeds.stop - 1}, failing runs in {folder}", err=True)
    bar, summary = Bar(len(seeds)), Summary()
    failures = _carry_out(order, seeds, folder, summary, bar)
    bar.wipe()
    spent = bar.spent
    for outcome in failures[: order.shrink_first]:
        _shrink_into(folder / f"seed-{outcome.seed}" / "shrunk", outcome.plan, 100, order.as_json)
    if order.as_json:
        echo_json({"summary": summary, "verdict": summary.verdict, "seconds": round(spent, 1)})
    else:
        for line in summary_lines(summary):
            click.echo(line)
        click.echo(f"{spent:.1f} s, {summary.runs / max(spent, 1e-9):.2f} runs a second")
    sys.exit(EXIT_CODES[summary.verdict])


def _carry_out(order: _Order, seeds: range, folder: Path, summary: Summary, bar: Bar) -> list[Outcome]:
    """Run the seeds, count and show their outcomes; those that can be shrunk."""
    failures: list[Outcome] = []
    outcomes = run_campaign(order.plans(seeds), jobs=order.jobs, folder=folder, twice=order.twice)
    try:
        for outcome in outcomes:
            summary.add(outcome)
            bar.show(summary)
            if outcome.verdict == "invalid" and outcome.checker not in ("determinism", "harness"):
                failures.append(outcome)
            if order.as_json:
                echo_json(outcome)
            elif outcome.verdict != "valid":
                bar.wipe()
                show_failure(outcome, folder)
            if order.is_over(outcome, bar.spent):
                break
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
    finally:
        outcomes.close()
    return failures


def _drawn_seeds() -> range:
    start = SystemRandom().getrandbits(32)
    return range(start, start + 100)


@campaign.command("replay", short_help="Do a kept run again, compare the digest.")
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
        echo_json(outcome)
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


@campaign.command("shrink", short_help="Make a failing schedule short.")
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
        echo_json(outcome)
    else:
        click.echo(
            f"{len(plan.schedule or ())} faults -> {len(shrunk.plan.schedule or ())} in {shrunk.runs} runs"
        )
        for line in story(target, outcome, record):
            click.echo(line)
    return outcome


@campaign.command("report", short_help="What a kept campaign came to.")
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
        echo_json({"summary": summary, "verdict": summary.verdict})
        sys.exit(EXIT_CODES[summary.verdict])
    for line in summary_lines(summary):
        click.echo(line)
    for outcome in outcomes:
        if outcome.verdict != "valid":
            show_failure(outcome, folder)
            for line in describe_schedule(outcome.plan.schedule or ()):
                click.echo(f"    {line}")
    sys.exit(EXIT_CODES[summary.verdict])


@campaign.command("list", short_help="The campaigns kept in a folder.")
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
            echo_json({"campaign": str(path), "runs": summary.runs, "failing": summary.failing})
        else:
            click.echo(f"{path}  {summary.runs} runs, {len(summary.failing)} failed")
    if not found and not as_json:
        click.echo(f"no campaigns in {folder}")
