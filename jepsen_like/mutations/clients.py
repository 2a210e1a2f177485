"""Planted bugs that clients see as lost or doubled writes: B35 and B36 of the bug zoo."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tercet.core.raft import Entry, SnapshotMeta, starting
from tercet.core.raft.log import Log
from tercet.net.client import Client

from .mutation import Mutation, replaced

__all__ = ["MUTATIONS"]

_call = Client.call
_log = starting._log


async def _call_again(
    self: Client,
    path: str,
    request: Any,
    read: Callable[[bytes], Any],
    timeout: float | None = None,
    *,
    repeatable: bool = False,
) -> Any:
    return await _call(self, path, request, read, timeout, repeatable=True)


def _b35() -> AbstractContextManager[None]:
    return replaced(Client, "call", _call_again)


def _log_up_to_the_snapshot(entries: tuple[Entry, ...], snapshot: SnapshotMeta | None, base_term: int) -> Log:
    log = _log(entries, snapshot, base_term)
    if snapshot is None or log.last_index <= snapshot.index:
        return log
    return log.truncated(snapshot.index)


def _b36() -> AbstractContextManager[None]:
    return replaced(starting, "_log", _log_up_to_the_snapshot)


MUTATIONS = (
    Mutation(
        "B35",
        "Jepsen jetcd 0.8.2",
        "The client repeats every call whose outcome it does not know, writes and transactions, too.",
        "a connection lost between a write and its answer",
        _b35,
        world="simulated",
    ),
    Mutation(
        "B36",
        "Jepsen Redis-Raft",
        "A member that starts from the state it has applied takes the log behind it for void.",
        "writes, and a majority that falls and comes back before it has applied them durably",
        _b36,
        world="simulated",
    ),
)
