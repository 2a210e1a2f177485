"""What becomes an entry: who takes proposals, forwards them, or refuses them.

A leader appends. Anybody else hands proposals to the leader it knows, fire and forget; one that reaches a
node which has learnt of a newer leader is handed on once more. What is refused comes back to the driver of
the node that refused (``Effects.dropped``, ``dropped_conf_changes``), also when another member proposed it:
it did not happen, so it may be proposed again.

A configuration change is taken one at a time: the one before must have been applied by the leader, which
must have committed an entry of its own term. The first keeps neighbouring configurations in touch, the
second closes the hole found in single-server changes in 2015 (bug B9).

Source: Ongaro and Ousterhout 2014, sections 6 and 8; thesis 3.10 and 4.1, and its erratum on 4.1.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import membership, reads, replication
from .state import Duty, Leadership, RaftState
from .types import (
    ConfChange,
    EntryKind,
    Propose,
    ProposeConfChange,
    ProposeRequest,
    encode_conf_change,
)

__all__ = [
    "append_conf_change", "change_pending", "may_change", "on_propose_request", "propose",
    "propose_conf_change",
]


def propose(state: RaftState, event: Propose, duty: Duty) -> RaftState:
    """Append as leader, hand over to the leader, or tell that there is none."""
    leadership = state.leadership
    if leadership is not None:
        if leadership.transfer_target or state.config.max_uncommitted_bytes:
            return _append(state, leadership, event.entries, duty)
        return replication.append(state, event.entries, duty)
    if state.leader_id == 0:
        duty.dropped += event.entries
        duty.refuse("propose/no-leader", f"{len(event.entries)} entries")
        return state
    duty.send += (
        ProposeRequest(
            sender=state.config.node_id, to=state.leader_id, term=state.current_term, entries=event.entries
        ),
    )
    return state


def propose_conf_change(state: RaftState, event: ProposeConfChange, duty: Duty) -> RaftState:
    """The same for a configuration change."""
    change = event.change
    if state.leadership is not None:
        return _append_conf_change(state, state.leadership, change, duty)
    if state.leader_id == 0:
        duty.dropped_conf_changes += (change,)
        duty.refuse("propose/no-leader", "a configuration change")
        return state
    duty.send += (
        ProposeRequest(
            sender=state.config.node_id,
            to=state.leader_id,
            term=state.current_term,
            entries=(),
            conf_changes=(encode_conf_change(change),),
        ),
    )
    return state


def on_propose_request(state: RaftState, message: ProposeRequest, duty: Duty) -> RaftState:
    """A member's forwarded proposals: append them, or hand them on, or refuse them."""
    if state.leadership is None:
        return _not_leader(state, message, duty)
    state = _append(state, state.leadership, message.entries, duty)
    for data in message.conf_changes:
        assert state.leadership is not None
        try:
            change = membership.decoded(data)
        except membership.ImpossibleChange as error:
            duty.refuse(error.rule, f"of {message.sender}: {error.detail}")
            continue
        state = _append_conf_change(state, state.leadership, change, duty)
    return state


def _not_leader(state: RaftState, message: ProposeRequest, duty: Duty) -> RaftState:
    # Handed on only by those who know better than the sender, so that no two nodes can play ping-pong.
    if message.term < state.current_term and state.leader_id not in (0, message.sender):
        duty.send += (
            replace(message, sender=state.config.node_id, to=state.leader_id, term=state.current_term),
        )
        return state
    count = len(message.entries) + len(message.conf_changes)
    duty.refuse("propose/not-leader", f"{count} entries of {message.sender}")
    if not state.leader_id:
        # Between two leaders: the sender has forgotten them, so the driver may keep them for the next one.
        duty.dropped += message.entries
        duty.dropped_conf_changes += _decodable(message.conf_changes)
    return state


def _decodable(changes: tuple[bytes, ...]) -> tuple[ConfChange, ...]:
    found = []
    for data in changes:
        try:
            found.append(membership.decoded(data))
        except membership.ImpossibleChange:
            continue
    return tuple(found)


def _append(
    state: RaftState, leadership: Leadership, entries: tuple[bytes, ...], duty: Duty
) -> RaftState:
    if leadership.transfer_target:
        duty.dropped += entries
        duty.refuse("propose/transferring", f"{len(entries)} entries, to {leadership.transfer_target}")
        return state
    limit = state.config.max_uncommitted_bytes
    if limit:
        size = sum(map(len, entries))
        waiting = leadership.uncommitted_bytes
        if waiting and waiting + size > limit:
            duty.dropped += entries
            duty.refuse("propose/uncommitted-limit", f"{size} bytes, {waiting} are waiting")
            return state
        state = replace(state, leadership=replace(leadership, uncommitted_bytes=waiting + size))
    return replication.append(state, entries, duty)


def may_change(state: RaftState) -> bool:
    """Whether this leader may propose a configuration change at all: it has committed in its own term."""
    return reads.leader_is_ready(state)


def change_pending(state: RaftState, leadership: Leadership) -> bool:
    """Whether a change may be in the log that this leader has not applied: one at a time (section 6)."""
    return leadership.pending_conf_index > state.applied_index


def _append_conf_change(
    state: RaftState, leadership: Leadership, change: ConfChange, duty: Duty
) -> RaftState:
    rule, detail = "", ""
    if leadership.transfer_target:
        rule, detail = "propose/transferring", f"to {leadership.transfer_target}"
    elif not may_change(state):  # thesis 4.1, erratum of 2015
        rule, detail = "conf/not-ready", f"in term {state.current_term}"
    elif change_pending(state, leadership):  # 6: one at a time
        rule, detail = "conf/pending", f"until {leadership.pending_conf_index} is applied"
    else:
        try:
            membership.changed(state.configuration, change)
        except membership.ImpossibleChange as error:
            rule, detail = error.rule, error.detail
    if rule:
        duty.dropped_conf_changes += (change,)
        duty.refuse(rule, detail)
        return state
    return append_conf_change(state, change, duty)


def leave_if_due(state: RaftState, duty: Duty) -> RaftState:
    """Whoever leads in a joint configuration leaves it, once all that it found in its log is applied.

    Not while it hands over: the target would lack the entry, and lose the election (thesis 3.10). It is the
    next leader that leaves then, or this one when the transfer has failed.
    """
    leadership = state.leadership
    if leadership is None or leadership.transfer_target or not state.configuration.auto_leave:
        return state
    if change_pending(state, leadership):
        return state
    return append_conf_change(state, ConfChange(), duty)


def append_conf_change(state: RaftState, change: ConfChange, duty: Duty) -> RaftState:
    """Append a change that may be made; no other one is taken until it is applied."""
    state = replication.append(state, (encode_conf_change(change),), duty, EntryKind.CONF_CHANGE)
    assert state.leadership is not None
    leadership = replace(state.leadership, pending_conf_index=state.log.last_index)
    return replace(state, leadership=leadership)
