"""What a planted bug is: a name, a story, and a way to put it in place of a part of the core for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from tercet.sim.explorer.exhaustive.scope import Scope

__all__ = ["Mutation", "replaced", "rerouted"]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A real bug from the history of Raft and etcd, ready to be planted.

    ``apply()`` is a context manager: inside it the bug is there, for the whole process; after it the
    shipped code is back, whatever happened.
    """

    name: str
    origin: str  # where the bug was first seen
    description: str  # what the mutated code does
    needs: str  # what a schedule must contain to show it
    apply: Callable[[], AbstractContextManager[None]]
    nodes: int = 5  # in which size of cluster the random explorer looks for it
    world: Literal["both", "simulated"] = "both"  # the explorer has no drivers, disks and clients
    scope: Scope | None = None  # in which an exhaustive search finds it
    outside: str = ""  # what it needs that no scope has; only without ``scope``


@contextmanager
def replaced(module: ModuleType | type, part: str, mutant: Callable[..., Any]) -> Iterator[None]:
    """Put ``mutant`` in place of the function ``part`` of a module or class.

    Raises:
        AttributeError: the module has no such part; nothing was replaced.
    """
    original = getattr(module, part)
    setattr(module, part, mutant)
    try:
        yield
    finally:
        setattr(module, part, original)


@contextmanager
def rerouted(table: dict[type, Callable[..., Any]], kind: type, mutant: Callable[..., Any]) -> Iterator[None]:
    """Put ``mutant`` in place of the handler of ``kind`` in one of the core's tables.

    Raises:
        KeyError: the table has no such kind; nothing was replaced.
    """
    original = table[kind]
    table[kind] = mutant
    try:
        yield
    finally:
        table[kind] = original
