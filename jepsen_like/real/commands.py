"""``tercet campaign real``: scenes with real processes, each checked and measured."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import msgspec
import trio

from ..checkers.verdict import EXIT_CODES
from .load import Report
from .processes import FleetFailed
from .scenes import catch_up, grow, move_leaders, replace

__all__ = ["real"]

SCENES = ("grow", "moves", "replace", "catch-up")


@click.command("real")
@click.argument("scenes", nargs=-1, type=click.Choice(SCENES), metavar="[grow|moves|replace|catch-up]...")
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(1), help="Of moves.")
@click.option("--megabytes", default=100, show_default=True, type=click.IntRange(1), help="Of catch-up.")
@click.option("--largest", default=5, show_default=True, type=click.IntRange(2, 7), help="Of grow.")
@click.option("--etcdctl", default="etcdctl", show_default=True, help="The program that changes members.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def real(
    scenes: tuple[str, ...], seconds: float, megabytes: int, largest: int, etcdctl: str, as_json: bool
) -> None:
    """Change a cluster of real processes under load: grow and shrink it; move its leader every second; kill a
    follower and then the leader, lose their disks, and put learners in their places that are promoted; have
    a follower catch up by a snapshot that is cut in the middle.

    Exit code 0 when every history is valid, 1 when one is not, 2 when a scene could not be played.
    """
    worst = 0
    for scene in scenes or SCENES:
        with tempfile.TemporaryDirectory(prefix="tercet-real-") as folder:
            try:
                report = trio.run(_play, scene, Path(folder), seconds, megabytes, largest, etcdctl)
            except FleetFailed as problem:
                sys.stderr.write(f"{scene}: {problem}\n")
                worst = max(worst, EXIT_CODES["unknown"])
                continue
        worst = max(worst, EXIT_CODES[report.verdict])
        click.echo(msgspec.json.encode(report).decode() if as_json else _text(report))
    sys.exit(worst)


async def _play(
    scene: str, folder: Path, seconds: float, megabytes: int, largest: int, etcdctl: str
) -> Report:
    if scene == "grow":
        return await grow(folder, largest=largest, etcdctl=etcdctl)
    if scene == "moves":
        return await move_leaders(folder, seconds=seconds)
    if scene == "replace":
        return await replace(folder, etcdctl=etcdctl)
    return await catch_up(folder, megabytes=megabytes)


def _text(report: Report) -> str:
    numbers = "".join(f"\n  {name.replace('_', ' ')}: {value:g}" for name, value in report.numbers.items())
    return (
        f"{report.scene}: {report.verdict}, {report.operations} operations in {report.seconds} s"
        f" ({report.unknown_operations} of unknown outcome), longest time without an acknowledged write:"
        f" {report.longest_unavailable_ms} ms{numbers}" + (f"\n  {report.reason}" if report.reason else "")
    )
