"""``tercet sim explore``: look for a schedule that breaks the core, shrink it, say how to see it again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import click

from .exhaustive.report import changes_of, search_scope
from .exhaustive.scope import BUDGETS, Scope
from .options import SearchCommand, search_options
from .random_report import Output, replay_schedule, schedule_from_text, schedule_to_text, search_at_random

__all__ = ["explore_command", "schedule_from_text", "schedule_to_text"]

Planter = Callable[[str], AbstractContextManager[None]]
_BOUNDS = ("terms", "batch", *[name for name in BUDGETS if name != "changes"])
_RANDOM = ("seed", "schedules", "minutes", "seconds", "jobs")


def explore_command(plant: Planter) -> click.Command:
    """The command; ``plant(name)`` puts a planted bug in place (ValueError: no such bug)."""

    @click.command(
        "explore", cls=SearchCommand, short_help="Search schedules of the pure core for a broken invariant."
    )
    @search_options
    def command(mutation: str | None, **chosen: Any) -> None:
        """Search schedules of the pure core: the properties of Raft after every step.

        At random: long schedules with every kind of fault, and at the end a majority must get on by itself.
        Exhaustively: every order of deliveries, losses and timeouts within --terms and --entries, with so
        many --crashes, --duplicates and so on; the shortest run to a violation is told.

        Exit code 0: all valid; 1: a violation was found; 2: not run, or a limit was hit.
        """
        output = Output(mutation, chosen["trace"], chosen["as_json"])
        try:
            planted = plant(mutation) if mutation else nullcontext()
            search = _search(output, chosen)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        with planted:
            sys.exit(search())

    return command


def _search(output: Output, chosen: dict[str, Any]) -> Callable[[], int]:
    """What is to be done; it returns the exit code.

    Raises:
        ValueError: the options do not go together, or a value means nothing.
    """
    if chosen["exhaustive"]:
        if chosen["at_random"] or chosen["replay"]:
            raise ValueError("--exhaustive does not go with --random or --replay")
        return partial(
            search_scope, _scope(chosen), output.mutation, memory_mb=chosen["memory_mb"],
            minutes=chosen["minutes"], trace=output.trace, as_json=output.as_json,
        )
    if chosen["replay"]:
        return partial(replay_schedule, schedule_from_text(chosen["replay"]), output)
    return partial(
        search_at_random, output, nodes=chosen["nodes"] or 5, strict=not chosen["consequences"],
        **{name: chosen[name] for name in _RANDOM},
    )


def _scope(chosen: dict[str, Any]) -> Scope:
    changes = tuple([changes_of(text) for text in chosen["change"]])
    nodes = chosen["nodes"] or 3
    joining = max([0, *[node - nodes for each in changes for _, node in each]])
    return Scope(
        nodes=nodes, joining=joining, changes=changes, strict=not chosen["consequences"],
        lasting=chosen["lasting"], pre_vote=chosen["pre_vote"], **{name: chosen[name] for name in _BOUNDS},
    )
