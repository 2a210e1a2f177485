"""What a heartbeat tells its receiver: how far the log that it has confirmed is committed.

Index and term name an entry, and an entry stands for all before it (figure 3, log matching): whoever holds
that very entry may commit up to it, from whatever time the heartbeat is, and whatever its receiver has been
through since. Whoever does not hold it has lost it, or had confirmed it in an earlier life.

Source: Ongaro and Ousterhout 2014, section 5.3 and figure 3; thesis 6.4 for the read round.
"""

from __future__ import annotations

from .progress import Progress
from .state import RaftState
from .types import HeartbeatRequest

__all__ = ["heartbeat_to", "known_commit"]


def known_commit(state: RaftState, peer: Progress) -> int:
    """The last committed entry that a member has confirmed; 0: the leader has no such entry (any more)."""
    told = peer.match_index if peer.match_index < state.commit_index else state.commit_index
    return told if told >= state.log.base_index else 0


def heartbeat_to(
    state: RaftState, peer: Progress, commit: int, *,
    context: int = 0, quiet: bool = False, lost: bool = False,
) -> HeartbeatRequest:
    """A heartbeat that tells ``commit``: 0, or an entry of the leader's log (or its base).

    Args:
        context: the read round that the answer confirms; 0: none.
        quiet: no answer is wanted.
        lost: the member has asked, and it is true: it has confirmed ``commit`` in this life.
    """
    return HeartbeatRequest(
        sender=state.config.node_id,
        to=peer.node_id,
        term=state.current_term,
        leader_commit=commit,
        commit_term=state.log.term_at(commit) if commit else 0,
        context=context,
        quiet=quiet,
        session=peer.session,
        lost=lost,
    )
