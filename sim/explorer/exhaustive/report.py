"""An exhaustive search for the command line: a progress bar, a verdict, a run in words, a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tercet.core.raft import ChangeKind

from . import search
from .counterexample import Replayed, moves_of, replay_moves
from .scope import BUDGETS, Move, Scope, describe_move

__all__ = ["changes_of", "command_of", "search_scope"]

_LINE_EVERY = 500_000  # states
_EXIT_CODES = {"valid": 0, "invalid": 1, "unknown": 2}
_KINDS = {"add": ChangeKind.ADD_VOTER, "remove": ChangeKind.REMOVE, "learner": ChangeKind.ADD_LEARNER}


def changes_of(text: str) -> tuple[tuple[int, int], ...]:
    """A configuration change written as ``add 4``, ``remove 1, add 4`` or ``learner 4``.

    Raises:
        ValueError: it is not written so.
    """
    changes = []
    for part in text.split(","):
        words = part.split()
        if len(words) != 2 or words[0] not in _KINDS or not words[1].isdecimal() or words[1] == "0":
            raise ValueError(f"need changes like 'add 4' or 'remove 1, add 4', got {text!r}")
        changes.append((int(_KINDS[words[0]]), int(words[1])))
    return tuple(changes)


def command_of(scope: Scope, mutation: str | None = None) -> str:
    """The command that searches ``scope``."""
    plain = Scope()
    words = ["tercet sim explore --exhaustive", f"--nodes {scope.nodes}"]
    for name in scope.__struct_fields__:
        value = getattr(scope, name)
        if name in ("terms", "entries") or (name in BUDGETS and name != "changes" and value):
            words.append(f"--{name.replace('_', '-')} {value}")
    words += [f"--change '{_change_text(change)}'" for change in scope.changes]
    if scope.batch:
        words.append(f"--batch {scope.batch}")
    if not scope.lasting:
        words.append("--once")
    if scope.pre_vote:
        words.append("--pre-vote")
    if scope.strict != plain.strict:
        words.append("--consequences")
    if mutation:
        words.append(f"--mutation {mutation}")
    return " ".join(words)


def _change_text(change: tuple[tuple[int, int], ...]) -> str:
    names = {kind: name for name, kind in _KINDS.items()}
    return ", ".join([f"{names[ChangeKind(kind)]} {node}" for kind, node in change])


def search_scope(
    scope: Scope, mutation: str | None = None, *, memory_mb: int, minutes: float | None, trace: str | None,
    as_json: bool,
) -> int:
    """Search ``scope``, print what came of it, write a counterexample's trace to ``trace``.

    Args:
        memory_mb: the process may use so much.
        minutes: of CPU time at most; None: no limit.
        mutation: the bug that is planted, to be named in the trace.

    Returns:
        The exit code: 0 valid, 1 invalid, 2 a limit was hit.
    """
    with _telling() as progress:
        run = search.Search(
            scope, memory_mb=memory_mb, cpu_seconds=None if minutes is None else minutes * 60,
            progress=progress,
        )
        finding = run.run()
    moves: tuple[Move, ...] = ()
    if finding.verdict == "invalid":
        moves = moves_of(run, finding)
        replayed = replay_moves(scope, moves, command_of(scope, mutation))
        if trace is not None:
            try:
                Path(trace).write_bytes(replayed.trace)
            except OSError as error:
                raise click.FileError(trace, str(error)) from error
        _check(finding, replayed)
    if as_json:
        click.echo(msgspec.json.encode(_as_dict(finding, moves)).decode())
    else:
        _tell(finding, moves)
    return _EXIT_CODES[finding.verdict]


def _check(finding: search.Finding, replayed: Replayed) -> None:
    if replayed.rule != finding.rule:
        raise AssertionError(f"the run breaks {replayed.rule or 'nothing'}, the search found {finding.rule}")


def _as_dict(finding: search.Finding, moves: tuple[Move, ...]) -> dict[str, object]:
    return {
        "states": finding.states,
        "transitions": finding.transitions,
        "depth": finding.depth,
        "node_states": finding.node_states,
        "messages": finding.messages,
        "cpu_seconds": round(finding.cpu_seconds, 3),
        "memory_mb": finding.memory_mb,
        "verdict": finding.verdict,
        "reason": finding.reason or None,
        "violation": f"{finding.rule}: {finding.text}" if finding.rule else None,
        "trace": [describe_move(move) for move in moves] or None,
        "scope": msgspec.structs.asdict(finding.scope),
    }


def _tell(finding: search.Finding, moves: tuple[Move, ...]) -> None:
    speed = finding.states / max(finding.cpu_seconds, 1e-9)
    click.echo(
        f"{finding.states} states and {finding.transitions} transitions, up to {finding.depth} moves deep, "
        f"of {finding.node_states} node states and {finding.messages} messages\n"
        f"{finding.cpu_seconds:.1f} CPU seconds, {speed:.0f} states a second, {finding.memory_mb} MB"
    )
    if finding.verdict == "unknown":
        click.echo(f"unknown: {finding.reason}")
    elif finding.verdict == "valid":
        click.echo("valid: every interleaving of the scope")
    else:
        click.echo(f"invalid: {finding.rule}, after {len(moves)} moves\n  {finding.text}")
        for number, move in enumerate(moves, 1):
            click.echo(f"  {number:>3}. {describe_move(move)}")


def _progress_text(progress: search.Progress) -> str:
    speed = progress.states / max(progress.cpu_seconds, 1e-9)
    return (
        f"{progress.states} states, {progress.waiting} waiting, depth {progress.depth}, {speed:.0f}/s, "
        f"{progress.memory_mb} MB"
    )


def _lines() -> Callable[[search.Progress], None]:
    """A line of progress for every so many states."""
    shown = 0

    def tell(progress: search.Progress) -> None:
        nonlocal shown
        if progress.states // _LINE_EVERY > shown:
            shown = progress.states // _LINE_EVERY
            click.echo(_progress_text(progress), err=True)

    return tell


@contextmanager
def _telling() -> Iterator[Callable[[search.Progress], None]]:
    """A bar that shows how much of what is found has been searched; lines where there is no terminal."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("searching", total=1.0)

        def tell(progress: search.Progress) -> None:
            done = progress.states - progress.waiting
            bars.update(task, total=progress.states, completed=done, description=_progress_text(progress))

        yield tell
