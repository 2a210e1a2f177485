"""A log file that is put aside when it has grown: ``--enable-log-rotation``.

What is put aside keeps its name with the time in it (``etcd-2026-01-31T12-34-56.789.log``), in the same
folder; those that are too many or too old go, and with ``compress`` each becomes a ``.gz``. The file in use
has always the name that was asked for. A disk that refuses must not stop a member: then it just grows on.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

__all__ = ["RotatingFile", "Rotation", "read_rotation"]

_MIB: Final = 1 << 20
_STAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}")


class Rotation(msgspec.Struct, frozen=True):
    """When a file is put aside, and what becomes of it."""

    maxsize: int = 100  # MiB; 0: 100
    maxage: int = 0  # days that files put aside are kept; 0: for ever
    maxbackups: int = 0  # how many are kept; 0: all
    localtime: bool = False  # their names have the local time
    compress: bool = False


def read_rotation(text: str) -> Rotation:
    """Read the flag's JSON; "" is the default. ``ValueError`` in etcd's words."""
    if not text:
        return Rotation()
    try:
        return msgspec.json.decode(text, type=Rotation)
    except msgspec.ValidationError as problem:
        raise ValueError(f"invalid log rotation config: {problem}") from None
    except msgspec.DecodeError as problem:
        raise ValueError(f"improperly formatted log rotation config: {problem}") from None


class RotatingFile:
    """One file; ``write`` appends whole lines.

    Args:
        now: the time, for names and ages.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, rotation: Rotation, now: Callable[[], datetime]) -> None:
        self._path = path
        self._rotation = rotation
        self._limit = (rotation.maxsize or 100) * _MIB
        self._now = now
        self._open()

    def write(self, data: bytes) -> None:
        """Append ``data``, to a new file when the present one would grow beyond its size."""
        if self._size and self._size + len(data) > self._limit:
            with contextlib.suppress(OSError):
                self._put_aside()
        with contextlib.suppress(OSError):
            self._size += os.write(self._descriptor, data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _put_aside(self) -> None:
        now = self._now()
        shown = now.astimezone() if self._rotation.localtime else now.astimezone(UTC)
        stem, extension = os.path.splitext(self._path)
        aside = f"{stem}-{shown:%Y-%m-%dT%H-%M-%S}.{shown.microsecond // 1000:03d}{extension}"
        os.rename(self._path, aside)
        old = self._descriptor
        self._open()
        os.close(old)
        if self._rotation.compress:
            _compress(aside)
        self._tidy(now)

    def _tidy(self, now: datetime) -> None:
        """Remove what is too old, or one too many."""
        folder, name = os.path.split(self._path)
        stem, extension = os.path.splitext(name)
        shape = re.compile(re.escape(f"{stem}-") + _STAMP.pattern + re.escape(extension) + r"(\.gz)?")
        aside = sorted((one for one in os.listdir(folder or ".") if shape.fullmatch(one)), reverse=True)
        rotation = self._rotation
        oldest = (now - timedelta(days=rotation.maxage)).timestamp()
        for place, one in enumerate(aside):
            path = os.path.join(folder, one)
            too_old = rotation.maxage and os.stat(path).st_mtime < oldest
            if too_old or (rotation.maxbackups and place >= rotation.maxbackups):
                os.unlink(path)


def _compress(path: str) -> None:
    import gzip  # only here: a command line, which logs too, has to start quickly
    import shutil

    with open(path, "rb") as source, gzip.open(f"{path}.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    os.unlink(path)
