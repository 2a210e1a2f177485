"""Leader leases: linearizable reads without asking a majority each time. An option (``read_only_lease``).

Every heartbeat is a numbered round. When a majority has answered a round, each of those members has promised,
from the moment it heard that heartbeat, to refuse its vote for ``election_ticks`` of its own ticks
(``lease_guard``). So nobody else can lead before the first promise ends, and the leader may answer reads
from its commit index until ``lease_ticks`` of its own ticks have passed since it *sent* the round.

What this bears: any member's clock may run up to (election_ticks - 1) / lease_ticks times as fast as the
leader's (1.8 with the defaults 10 and 5). What it does not bear: a leader that is not told of time that
passes. A driver must let all ticks pass whose time has come before it lets anybody read; where the clock
itself stands still, as in a suspended machine, only ReadIndex (``reads``) is safe.

Three things end a lease before its time. A transfer of leadership asks voters to break their promise. A
change of the configuration changes whose promises count. And a promise must outlive a crash: a node that
starts refuses votes for an election timeout, in which it would not have campaigned anyway.

Source: thesis 6.4.1, made safe against its own transfers (3.10) and restarts.
"""

from __future__ import annotations

from msgspec.structs import replace

from . import quorum
from .state import Config, Leadership, Lease, RaftState

__all__ = ["broken", "confirmed", "ended", "lease_ticks", "promises_kept", "ticked", "valid", "with_round"]


def lease_ticks(config: Config) -> int:
    """How many of its own ticks a leader may read after it sent a round that a majority answered."""
    return config.lease_ticks or max(1, config.election_ticks // 2)


def valid(state: RaftState) -> bool:
    """Whether this leader may answer a read from its commit index right now."""
    lease = None if state.leadership is None else state.leadership.lease
    if lease is None or lease.broken or lease.start < 0:
        return False
    return lease.now - lease.start < lease_ticks(state.config)


def promises_kept(state: RaftState) -> bool:
    """Whether some leader may still rely on this node's not voting."""
    return state.lease_guard > 0


def ticked(leadership: Leadership, lease: Lease) -> Leadership:
    """One tick of the leader has passed."""
    return replace(leadership, lease=replace(lease, now=lease.now + 1))


def with_round(leadership: Leadership, lease: Lease) -> Leadership:
    """Begin a round with the heartbeats that the caller sends in this very tick."""
    read_round = leadership.read_round + 1
    lease = replace(lease, rounds=(*lease.rounds, (read_round, lease.now)))
    return replace(leadership, read_round=read_round, lease=lease)


def confirmed(state: RaftState, leadership: Leadership, lease: Lease) -> RaftState:
    """Somebody answered a round: the lease runs from the newest round that a majority has answered."""
    node_id = state.config.node_id
    newest = leadership.read_round
    rounds = [newest if peer.node_id == node_id else peer.acked_round for peer in leadership.progress]
    answered = quorum.reached(state.configuration, rounds)
    done = [sent_at for number, sent_at in lease.rounds if number <= answered]
    if not done:
        return state
    lease = replace(lease, start=done[-1], rounds=lease.rounds[len(done) :])
    return replace(state, leadership=replace(leadership, lease=lease))


def ended(leadership: Leadership) -> Leadership:
    """The configuration has changed: promises made in the old one do not count any more."""
    if leadership.lease is None:
        return leadership
    return replace(leadership, lease=replace(leadership.lease, start=-1, rounds=()))


def broken(leadership: Leadership) -> Leadership:
    """A transfer begins: for the rest of the term somebody may campaign in spite of all promises."""
    if leadership.lease is None:
        return leadership
    return replace(leadership, lease=replace(leadership.lease, broken=True))
