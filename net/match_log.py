"""Making sure that the log and the applied state that a member finds go together.

The log must reach back to what the state holds, and at least as far; one that does not was lost, or put
there by somebody. The exception is a crash while a snapshot of another member took the place of both: then
the state is the new one, and the log the old one, which is void.
"""

from __future__ import annotations

from typing import Final

from tercet.core.durable import Meta
from tercet.core.errors import Corruption
from tercet.core.raft.types import Entry, HardState

from .storage import Recovered, Storage

__all__ = ["match_log"]

_ADVICE: Final = (
    "Restore the data directory from a copy, or remove the member from the cluster, clear the directory and "
    "add the member again"
)


async def match_log(
    storage: Storage, recovered: Recovered, meta: Meta
) -> tuple[HardState, tuple[Entry, ...], int]:
    """Make sure that log and backend go together, and finish an installation that was cut short.

    Returns:
        What Raft starts from: the hard state, the entries that are not let go, and the term of the entry
        before them, 0 when it is not known.

    Raises:
        Corruption: entries are missing between the two, so one of them was lost or replaced.
        StorageFailed: the disk failed.
    """
    hard_state, entries = recovered.hard_state, recovered.entries
    if meta.installed and recovered.base != (meta.index, meta.term):
        term = max(hard_state.current_term, meta.term)
        voted_for = hard_state.voted_for if term == hard_state.current_term else 0
        hard_state, entries = HardState(term, voted_for, meta.index), ()
        await storage.restart_at(meta.index, meta.term, hard_state)
    elif entries and entries[0].index > meta.base_index + 1:
        raise Corruption(
            f"the log begins with entry {entries[0].index}, but the backend says that it goes on after "
            f"entry {meta.base_index}. {_ADVICE}"
        )
    elif entries and entries[-1].index < meta.index:
        raise Corruption(
            f"the log ends with entry {entries[-1].index}, but entry {meta.index} was applied. {_ADVICE}"
        )
    elif not entries and meta.index > (recovered.base or (meta.base_index,))[0]:
        raise Corruption(f"the log is empty, but entry {meta.index} was applied. {_ADVICE}")
    if entries:
        entries = entries[max(0, meta.base_index + 1 - entries[0].index) :]
    follows = bool(entries) and entries[0].index == meta.base_index + 1
    return hard_state, entries, meta.base_term if follows else 0
