"""What a command is: a name, a usage line, flags, and where the function is that does it.

Tables of commands are data (``etcdctl_table``, ``etcdutl_table``); the functions are imported when they are
called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .flagset import Flag

__all__ = ["Command", "Program"]


class Command(NamedTuple):
    """One command. ``run`` is ``module:function`` below ``tercet.net.ctl``, empty for a mere group."""

    use: str  # the name, then the arguments as the usage line shows them
    short: str
    run: str = ""
    long: str = ""
    flags: tuple[Flag, ...] = ()
    inherited: tuple[Flag, ...] = ()  # also valid for all sub-commands, shown only here
    children: tuple[Command, ...] = ()
    aliases: tuple[str, ...] = ()
    plain_usage: bool = False  # the usage line has no "[flags]"
    own_words: bool = False  # its flags are its own affair: everything is an argument
    hidden: bool = False
    holds_signals: bool = False  # an interrupt must not end it before it can tidy up

    @property
    def name(self) -> str:
        return self.use.partition(" ")[0]

    def child(self, word: str) -> Command | None:
        """The sub-command of that name or alias, or the only one that begins so."""
        near = []
        for command in self.children:
            if word == command.name or word in command.aliases:
                return command
            if any(name.startswith(word) for name in (command.name, *command.aliases)):
                near.append(command)
        return near[0] if len(near) == 1 else None

    def leaves(self, path: str = "") -> Iterator[tuple[str, Command]]:
        """All commands below that do something, with their paths, in alphabetical order."""
        for command in sorted(self.children, key=lambda one: one.name):
            below = f"{path} {command.name}".strip()
            if command.hidden:
                continue
            if command.children:
                yield from command.leaves(below)
            else:
                yield below, command


class Program(NamedTuple):
    """A whole command line. ``flags`` are the global ones; ``prefix`` that of its environment variables."""

    root: Command
    version: str  # the help text's VERSION
    api_version: str
    flags: tuple[Flag, ...]
    prefix: str

    def path(self, words: tuple[str, ...]) -> tuple[Command, ...]:
        """The commands from the root down to the one that ``words`` name."""
        commands = [self.root]
        for word in words:
            child = commands[-1].child(word)
            if child is None:
                break
            commands.append(child)
        return tuple(commands)
