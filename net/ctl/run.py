"""Running a command line: find the command, read its flags, run it, turn what went wrong into a status."""

from __future__ import annotations

import gc
import signal
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

from tercet.core.errors import TercetError

from .command import Command, Program
from .context import Context, complain, write
from .failures import ERROR, Failure
from .find import UnknownCommand, all_flags, find
from .flagset import FlagError, Parsed, parse_flags

__all__ = ["HELD_SIGNALS", "run_program"]

#: The only one of etcd's APIs that there is here.
API_VERSION: Final = "3"
#: What a command that tidies up after itself takes; held back until it can.
HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_program(program: Program, words: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command line; its exit status."""
    name = program.root.name
    api = f"{program.prefix}_API"
    version = environment.get(api, "")
    environment = {name: word for name, word in environment.items() if name != api}
    if version not in ("", API_VERSION):
        complain(f"unsupported API version {version}\n")
        return ERROR
    try:
        path, rest = find(program, words)
    except UnknownCommand as error:
        complain(f"Error: {error}\nRun '{name} --help' for usage.\nError: {error}\n")
        return ERROR
    command = path[-1]
    try:
        if command.own_words:
            parsed = Parsed({}, rest)
        else:
            parsed = parse_flags(all_flags(program, path), rest)
    except FlagError as error:
        _help(program, path)
        complain(f"Error: {error}\n\nError: {error}\n")
        return ERROR
    if parsed.help or not command.run:
        _help(program, path)
        return 0
    module, _, function = command.run.partition(":")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_SIGNALS if command.holds_signals else ())
    act = getattr(import_module(f"tercet.net.ctl.{module}"), function)
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    try:
        act(Context(program, path, parsed, environment, list(words)))
    except Failure as failure:
        if failure.text:
            complain(f"Error: {failure.text}\n")
        return failure.status
    except TercetError as error:
        from .calls import error_text

        complain(f"Error: {error_text(error)}\n")
        return ERROR
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


def _help(program: Program, path: tuple[Command, ...]) -> None:
    from .usage import help_text

    write(help_text(program, path))
