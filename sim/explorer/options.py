"""The options of ``tercet sim explore``: what may be searched, and how long, in sections of its help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

__all__ = ["SearchCommand", "search_options"]

_ANY, _RANDOM, _EXHAUSTIVE = "Any search", "Random schedules (the default)", "Every interleaving of a scope"
_COUNT = click.IntRange(0, 15)


class _Option(click.Option):
    """An option that knows in which section of the help it stands."""

    def __init__(self, *words: Any, section: str, **settings: Any) -> None:
        super().__init__(*words, **settings)
        self.section = section


class SearchCommand(click.Command):
    """A command whose help shows its options section by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in the order of their first options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "section", _ANY), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _option(section: str, *words: str, **settings: Any) -> Callable[..., Any]:
    return click.option(*words, cls=_Option, section=section, **settings)


def _count(name: str, text: str) -> Callable[..., Any]:
    return _option(_EXHAUSTIVE, f"--{name}", type=_COUNT, default=0, show_default=True, help=text)


_OPTIONS = (
    _option(_ANY, "--nodes", type=click.IntRange(1, 9),
            help="Voters at the beginning [default: 5, or 3 with --exhaustive]."),
    _option(_ANY, "--minutes", type=click.FloatRange(min=0.0), help="CPU time at most."),
    _option(_ANY, "--mutation", metavar="NAME", help="Plant a bug, e.g. B4."),
    _option(_ANY, "--consequences", is_flag=True,
            help="Do not compare promises with the disk when they are sent; wait for what follows."),
    _option(_ANY, "--trace", type=click.Path(dir_okay=False), metavar="FILE",
            help="Write the failing (or replayed) run as a trace for 'tercet trace'."),
    _option(_ANY, "--json", "as_json", is_flag=True, help="One JSON object a line."),
    _option(_RANDOM, "--random", "at_random", is_flag=True, help="Long schedules with every kind of fault."),
    _option(_RANDOM, "--schedules", type=click.IntRange(min=1),
            help="How many at most [default: 1000, with --minutes: no limit]."),
    _option(_RANDOM, "--seconds", type=click.FloatRange(min=0.1), default=8.0, show_default=True,
            help="Virtual time with faults in each schedule."),
    _option(_RANDOM, "--seed", type=int, help="The first seed; one is picked and printed if not given."),
    _option(_RANDOM, "--jobs", type=click.IntRange(1, 256), default=1, show_default=True,
            help="Processes; the result does not depend on it."),
    _option(_RANDOM, "--replay", metavar="SCHEDULE", help="Run one schedule, as printed by a failure."),
    _option(_EXHAUSTIVE, "--exhaustive", is_flag=True,
            help="Messages are lost, late and reordered at will; the shortest run to a violation is told."),
    _option(_EXHAUSTIVE, "--terms", type=click.IntRange(1, 15), default=2, show_default=True,
            help="Nobody campaigns beyond this term."),
    _option(_EXHAUSTIVE, "--entries", type=_COUNT, default=2, show_default=True, help="Proposals."),
    _option(_EXHAUSTIVE, "--change", multiple=True, metavar="CHANGE",
            help="A configuration change, e.g. 'add 4' or 'remove 1, add 4'; again for one more, in order."),
    _option(_EXHAUSTIVE, "--lasting/--once", default=True, show_default=True,
            help="Messages arrive any number of times, at any time; or once, which is less, and slower."),
    _option(_EXHAUSTIVE, "--pre-vote", is_flag=True,
            help="Whoever campaigns asks first; without it more can happen, and faster."),
    _count("duplicates", "With --once: messages that arrive twice."),
    _count("crashes", "Crashes, each with a restart."),
    _count("slow-writes", "Writes during which other things happen."),
    _count("stalls", "Times that a state machine stands still."),
    _count("beats", "Heartbeats."),
    _count("reads", "Reads."),
    _count("transfers", "Transfers of leadership."),
    _count("batch", "Entries in one append at most, 0: as many as there are."),
    _option(_EXHAUSTIVE, "--memory-mb", type=click.IntRange(min=64), default=8192, show_default=True,
            help="Give up beyond this."),
)


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options of a search."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
