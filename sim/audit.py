"""Name every escape from the simulated world to the real machine.

Two nets. An audit hook (``sys.addaudithook``: it cannot be removed, so there is one for the process and it
sleeps outside runs) sees files, sockets, processes and sleeps. What raises no audit event, that is reading
clocks, ``os.urandom``, starting threads and handing work to Trio's cached ones, is replaced by a function
that refuses, for the length of a run.

An escape raises ``Escape`` where it happens and is also remembered, so a program that swallows the error
still fails its run. Allowed, because they cannot change what a run does: the import system reading modules,
``linecache`` reading sources for a traceback, and Trio asking whether an address is numeric. Not seen:
``datetime.now``, and a clock function that a module copied with ``from time import ...`` before the run.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import trio

__all__ = ["Escape", "guard", "harness"]

_FORBIDDEN = (
    "open", "os.", "socket.", "subprocess.", "time.sleep", "fcntl.", "mmap.", "tempfile.",
    "shutil.", "urllib.", "sqlite3.", "signal.", "pty.", "ftplib.", "http.client", "smtplib.", "ssl.",
)  # fmt: skip
_HARMLESS = frozenset({"os.putenv", "os.unsetenv", "os.add_dll_directory"})
_READERS = frozenset({"importlib._bootstrap", "importlib._bootstrap_external", "linecache", "zipimport"})
_CLOCKS = (
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time",
    "process_time_ns", "thread_time", "thread_time_ns", "sleep", "clock_gettime", "clock_gettime_ns",
)  # fmt: skip
_MINE = (__name__, "contextlib")


class Escape(RuntimeError):
    """A program in the simulated world reached for the real machine; the text names call and caller."""


_escapes: list[str] | None = None  # the list of the run that is guarded; None outside runs
_installed = False


@contextmanager
def guard(escapes: list[str], entropy: Callable[[int], bytes] | None = None) -> Iterator[None]:
    """Turn escapes in the body into ``Escape`` and add each one's text to ``escapes``.

    Args:
        entropy: what ``os.urandom`` gives instead; None: it is an escape, too.
    """
    global _escapes, _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    patches = _patches(entropy)
    saved = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, replacement in patches:
        setattr(owner, name, replacement)
    outer, _escapes = _escapes, escapes
    try:
        yield
    finally:
        _escapes = outer
        for owner, name, original in saved:
            setattr(owner, name, original)


@contextmanager
def harness() -> Iterator[None]:
    """Let the harness itself (not a program in the world) touch the machine, e.g. to show progress."""
    global _escapes
    saved, _escapes = _escapes, None
    try:
        yield
    finally:
        _escapes = saved


def _patches(entropy: Callable[[int], bytes] | None) -> list[tuple[Any, str, Any]]:
    rows: list[tuple[Any, str, Any]] = [
        (time, name, _refuser(f"time.{name}", getattr(time, name))) for name in _CLOCKS if hasattr(time, name)
    ]
    urandom = entropy or _refuser("os.urandom", os.urandom)
    rows += [(os, "urandom", urandom), (random, "_urandom", urandom)]
    start = threading.Thread.start
    rows.append((threading.Thread, "start", _refuser("threading.Thread.start", start)))
    rows.append((trio.to_thread, "run_sync", _refuser("trio.to_thread.run_sync", trio.to_thread.run_sync)))
    return rows


def _refuser(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        if _escapes is None:
            return original(*args, **kwargs)
        return _report(name, sys._getframe(1))

    return refuse


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _escapes is None or not event.startswith(_FORBIDDEN) or event in _HARMLESS:
        return
    frame: FrameType | None = sys._getframe(1)
    walk = frame
    while walk is not None:
        module = walk.f_globals.get("__name__")
        if module in _READERS or (module == "trio._socket" and event == "socket.getaddrinfo"):
            return
        walk = walk.f_back
    what = f"{event}({args[0]!r})" if args and isinstance(args[0], str | int) else event
    _report(what, frame)


def _report(what: str, frame: FrameType | None) -> None:
    while frame is not None and frame.f_globals.get("__name__") in _MINE:
        frame = frame.f_back
    where = "?" if frame is None else f"{frame.f_globals.get('__name__')}:{frame.f_lineno}"
    text = f"{what} called from {where}"
    if _escapes is not None and len(_escapes) < 100:
        _escapes.append(text)
    raise Escape(text)
