"""Files on the machine of whoever types a command: snapshots are read from it and written to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tercet.core.bbolt import DamagedDatabase
from tercet.core.bbolt import Read as Read

from .failures import ERROR, INTERRUPTED, Failure

__all__ = ["PartFile", "opened", "reason"]


def reason(problem: OSError) -> str:
    """An error's reason as Go words it."""
    return (problem.strerror or str(problem)).lower()


@contextmanager
def opened(path: str, asked: str = "open") -> Iterator[tuple[Read, int]]:
    """A file as a function that gives bytes by position, and its size.

    Args:
        path: Of the file.
        asked: What a failure says was tried.

    Raises:
        Failure: There is no such file, or the body found no database in it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise Failure(ERROR, f"{asked} {path}: {reason(problem)}") from None
    try:
        yield (lambda offset, length: os.pread(descriptor, length, offset)), os.fstat(descriptor).st_size
    except DamagedDatabase:
        raise Failure(ERROR, "invalid database") from None
    except OSError as problem:  # it cannot be read
        raise Failure(ERROR, f"open {path}: {reason(problem)}") from None
    finally:
        os.close(descriptor)


class PartFile:
    """A file that has its name only once it is whole: written as ``PATH.part``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.part = path + ".part"
        try:
            self._descriptor = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise Failure(
                INTERRUPTED, f"could not open {self.part} (open {self.part}: {reason(problem)})"
            ) from None

    def write(self, data: bytes) -> None:
        """Append. Raises ``Failure`` when the disk is full or broken."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as problem:
            raise Failure(INTERRUPTED, f"write {self.part}: {reason(problem)}") from None

    def finish(self) -> None:
        """Make it durable under its name."""
        try:
            os.fsync(self._descriptor)
            os.replace(self.part, self._path)
        except OSError as problem:
            why = "file exists" if isinstance(problem, IsADirectoryError) else reason(problem)
            both = f"{self.part} {self._path}"
            raise Failure(
                INTERRUPTED, f"could not rename {self.part} to {self._path} (rename {both}: {why})"
            ) from None

    def close(self) -> None:
        """Close, and remove what was not finished."""
        os.close(self._descriptor)
        if os.path.exists(self.part):
            os.unlink(self.part)
