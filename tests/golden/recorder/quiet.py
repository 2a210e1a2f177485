"""When nobody has anything left to do: a program that goes on for ever, and the servers that it talks to.

How long that takes is the machine's business, so it is not a pause of some length. A thread that wants the
processor or the disk is seen as such by the kernel, however long it has to wait for it; when none is, several
times in a row, and the program's use of the processor stands still, whatever could happen has happened.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["until", "wait_until_quiet"]

CALM_SAMPLES = 6
BETWEEN_SECONDS = 0.03
MOST_SECONDS = 60.0


def until(condition, seconds=MOST_SECONDS):
    """Ask until the answer is true; whether it ever was."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(BETWEEN_SECONDS)
    return True


def wait_until_quiet(program, servers, at_least=0.0):
    """Wait so long at least, and then until the program and the servers are at rest.

    Args:
        program: The process id of what is waited for, children included; None: the servers alone.
        servers: Process ids. They tick all the time, so that only what they want now counts.
        at_least: In seconds.
    """
    time.sleep(at_least)
    calm, spent = 0, -1

    def quiet():
        nonlocal calm, spent
        wants, now = _glimpse(program) if program is not None else (False, 0)
        at_rest = not wants and now == spent and not any(_glimpse(server)[0] for server in servers)
        calm, spent = calm + 1 if at_rest else 0, now
        return calm >= CALM_SAMPLES

    until(quiet)


def _glimpse(pid):
    """Whether a thread of a process or of its children wants something, and the ticks that all have used."""
    wants, spent = False, 0
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended
        return False, 0
    for thread in threads:
        folder = Path(f"/proc/{pid}/task/{thread}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            children = (folder / "children").read_text().split()
        except OSError:
            continue
        wants = wants or fields[0] in "RD"
        spent += int(fields[11]) + int(fields[12])
        for child in children:
            more = _glimpse(child)
            wants, spent = wants or more[0], spent + more[1]
    return wants, spent
