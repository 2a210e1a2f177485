"""A run kept as a folder: what happened, what is wrong with it, and the one command that does it again.

CAMPAIGN/campaign.jsonl          one outcome a line, every seed
CAMPAIGN/seed-N/plan.json        everything the run depends on
                outcome.json     digest, verdict, figures
                verdict.json     the checker's verdict with the failing core
                history.jsonl    what the clients asked and were told (for ``tercet check``)
                schedule.json    the faults, one a line
                bands.json       when they really began and ended
                replay.txt       the command, and the story in words
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tercet.sim.faults import describe_schedule

from .experiment import Outcome, Plan, Record
from .history import encode_lines
from .picture import draw

__all__ = ["load_outcomes", "load_plan", "save_run", "story"]

_encoder = msgspec.json.Encoder()


def save_run(folder: Path, outcome: Outcome, record: Record, trace: bytes = b"") -> None:
    """Write a run's folder; what was there of an earlier one is replaced file by file."""
    folder.mkdir(parents=True, exist_ok=True)
    schedule = outcome.plan.schedule or ()
    _write(folder / "plan.json", msgspec.json.format(_encoder.encode(outcome.plan)) + b"\n")
    _write(folder / "outcome.json", msgspec.json.format(_encoder.encode(outcome)) + b"\n")
    _write(folder / "verdict.json", msgspec.json.format(_encoder.encode(record.verdict)) + b"\n")
    _write(folder / "schedule.json", _encoder.encode_lines(schedule))
    _write(folder / "bands.json", _encoder.encode_lines(record.result.bands))
    _write(folder / "history.jsonl", encode_lines(record.history))
    if trace:
        _write(folder / "run.trace", trace)
    _write(folder / "replay.txt", ("\n".join(story(folder, outcome, record)) + "\n").encode())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def story(folder: Path, outcome: Outcome, record: Record) -> list[str]:
    """The run in words, the replaying command first."""
    plan = outcome.plan
    lines = [
        f"tercet campaign replay {folder}",
        "",
        f"verdict   {outcome.verdict}" + (f" ({outcome.checker})" if outcome.checker else ""),
        f"reason    {outcome.reason or 'none'}",
        f"digest    {outcome.digest}",
        f"seed      {plan.seed}, {plan.nodes} members, {plan.clients} clients, workload {plan.profile}, "
        f"{plan.seconds:g} s of faults" + (f", mutation {plan.mutation}" if plan.mutation else ""),
        "",
        f"schedule  {len(plan.schedule or ())} faults",
        *(f"  {line}" for line in describe_schedule(plan.schedule or ())),
    ]
    if record.verdict.core:
        lines += [
            "",
            "operations that contradict each other",
            *(f"  {line}" for line in draw(record.verdict.core)),
        ]
    return lines


def load_plan(folder: Path) -> Plan:
    """The plan of a kept run; ``ValueError`` when there is none or it cannot be read."""
    path = folder / "plan.json" if folder.is_dir() else folder
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path} is not a kept run: {error}") from error


def load_outcomes(folder: Path) -> list[Outcome]:
    """Every outcome of a campaign, in the order of running."""
    try:
        data = (folder / "campaign.jsonl").read_bytes()
    except OSError as error:
        raise ValueError(f"{folder} is not a campaign: {error}") from error
    decoder = msgspec.json.Decoder(Outcome)
    return [decoder.decode(line) for line in data.splitlines() if line.strip()]
