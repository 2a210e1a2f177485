"""``help``."""

from __future__ import annotations

import contextlib

from .command import Command
from .context import Context, complain, write
from .find import UnknownCommand, find
from .usage import help_text

__all__ = ["help"]


def help(context: Context) -> None:
    """``help [command]``: the root's help when there is no such command."""
    path: tuple[Command, ...] = (context.program.root,)
    rest = context.arguments
    with contextlib.suppress(UnknownCommand):
        path, rest = find(context.program, context.arguments)
    unknown = bool(rest) and len(path) == 1
    if unknown:
        topic = " ".join(f"`{word}`" for word in context.arguments)
        complain(f"Unknown help topic [{topic}]\n")
    write(help_text(context.program, path, help_flag=not unknown))
