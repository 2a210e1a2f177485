"""The first state of a node's life, from what its disk holds.

What the disk may have forgotten is the commit index, and with it that a configuration change was committed.
That matters: a node that campaigns under an old configuration while a newer one has been committed could
win beside the true leader (bug B11). But a leader proposes a change only when it has applied the one before,
so whoever holds two changes knows that the first is committed, and a node that restarts counts it so.

Source: Ongaro and Ousterhout 2014, figure 2 ("persistent state") and section 7; thesis 4.1.
"""

from __future__ import annotations

from . import membership
from .log import Log, empty_log, log_of
from .quorum import Configuration, configuration_of
from .state import Config, RaftState, election_timeout
from .types import Entry, HardState, SnapshotMeta

__all__ = ["restart"]


def restart(
    config: Config,
    hard_state: HardState,
    entries: tuple[Entry, ...] = (),
    applied: int = 0,
    snapshot: SnapshotMeta | None = None,
    *,
    base_term: int = 0,
) -> RaftState:
    """The state of a node that starts with what its disk holds; all of it counts as durable.

    A node that starts for the first time passes ``HardState()``.

    Args:
        entries: the log: from index 1 on, or from any index up to the snapshot's successor. Entries that
            the snapshot stands for are kept for members that lag; a log that does not agree with the
            snapshot is from before it was installed, and is forgotten.
        applied: what the state machine has already applied; nothing up to there is handed out again.
            Configuration changes between the snapshot and there count as made, so a state machine that
            refuses changes must pass a snapshot at ``applied``.
        snapshot: the newest durable state of the state machine, with the configuration in force there;
            None: the log is whole, and the configuration is that of ``config``.
        base_term: the term of the entry before ``entries``; 0: not known, so that the first of them only
            serves as that entry.

    Raises:
        ValueError: the log has a gap, or ends before ``applied``, or has a term above the current one: the
            disk lost something that had been promised.
    """
    log = _log(entries, snapshot, base_term)
    if snapshot is not None:
        applied = max(applied, snapshot.index)
    if applied > log.last_index or log.last_term > hard_state.current_term:
        raise ValueError(
            f"need a log up to index {applied} and no term above {hard_state.current_term}, got one that "
            f"ends at index {log.last_index} of term {log.last_term}"
        )
    configuration = configuration_of(config.voters, (), config.learners)
    if snapshot is not None:
        configuration = membership.configuration_in(snapshot)
    configuration = _with_changes(configuration, log, 0 if snapshot is None else snapshot.index, applied)
    commit = max(applied, min(hard_state.commit_index, log.last_index))
    unapplied = log.changes(applied + 1, log.last_index)
    if len(unapplied) > 1:
        commit = max(commit, unapplied[-2].index)
    return RaftState(
        config=config,
        configuration=configuration,
        log=log,
        current_term=hard_state.current_term,
        voted_for=hard_state.voted_for,
        commit_index=commit,
        persisted_index=log.last_index,
        released_index=applied,
        applied_index=applied,
        election_timeout=election_timeout(config, hard_state.current_term, 0),
        snapshot=snapshot,
        # An earlier life may have let a leader rely on it (see ``leases``).
        lease_guard=config.election_ticks if config.read_only_lease else 0,
    )


def _log(entries: tuple[Entry, ...], snapshot: SnapshotMeta | None, base_term: int) -> Log:
    if snapshot is None:
        return log_of(entries)
    if not entries or entries[0].index > snapshot.index:
        return log_of(entries, snapshot.index, snapshot.term)
    first = entries[0]
    if first.index == 1 or base_term:
        log = log_of(entries, first.index - 1, base_term)
    else:
        log = log_of(entries[1:], first.index, first.term)
    if log.term_at(snapshot.index) != snapshot.term:
        return empty_log(snapshot.index, snapshot.term)
    return log


def _with_changes(configuration: Configuration, log: Log, first: int, last: int) -> Configuration:
    """``configuration`` with the changes of the entries after ``first`` up to ``last``."""
    for entry in log.changes(max(first, log.base_index) + 1, last):
        try:
            configuration = membership.changed(configuration, membership.decoded(entry.data))
        except membership.ImpossibleChange:
            continue  # it was refused when it was applied, too
    return configuration
