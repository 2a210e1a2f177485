"""How a configuration change takes effect: when its entry is applied.

The paper switches as soon as an entry is in the log; here, as in etcd, when the state machine has applied
it, so that the state machine has its say and a configuration never has to be taken back. What makes that
safe: one change at a time (``proposals``), and no campaign by a node that knows a change to be committed
and has not applied it (``election.may_campaign``, bug B11).

A leader begins to replicate to a new member at once and forgets a removed one. A leader that is removed
itself, or demoted, has by then committed that change, and steps down.

Source: Ongaro and Ousterhout 2014, section 6; thesis 4.2.1 and 4.2.2.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import election, leases, membership, proposals, reads, replication
from .progress import Progress
from .state import Duty, Leadership, RaftState
from .types import Applied, Entry

__all__ = ["applied", "joined"]


def applied(state: RaftState, event: Applied, duty: Duty) -> RaftState:
    """The state machine has applied the log up to an entry: the changes among it take effect."""
    if event.index <= state.applied_index or state.installing is not None:
        return state
    assert event.index <= state.released_index, (event.index, state.released_index)
    first = state.applied_index + 1
    state = replace(state, applied_index=event.index)
    if state.log.last_change < first and not state.configuration.outgoing:
        return state
    for entry in state.log.changes(first, event.index):
        if entry.index in event.refused:
            duty.refuse("conf/refused", f"entry {entry.index}")
        else:
            state = _take_effect(state, entry, duty)
    return proposals.leave_if_due(state, duty)


def _take_effect(state: RaftState, entry: Entry, duty: Duty) -> RaftState:
    try:
        configuration = membership.changed(state.configuration, membership.decoded(entry.data))
    except membership.ImpossibleChange as error:
        duty.refuse(error.rule, f"entry {entry.index}: {error.detail}")
        return state
    if configuration == state.configuration:
        return state
    duty.configuration = membership.meta_of(configuration, entry.index, entry.term)
    state = replace(state, configuration=configuration)
    if state.leadership is None:
        return state
    node_id = state.config.node_id
    if node_id not in configuration.voters and node_id not in configuration.outgoing:
        duty.refuse("conf/leader-removed", f"entry {entry.index}")
        return election.become_follower(state, state.current_term, 0, duty)
    return _led_on(state, state.leadership, entry.index, duty)


def _led_on(state: RaftState, leadership: Leadership, index: int, duty: Duty) -> RaftState:
    """The leader counts with, and replicates to, the members of the new configuration."""
    known = {peer.node_id: peer for peer in leadership.progress}
    next_index = max(state.log.last_index, state.log.base_index + 1)
    progress = tuple(
        [
            known.get(member) or joined(member, next_index, index)
            for member in state.configuration.members
        ]
    )
    leadership = leases.ended(replace(leadership, progress=progress))
    target = leadership.transfer_target
    if target and target not in state.configuration.voters:
        duty.refuse("transfer/not-a-voter", f"to {target}")
        leadership = replace(leadership, transfer_target=0, transfer_elapsed=0)
    state = replication.recount(replace(state, leadership=leadership), duty)
    return _with_reads(state, duty)


def joined(member: int, next_index: int, session: int) -> Progress:
    """A member that joins under this leader by the entry ``session``.

    It counts as heard, so that it has the time of one quorum check to answer. The session keeps answers of an
    earlier life of the same id from being believed (bug B13).
    """
    return Progress(member, 0, next_index, session=session, active=True)


def _with_reads(state: RaftState, duty: Duty) -> RaftState:
    assert state.leadership is not None
    return reads.confirm(state, duty) if state.leadership.reads else state
