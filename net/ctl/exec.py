"""Commands that a command line runs for its user, and how Go programs word their failures."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import trio

from .text import quoted

__all__ = ["run_command"]

#: Go's words for the signals that end a process.
_SIGNALS: Final = {
    signal.SIGHUP: "hangup", signal.SIGINT: "interrupt", signal.SIGQUIT: "quit",
    signal.SIGABRT: "aborted", signal.SIGKILL: "killed", signal.SIGSEGV: "segmentation fault",
    signal.SIGPIPE: "broken pipe", signal.SIGALRM: "alarm clock", signal.SIGTERM: "terminated",
}  # fmt: skip


async def run_command(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command with our output as its own; why it failed, "" when it did not."""
    try:
        done = await trio.run_process(
            list(command), check=False, env=dict(environment), stdin=subprocess.DEVNULL
        )
    except OSError as error:
        if "/" not in command[0] and isinstance(error, FileNotFoundError):
            return f"exec: {quoted(command[0])}: executable file not found in $PATH"
        return f"fork/exec {command[0]}: {(error.strerror or '').lower()}"
    if done.returncode == 0:
        return ""
    if done.returncode > 0:
        return f"exit status {done.returncode}"
    return f"signal: {_SIGNALS.get(signal.Signals(-done.returncode), -done.returncode)}"
