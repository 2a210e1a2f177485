"""Which command a command line means, and what to say when it means none."""

from __future__ import annotations

from collections.abc import Sequence

from .command import Command, Program
from .flagset import Flag
from .text import quoted

__all__ = ["UnknownCommand", "all_flags", "find", "suggestions"]

DISTANCE_MAX = 2


class UnknownCommand(Exception):
    """No command of that name; the text has suggestions."""


def all_flags(program: Program, path: tuple[Command, ...]) -> dict[str, Flag]:
    """Every flag that the last command of ``path`` takes, by name."""
    flags = {flag.name: flag for flag in program.flags}
    for command in path:
        flags.update((flag.name, flag) for flag in command.inherited)
    flags.update((flag.name, flag) for flag in path[-1].flags)
    return flags


def find(program: Program, words: Sequence[str]) -> tuple[tuple[Command, ...], list[str]]:
    """The commands from the root to the one that is meant, and the other words.

    A flag that is not known here is taken to have a value, as the word behind it.

    Raises:
        UnknownCommand: The first argument is no command.
    """
    path: tuple[Command, ...] = (program.root,)
    rest = list(words)
    while path[-1].children:
        position = _argument(all_flags(program, path), rest)
        child = path[-1].child(rest[position]) if position is not None else None
        if child is None or position is None:
            break
        del rest[position]
        path = (*path, child)
        if child.own_words:
            break
    if len(path) == 1:
        position = _argument(all_flags(program, path), rest)
        if position is not None:
            word = rest[position]
            text = f'unknown command {quoted(word)} for "{program.root.name}"'
            likely = suggestions(program.root, word)
            if likely:
                text += "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in likely)
            raise UnknownCommand(text)
    return path, rest


def _argument(flags: dict[str, Flag], words: list[str]) -> int | None:
    """Where the first word is that is neither a flag nor a flag's value."""
    shorts = {flag.short: flag for flag in flags.values() if flag.short}
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            return None
        if word.startswith("--"):
            flag = flags.get(word[2:])
            takes_next = "=" not in word and word != "--help" and not (flag and flag.kind == "bool")
        elif word.startswith("-"):
            flag = shorts.get(word[1:])
            takes_next = len(word) == 2 and word not in ("-h", "-=") and not (flag and flag.kind == "bool")
        elif word:
            return position
        else:
            takes_next = False
        position += 2 if takes_next else 1
    return None


def suggestions(command: Command, typed: str) -> list[str]:
    """Names of sub-commands that are nearly ``typed``, or begin with it."""
    return [
        child.name
        for child in command.children
        if not child.hidden
        and (
            _distance(typed.lower(), child.name.lower()) <= DISTANCE_MAX
            or child.name.lower().startswith(typed.lower())
        )
    ]


def _distance(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for index, letter in enumerate(one, 1):
        before, row[0] = row[0], index
        for column, wanted in enumerate(other, 1):
            before, row[column] = row[column], min(
                row[column] + 1, row[column - 1] + 1, before + (letter != wanted)
            )
    return row[-1]
