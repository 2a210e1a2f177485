"""A schedule as data: the settings of a run and its deviations from the quiet course of things.

Without deviations every message takes the same short time, every write reaches the disk soon, nobody
crashes and no client asks for anything. All that makes a run interesting is a list of deviations, so a run
that fails shrinks by leaving some out and replays from what is left. A deviation is either an act at a
moment (a crash, a proposal) or waits from a moment on for the next message on a link, the next write or the
next application of a node, which then does not go the usual way.

Times are integers in microseconds of virtual time.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from tercet.core.raft import Change, ChangeKind

__all__ = [
    "WAITING_ACTS", "Act", "Deviation", "Schedule", "Settings", "describe", "pack_changes", "unpack_changes",
]


class Act(IntEnum):
    PROPOSE = 0  # at, node, amount: how many entries (0: one)
    READ = 1  # at, node
    CRASH = 2  # at, node, amount: time down, extra: what survives of the write under way (see world.Disk)
    PARTITION = 3  # at, node: bit mask of one side, amount: duration, extra: 0 both ways, 1 from, 2 to it
    PAUSE = 4  # at, node, amount: duration
    HURRY = 5  # at, node, amount: ticks that pass at once (its clock jumps), extra: another such node or 0
    DROP = 6  # at, extra: see below, node: link
    DUPLICATE = 7  # at, extra, node: link, amount: delay of the second copy
    DELAY = 8  # at, extra, node: link, amount: delay
    SLOW_WRITE = 9  # at, node, amount: delay
    SLOW_APPLY = 10  # at, extra, node, amount: delay
    FINALE = 11  # at, node: bit mask of the majority that must get on, extra: 1 the leader must stay, too
    CRASH_WRITE = 12  # at, node, amount: time down, extra: as for CRASH
    CHANGE = 13  # at, node: where it is proposed, amount: see ``pack_changes``, extra: TransitionKind
    TRANSFER = 14  # at, node: where it is asked for, amount: the new leader, 0 any
    WIPE = 15  # at, node: a node that is no member and never voted loses its disk, amount: time down
    PRIORITY = 16  # at, node, amount: how much longer messages to it take from now on
    STALL = 17  # at, node, amount: for so long its state machine applies nothing


#: Acts that happen to the first message of a link, or to the first write or application of a node, that
#: begins at ``at`` or later; ``extra`` is how many that begin just then are passed over.
WAITING_ACTS = frozenset(
    (Act.DROP, Act.DUPLICATE, Act.DELAY, Act.SLOW_WRITE, Act.SLOW_APPLY, Act.CRASH_WRITE)
)


class Deviation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One departure from the quiet course; what the fields mean is said at each ``Act``."""

    act: int
    at: int
    node: int
    amount: int = 0
    extra: int = 0


class Settings(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What does not change during a run."""

    seed: int
    nodes: int = 5  # 1 .. 9
    duration_us: int = 8_000_000  # of the phase with faults
    pre_vote: bool = True
    check_quorum: bool = True
    election_ticks: int = 10
    latency_us: int = 2_000
    write_us: int = 1_000
    max_append_entries: int = 1024
    max_inflight_appends: int = 256
    strict: bool = True  # check each promise against the disk at the moment it is sent
    voters: int = 0  # the first so many nodes are members at the beginning, the others wait; 0: all are
    snapshot_every: int = 0  # applied entries between snapshots of a state machine; 0: none
    snapshot_keep: int = 0  # entries kept behind a snapshot for members that lag
    lease: bool = False  # leaders read under a lease
    drift_permille: int = 0  # clocks run at rates within so much of the true one
    apply_us: int = 400
    max_inflight_bytes: int = 0  # of data, as in ``core.raft.Config``; 0: no limit
    max_uncommitted_bytes: int = 0


class Schedule(msgspec.Struct, frozen=True, array_like=True):
    """All of a run: settings and deviations, in the order in which they came about."""

    settings: Settings
    deviations: tuple[Deviation, ...]


def pack_changes(changes: tuple[Change, ...]) -> int:
    """Up to six changes of the configuration as one integer; no changes: leave the joint one."""
    packed = 0
    for change in reversed(changes):
        packed = packed << 8 | (change.kind + 1) << 5 | change.node_id
    return packed


def unpack_changes(packed: int) -> tuple[Change, ...]:
    """The changes of ``pack_changes``."""
    changes = []
    while packed:
        changes.append(Change(ChangeKind((packed >> 5 & 7) - 1), packed & 31))
        packed >>= 8
    return tuple(changes)


_CHANGES = {
    ChangeKind.ADD_VOTER: "node {} becomes a voter",
    ChangeKind.REMOVE: "node {} is removed",
    ChangeKind.ADD_LEARNER: "node {} becomes a learner",
}


def _describe_changes(packed: int) -> str:
    changes = unpack_changes(packed)
    if not changes:
        return "the joint configuration is left"
    return ", ".join(_CHANGES[change.kind].format(change.node_id) for change in changes)


def describe(deviation: Deviation) -> str:
    """One line in words."""
    act = Act(deviation.act)
    too = f" and node {deviation.extra}" if act == Act.HURRY and deviation.extra else ""
    at, node, amount, extra = deviation.at, deviation.node, deviation.amount, deviation.extra
    ms = f"{amount / 1000:g} ms"
    moment = f"{at / 1e6:9.6f} s"
    link = f"{moment}  the next message from {node // 16} to {node % 16}"
    sides = {0: "both ways", 1: "its messages are lost", 2: "messages to it are lost"}.get(extra, "")
    side = "+".join(str(bit) for bit in range(1, 16) if node >> bit & 1)
    survives = {0: "nothing", 1: "all", 2: "half"}.get(extra % 3, "")
    if act == Act.CHANGE:
        return f"{moment}  proposed at node {node}: {_describe_changes(amount)}"
    return {
        Act.PROPOSE: f"{moment}  a client proposes{f' {amount} entries' * (amount > 1)} at node {node}",
        Act.READ: f"{moment}  a client reads at node {node}",
        Act.CRASH: f"{moment}  node {node} crashes for {ms}; {survives} of the write under way survives",
        Act.PARTITION: f"{moment}  {side} are cut off for {ms}, {sides}",
        Act.PAUSE: f"{moment}  node {node} stands still for {ms}",
        Act.HURRY: f"{moment}  {amount} ticks pass at once at node {node}{too}",
        Act.DROP: f"{link} is lost",
        Act.DUPLICATE: f"{link} arrives twice, the second time after {ms}",
        Act.DELAY: f"{link} takes {ms}",
        Act.SLOW_WRITE: f"{moment}  the next write of node {node} takes {ms}",
        Act.CRASH_WRITE: f"{moment}  node {node} crashes for {ms} in its next write, {survives} survives",
        Act.SLOW_APPLY: f"{moment}  the next application of node {node} takes {ms}",
        Act.FINALE: f"{moment}  faults end; only {side} go on",
        Act.TRANSFER: f"{moment}  node {node} is asked to make {amount or 'another'} the leader",
        Act.WIPE: f"{moment}  node {node}, which is no member, loses its disk",
        Act.STALL: f"{moment}  node {node}'s state machine applies nothing for {ms}",
        Act.PRIORITY: f"{moment}  messages to node {node} take {ms} longer from now on",
    }[act]
