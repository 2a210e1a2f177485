"""Fail points of a real member: named places where a test may have it sleep or die, over a port of their own.

The port, the names and the terms are those of ``gofail``, which etcd's robustness tests use: ``GOFAIL_HTTP``
names the address (nothing of this exists without it), ``GOFAIL_FAILPOINTS`` what is set at the start.
``GET /`` lists ``name=terms``, ``PUT /name`` sets, ``DELETE /name`` clears. A term is ``off``, ``panic``,
``sleep(ms)`` or ``sleep("1s")``, with ``N*`` in front for the first N times, or ``P%`` for a share of them;
``->`` separates terms, each of which is used up before the next counts. ``return`` has nothing to return to
here and does nothing. The names are etcd's where there is such a place; each stands for one of ours.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .config import MemberConfig
from .flag_values import parse_duration
from .server.http_pages import TEXT, Answer, Request, plain_error
from .world import World

__all__ = ["PLACES", "FailPoints"]

#: etcd's name -> the point of ours (``Probe.point``).
PLACES: Final[Mapping[str, str]] = {
    "raftBeforeSave": "wal.append.before",
    "raftAfterSave": "wal.append.after",
    "raftAfterWALRelease": "wal.release.removed",
    "raftBeforeApplySnap": "keeper.install.staged",
    "raftAfterApplySnap": "keeper.install.done",
    "applyBeforeOpenSnapshot": "keeper.install.renamed",
    "raftBeforeSaveSnap": "keeper.install.durable",
    "raftAfterSaveSnap": "keeper.release.announced",
    "beforeCommit": "keeper.commit.before",
    "afterCommit": "keeper.commit.after",
    "defragBeforeCopy": "keeper.defragment.before",
    "defragBeforeRename": "keeper.defragment.after",
}
_TERM: Final = re.compile(
    r"(?:(\d+)\*|(\d+(?:\.\d+)?)%)?(off|panic|sleep|return|print|break)(?:\((.*)\))?"
)


@dataclass(slots=True)
class _Term:
    action: str
    seconds: float = 0.0
    left: int = -1  # times it still counts; -1: always
    share: float = 1.0


def _read_terms(text: str) -> list[_Term]:
    """Raises ``ValueError``: these are no terms."""
    found: list[_Term] = []
    for part in text.strip().split("->"):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"failpoint: could not parse {part.strip()!r}")
        count, share, action, argument = match.groups()
        seconds = 0.0
        if action == "sleep":
            word = (argument or "").strip('"')
            seconds = int(word) / 1000 if word.isdecimal() else parse_duration(word)
        part_of = float(share) / 100 if share else 1.0
        found.append(_Term(action, seconds, int(count) if count else -1, part_of))
    return found


class FailPoints:
    """What is set, by etcd's names, and the page that sets it (``net.server.http_pages.Site``)."""

    gateway: Final = None
    config: Final = MemberConfig()

    def __init__(self, initial: str = "") -> None:
        self._terms: dict[str, tuple[str, list[_Term]]] = {}
        self._names: dict[str, list[str]] = {}
        for name, place in PLACES.items():
            self._names.setdefault(place, []).append(name)
        for part in filter(None, initial.split(";")):
            name, _, text = part.partition("=")
            self.set(name.strip(), text)

    def set(self, name: str, text: str) -> None:
        """Set a point; ``ValueError`` when there is none of that name, or the terms cannot be read."""
        if name not in PLACES:
            raise ValueError(f"failpoint: failpoint {name} does not exist")
        self._terms[name] = text.strip(), _read_terms(text)

    def clear(self, name: str) -> bool:
        """Clear a point; whether it was set."""
        return self._terms.pop(name, None) is not None

    def reach(self, place: str) -> None:
        """The program has come to one of our points: do what is set there."""
        for name in self._names.get(place, ()) if self._terms else ():
            _, terms = self._terms.get(name, ("", []))
            self._do(name, terms)

    def _do(self, name: str, terms: Iterable[_Term]) -> None:
        for term in terms:
            if not term.left:
                continue
            if term.share < 1.0 and random.random() >= term.share:
                return
            term.left -= term.left > 0
            if term.action == "sleep":
                time.sleep(term.seconds)
            elif term.action == "panic":
                sys.stderr.write(f"panic: failpoint panic: {name}\n")
                sys.stderr.flush()
                os._exit(2)
            return

    async def answer(self, world: World, request: Request) -> Answer:
        """The response to a request."""
        name = request.path.lstrip("/")
        if request.method == "GET":
            if name and name not in self._terms:
                return plain_error(404, f"failed to GET: failpoint: failpoint {name} is disabled")
            lines = [f"{one}={self._terms.get(one, ('', []))[0]}\n" for one in sorted(PLACES)]
            return Answer(200, [TEXT], (f"{self._terms[name][0]}\n" if name else "".join(lines)).encode())
        if request.method == "PUT":
            try:
                self.set(name, request.body.decode("utf-8", "replace"))
            except ValueError as problem:
                return plain_error(400, f"failed to set failpoint {name}: {problem}")
            return Answer(204, [])
        if request.method == "DELETE":
            if self.clear(name):
                return Answer(204, [])
            return plain_error(400, f"failed to delete failpoint {name}: failpoint: failpoint is disabled")
        return plain_error(405, "Method not allowed")
