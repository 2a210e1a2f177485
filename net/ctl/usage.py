"""Help texts: name, usage, commands, description, options, global options, in aligned columns."""

from __future__ import annotations

from collections.abc import Iterable

from .command import Command, Program
from .flagset import Flag, default_text
from .tabwriter import align
from .text import quoted

__all__ = ["help_text", "usage_text"]


def help_text(program: Program, path: tuple[Command, ...], help_flag: bool = True) -> str:
    """The help of the last command in ``path``, which begins with the root; maybe without ``--help``."""
    command, is_root = path[-1], len(path) == 1
    name = " ".join(one.name for one in path[1:]) or program.root.name
    usage = " ".join([*(one.name for one in path[:-1]), command.use])
    if not command.plain_usage:
        usage += " [flags]"
    sections = [f"NAME:\n\t{name} - {command.short}\n", f"USAGE:\n\t{usage}\n"]
    if is_root:
        sections.append(f"VERSION:\n\t{program.version}\n")
    if command.children:
        listed = command.leaves() if is_root else _children(command)
        lines = "".join(f"\t{where}\t{one.short}\n" for where, one in listed)
        sections += [f"API VERSION:\n\t{program.api_version}\n\n", f"COMMANDS:\n{lines}"]
    if command.long:
        sections.append("DESCRIPTION:\n" + "".join(f"\t{line}\n" for line in command.long.split("\n")))
    own = program.flags if is_root else (*command.flags, *command.inherited)
    if help_flag:
        own = (*own, Flag("help", "bool", False, f"help for {command.name}", "h"))
    sections.append("OPTIONS:\n" + _options(own))
    if not is_root:
        above = (flag for one in path[:-1] for flag in one.inherited)
        sections.append("GLOBAL OPTIONS:\n" + _options((*program.flags, *above)))
    return align("\n".join(sections) + "\n")


def usage_text(command: Command) -> str:
    """The shorter usage that a line of a transaction is answered with when its flags are wrong."""
    flags = (*command.flags, Flag("help", "bool", False, f"help for {command.name}", "h"))
    rows = [_usage_row(flag) for flag in sorted(flags, key=lambda one: one.name) if not flag.hidden]
    width = max(len(left) for left, _ in rows) + 3
    lines = "".join(f"{left:{width}}{right}\n" for left, right in rows)
    return f"Usage:\n   {command.use} [flags]\n\nFlags:\n{lines}\n"


def _usage_row(flag: Flag) -> tuple[str, str]:
    left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
    if flag.kind != "bool":
        left += f" {flag.kind}"
    default = f" (default {quoted(flag.default)})" if isinstance(flag.default, str) and flag.default else ""
    return left, flag.text + default


def _children(command: Command) -> list[tuple[str, Command]]:
    shown = [one for one in command.children if not one.hidden]
    return [(one.name, one) for one in sorted(shown, key=lambda one: one.name)]


def _options(flags: Iterable[Flag]) -> str:
    lines = []
    for flag in sorted(flags, key=lambda one: one.name):
        if not flag.hidden:
            short = f"-{flag.short}, " if flag.short else "    "
            lines.append(f"  {short}--{flag.name}{default_text(flag)}\t{flag.text}\n")
    return "".join(lines)
