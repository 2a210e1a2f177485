"""Where a process's log goes: ``--log-outputs`` names standard error, standard output, or files.

A file is opened once, for appending, and lines are written whole; a full disk or a closed terminal must not
stop a member, so what cannot be written is lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

__all__ = ["open_outputs"]

_STANDARD = {"default": 2, "stderr": 2, "stdout": 1, "systemd/journal": 2}


def open_outputs(outputs: Sequence[str]) -> Callable[[str], None]:
    """A function that writes one line, newline included, to every output.

    Raises:
        OSError: a file cannot be opened; the text says which and why.
    """
    descriptors: dict[int, None] = {}
    for output in outputs or ("default",):
        descriptor = _STANDARD.get(output)
        descriptors[_open(output) if descriptor is None else descriptor] = None
    return lambda line: _write(tuple(descriptors), line)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise OSError(problem.errno, f'open sink "{path}": open {path}: {reason}') from None


def _write(descriptors: tuple[int, ...], line: str) -> None:
    data = line.encode(errors="backslashreplace")
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.write(descriptor, data)
