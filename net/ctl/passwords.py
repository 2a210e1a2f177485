"""Passwords from a terminal without showing them, or from a pipe."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Iterator

from .context import write
from .failures import BAD_ARGS, Failure

__all__ = ["ask_password", "new_password", "piped_password"]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The terminal shows nothing of what is typed; a pipe never does."""
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):
        yield
        return
    after = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, after)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


def _line() -> str:
    return sys.stdin.buffer.readline().decode("utf-8", "surrogateescape").rstrip("\r\n")


def ask_password(prompt: str) -> str:
    """Ask once; an empty answer is an answer."""
    with _silent():  # first: what was typed before the prompt is thrown away
        write(prompt)
        secret = _line()
    write("\n")
    return secret


def new_password(user: str) -> str:
    """Ask twice for a new password. Fails when it is empty or the two differ."""
    first = ask_password(f"Password of {user}: ")
    if not first:
        raise Failure(BAD_ARGS, "empty password")
    if ask_password(f"Type password of {user} again for confirmation: ") != first:
        raise Failure(BAD_ARGS, "given passwords are different")
    return first


def piped_password() -> str:
    """The first word of standard input."""
    words = _line().split()
    return words[0] if words else ""
