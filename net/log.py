"""Structured logs: one JSON object a line, shaped like the lines etcd's zap logger writes.

``level``, ``ts``, ``caller`` (module and line) and ``msg`` first, then the caller's fields in the order
given. Bytes are shown as text where they are text and as hexadecimal otherwise; an exception is shown as
``Type: message``. The logger never raises because of a value it cannot encode and never changes what the
program does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

__all__ = ["LEVELS", "JsonLog"]

#: Severity of each level; etcd's ``--log-level`` accepts the same words (and panic, which we never use).
LEVELS = {"debug": 0, "info": 1, "warn": 2, "error": 3, "dpanic": 4, "panic": 5, "fatal": 6}
_OWN = ("level", "ts", "caller", "msg")


class JsonLog:
    """Format and filter log lines.

    Args:
        write: takes one finished line, newline included.
        wall: Unix time in seconds, from the member's own clock.
        level: the lowest level that is written; one of ``LEVELS``.
        console: lines for people: time, level, message and fields, with tabs between them.

    Raises:
        ValueError: the level is unknown.
    """

    __slots__ = ("_console", "_lowest", "_wall", "_write")

    def __init__(
        self,
        write: Callable[[str], object],
        wall: Callable[[], float],
        level: str = "info",
        *,
        console: bool = False,
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f'unrecognized level: "{level}"')
        self._console = console
        self._write = write
        self._wall = wall
        self._lowest = LEVELS[level]

    def set_level(self, level: str) -> None:
        """Write from this level on; one of ``LEVELS``."""
        self._lowest = LEVELS[level]

    def enabled(self, level: str) -> bool:
        """Tell whether lines of this level are written: to spare the work of making one."""
        return LEVELS.get(level, LEVELS["error"]) >= self._lowest

    def log(self, level: str, message: str, fields: dict[str, object], caller: str = "") -> None:
        """Write one line, or nothing when the level is below the threshold.

        Args:
            caller: where in the program this is said, ``module:line``; "": not told.
        """
        if not self.enabled(level):
            return
        time = _timestamp(self._wall())
        readable = {f"{k}_" if k in _OWN else k: _readable(v) for k, v in fields.items()}
        if self._console:
            rest = f"\t{msgspec.json.encode(readable).decode()}" if readable else ""
            place = f"\t{caller}" if caller else ""
            self._write(f"{time}\t{level}{place}\t{' '.join(message.split())}{rest}\n")
            return
        where = {"caller": caller} if caller else {}
        line: dict[str, object] = {"level": level, "ts": time, **where, "msg": message, **readable}
        self._write(msgspec.json.encode(line).decode() + "\n")


def _readable(value: object) -> object:
    """Turn any value into one that JSON can show."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes() | bytearray() | memoryview():
            raw = bytes(value)
            return raw.decode() if raw.isascii() and raw.decode().isprintable() else raw.hex()
        case dict():
            return {str(key): _readable(item) for key, item in value.items()}
        case list() | tuple():
            return [_readable(item) for item in value]
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case _:
            return str(value)


def _timestamp(unix_seconds: float) -> str:
    """``2026-01-31T12:34:56.789Z``, as etcd 3.4 and later write it."""
    moment = datetime.fromtimestamp(unix_seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
