"""Where a process's log goes: ``--log-outputs`` names standard error, standard output, or files.

A file is opened once, for appending, and lines are written whole; a full disk or a closed terminal must not
stop a member, so what cannot be written is lost. With a rotation the file is put aside when it has grown.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from .log_rotation import RotatingFile, Rotation

__all__ = ["open_outputs"]

_STANDARD = {"default": 2, "stderr": 2, "stdout": 1, "systemd/journal": 2}


def open_outputs(outputs: Sequence[str], rotation: Rotation | None = None) -> Callable[[str], None]:
    """A function that writes one line, newline included, to every output.

    Args:
        rotation: of files; None: they grow for ever.

    Raises:
        OSError: a file cannot be opened; the text says which and why.
    """
    writers: dict[int | str, Callable[[bytes], object]] = {}
    for output in outputs or ("default",):
        descriptor = _STANDARD.get(output)
        if descriptor is not None:
            writers[descriptor] = partial(os.write, descriptor)
        else:
            writers[output] = _open(output, rotation)

    def write(line: str) -> None:
        data = line.encode(errors="backslashreplace")
        for writer in writers.values():
            with contextlib.suppress(OSError):
                writer(data)

    return write


def _open(path: str, rotation: Rotation | None) -> Callable[[bytes], object]:
    try:
        if rotation is not None:
            return RotatingFile(path, rotation, lambda: datetime.now(UTC)).write
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return partial(os.write, os.open(path, flags, 0o600))
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise OSError(problem.errno, f'open sink "{path}": open {path}: {reason}') from None
