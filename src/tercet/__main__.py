"""The command line: ``tercet [etcd's flags]`` runs a member, ``tercet COMMAND`` everything else.

Commands are imported when they are called: a member starts without loading the simulator or the checkers.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Final, NoReturn

__all__ = ["COMMANDS", "SIM_COMMANDS", "main"]

#: Command -> the module and the click object that do it. ``sim`` has commands of two modules.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "cluster": ("tercet.net.cluster", "cluster"),
    "campaign": ("tercet.jepsen_like.campaign_commands", "campaign"),
    "check": ("tercet.jepsen_like.commands", "check"),
    "trace": ("tercet.reports.commands", "trace"),
    "bench": ("tercet.jepsen_like.bench.commands", "bench"),
    "fuzz": ("tercet.jepsen_like.fuzz", "fuzz_command"),
    "gateway": ("tercet.net.proxy_commands", "gateway"),
    "grpc-proxy": ("tercet.net.grpc_proxy.command", "grpc_proxy"),
    "openapi": ("tercet.net.server.openapi", "openapi"),
}
SIM_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("tercet.jepsen_like.sim_commands", "run"),
    "explore": ("tercet.jepsen_like.sim_commands", "explore"),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line given, or the process's own, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words else ""
    if command == "sim":
        _sim(words[1:])
    if command in COMMANDS:
        module, name = COMMANDS[command]
        _click(module, name, words[1:], f"tercet {command}")
    if command and not command.startswith("-"):
        sys.stderr.write(f"tercet: unknown command {command!r}; see 'tercet --help'\n")
        sys.exit(1)
    gc.disable()  # there is no garbage in importing, and looking for it takes a tenth of it
    from tercet.net.process import run_command_line

    gc.enable()
    sys.exit(run_command_line(words, os.environ))


def _sim(words: list[str]) -> NoReturn:
    if words and words[0] in SIM_COMMANDS:
        module, name = SIM_COMMANDS[words[0]]
        _click(module, name, words[1:], f"tercet sim {words[0]}")
    out = sys.stdout if words in ([], ["--help"]) else sys.stderr
    out.write(
        "Usage: tercet sim COMMAND [OPTIONS]...\n\n"
        "  run      simulate a whole cluster with clients and faults from one integer, and check it\n"
        "  explore  search schedules of the bare core, at random or all of a small scope\n\n"
        "Try: tercet sim run --seed 7 --seconds 6 --trace run.trace && tercet trace export run.trace\n"
    )
    sys.exit(0 if out is sys.stdout else 2)


def _click(module: str, name: str, words: list[str], shown_as: str) -> NoReturn:
    command: Callable[..., object] = getattr(import_module(module), name)
    command(args=words, prog_name=shown_as)
    sys.exit(0)


if __name__ == "__main__":
    main()
