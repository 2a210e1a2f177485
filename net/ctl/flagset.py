"""Flags as Go programs with POSIX flags take them: ``--name=v``, ``--name v``, ``-n v``, ``-nv``, ``-abc``.

Flags and arguments may be mixed until ``--``. A flag of kind ``bool`` needs no value. Errors are
``FlagError`` with the text that such programs print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from .text import duration_text, parse_bool, parse_duration, parse_int, parse_uint, quoted

__all__ = [
    "Flag", "FlagError", "Parsed", "Value", "bool_flag", "default_text", "flag_value", "parse_flags",
    "text_flag",
]

Value: TypeAlias = bool | str | int | float | tuple[str, ...]


class FlagError(ValueError):
    """A flag that does not exist, or a value that it does not take."""


class Flag(NamedTuple):
    """One flag. ``kind``: bool, string, int, uint, duration (seconds) or strings; hidden ones are newer
    than the help text that users know."""

    name: str
    kind: str
    default: Value
    text: str
    short: str = ""
    hidden: bool = False


def bool_flag(name: str, text: str, default: bool = False, short: str = "", hidden: bool = False) -> Flag:
    """A flag that is true when it is named."""
    return Flag(name, "bool", default, text, short, hidden)


def text_flag(name: str, text: str, default: str = "", short: str = "", hidden: bool = False) -> Flag:
    """A flag with a text."""
    return Flag(name, "string", default, text, short, hidden)


#: What every command has.
HELP: Final = bool_flag("help", "", short="h")


class Parsed:
    """What a command line said: the values that were given, and the arguments between them.

    ``dash`` is where ``--`` stood among the arguments, -1 when there was none. ``help``: it was asked for.
    """

    __slots__ = ("arguments", "dash", "given", "help")

    def __init__(self, given: dict[str, Value], arguments: list[str]) -> None:
        self.given = given
        self.arguments = arguments
        self.dash = -1
        self.help = False


def flag_value(flag: Flag, word: str) -> Value:
    """Read a value. Raises ``ValueError`` with Go's text."""
    if flag.kind == "bool":
        return parse_bool(word)
    if flag.kind == "int":
        return parse_int(word, 0)
    if flag.kind == "uint":
        return parse_uint(word, 0)
    if flag.kind == "duration":
        return parse_duration(word)
    if flag.kind == "strings":
        return tuple(word.split(",")) if word else ()
    return word


def default_text(flag: Flag) -> str:
    """The default as help texts show it, with its equals sign."""
    value = flag.default
    if isinstance(value, bool):
        return f"[={'true' if value else 'false'}]"
    if isinstance(value, tuple):
        return f"=[{','.join(value)}]"
    if flag.kind == "duration":
        return f"={duration_text(float(str(value)))}"
    return f"={quoted(value)}" if isinstance(value, str) else f"={value}"


def parse_flags(flags: Mapping[str, Flag], words: Sequence[str]) -> Parsed:
    """Take a command's words apart.

    Args:
        flags: The command's own and inherited flags, by name.
        words: Everything behind the command's name.

    Raises:
        FlagError: See above.
    """
    flags = {HELP.name: HELP, **flags}
    shorts = {flag.short: flag for flag in flags.values() if flag.short}
    parsed = Parsed({}, [])
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if len(word) < 2 or word[0] != "-":
            parsed.arguments.append(word)
        elif word == "--":
            parsed.dash = len(parsed.arguments)
            parsed.arguments += rest
            break
        elif word.startswith("--"):
            _long(flags, word, rest, parsed)
        else:
            _shorts(shorts, word, rest, parsed)
    parsed.help = bool(parsed.given.pop(HELP.name, False))
    return parsed


def _long(flags: Mapping[str, Flag], word: str, rest: list[str], parsed: Parsed) -> None:
    name, equals, value = word[2:].partition("=")
    if not name or name[0] in "-=":
        raise FlagError(f"bad flag syntax: {word}")
    flag = flags.get(name)
    if flag is None:
        raise FlagError(f"unknown flag: --{name}")
    if not equals:
        if flag.kind == "bool":
            value = "true"
        elif rest:
            value = rest.pop(0)
        else:
            raise FlagError(f"flag needs an argument: {word}")
    _set(flag, value, parsed)


def _shorts(shorts: Mapping[str, Flag], word: str, rest: list[str], parsed: Parsed) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = shorts.get(letter)
        if flag is None:
            raise FlagError(f"unknown shorthand flag: {_rune(letter)} in -{letter}{letters}")
        if letters[:1] == "=" and len(letters) > 1:
            value, letters = letters[1:], ""
        elif flag.kind == "bool":
            value = "true"
        elif letters:
            value, letters = letters, ""
        elif rest:
            value = rest.pop(0)
        else:
            raise FlagError(f"flag needs an argument: {_rune(letter)} in {word}")
        _set(flag, value, parsed)


def _rune(letter: str) -> str:
    return "'" + quoted(letter)[1:-1].replace('\\"', '"') + "'"


def _set(flag: Flag, word: str, parsed: Parsed) -> None:
    try:
        value = flag_value(flag, word)
    except ValueError as error:
        shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
        raise FlagError(f'invalid argument {quoted(word)} for "{shown}" flag: {error}') from None
    if isinstance(value, tuple):
        before = parsed.given.get(flag.name, ())
        value = (before if isinstance(before, tuple) else ()) + value
    parsed.given[flag.name] = value
