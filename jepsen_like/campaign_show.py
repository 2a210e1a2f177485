"""What a campaign tells while it runs and at its end: a bar for a terminal, failures, the summary."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from .campaign import Summary
from .experiment import Outcome

__all__ = ["Bar", "echo_json", "show_failure", "summary_lines"]

_WIDTH = 100
_LONGEST = 400  # characters of a reason


def echo_json(value: object) -> None:
    """Print one object on a line."""
    click.echo(msgspec.json.encode(value).decode())


class Bar:
    """How far a campaign of ``total`` runs has come; on a terminal only."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = sys.stderr.isatty()
        self._started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def show(self, summary: Summary) -> None:
        """Draw it anew; ``summary`` has at least one run."""
        share = summary.runs / self._total
        left = self.spent / share - self.spent
        filled = "#" * int(share * 30)
        self._draw(
            f"[{filled:<30}] {summary.runs}/{self._total}  {summary.invalid} failed  "
            f"{summary.runs / self.spent:.1f}/s  {left:.0f} s left"
        )

    def wipe(self) -> None:
        """Make room for other lines."""
        self._draw("")

    def _draw(self, text: str) -> None:
        if self._shown:
            click.echo(f"\r{text:<{_WIDTH}}\r", nl=False, err=True)


def show_failure(outcome: Outcome, folder: Path) -> None:
    """Print what is wrong with a run, and the commands that go on with it."""
    click.echo(f"seed {outcome.seed}: {click.style(outcome.verdict, fg='red')} ({outcome.checker})")
    reason = outcome.reason.strip().splitlines()[-1] if outcome.reason else ""
    click.echo(f"  {reason if len(reason) <= _LONGEST else reason[:_LONGEST] + ' ...'}")
    click.echo(f"  replay: tercet campaign replay {folder / f'seed-{outcome.seed}'}")
    click.echo(f"  shrink: tercet campaign shrink {folder / f'seed-{outcome.seed}'}")


def summary_lines(summary: Summary) -> list[str]:
    """A campaign in three or four lines."""
    fired = ", ".join(f"{kind} {count}" for kind, count in sorted(summary.faults_fired.items()))
    return [
        f"{summary.runs} runs: {summary.valid} valid, {summary.invalid} invalid, {summary.unknown} unknown, "
        f"{summary.mismatches} digests differ",
        f"{summary.operations} operations, "
        f"{summary.virtual_seconds:.0f} virtual s in {summary.cpu_seconds:.0f} CPU s",
        f"faults fired: {fired or 'none'}",
        *([f"failing seeds: {', '.join(map(str, summary.failing))}"] if summary.failing else []),
    ]
