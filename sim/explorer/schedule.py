"""A schedule as data: the settings of a run and its deviations from the quiet course of things.

Without deviations every message takes the same short time, every write reaches the disk soon, nobody
crashes and no client asks for anything. All that makes a run interesting is a list of deviations, so a run
that fails shrinks by leaving some out and replays from what is left. A deviation is either an act at a
moment (a crash, a proposal) or names the k-th message on a link, the k-th write or the k-th application of
a node that does not go the usual way.

Times are integers in microseconds of virtual time.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = ["Act", "Deviation", "Schedule", "Settings", "describe"]


class Act(IntEnum):
    PROPOSE = 0  # at, node
    READ = 1  # at, node
    CRASH = 2  # at, node, amount: time down, extra: what survives of the write under way (see world.Disk)
    PARTITION = 3  # at, node: bit mask of one side, amount: duration, extra: 0 both ways, 1 from, 2 to it
    PAUSE = 4  # at, node, amount: duration
    HURRY = 5  # at, node, amount: ticks that pass at once (its clock jumps), extra: another such node or 0
    DROP = 6  # at: ordinal of the message, node: link
    DUPLICATE = 7  # at: ordinal, node: link, amount: delay of the second copy
    DELAY = 8  # at: ordinal, node: link, amount: delay
    SLOW_WRITE = 9  # at: ordinal of the write, node, amount: delay
    SLOW_APPLY = 10  # at: ordinal of the application, node, amount: delay
    FINALE = 11  # at, node: bit mask of the majority that must get on by itself
    CRASH_WRITE = 12  # at: ordinal of the write, node, amount: time down, extra: as for CRASH


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


class Schedule(msgspec.Struct, frozen=True, array_like=True):
    """All of a run: settings and deviations, in the order in which they came about."""

    settings: Settings
    deviations: tuple[Deviation, ...]


def describe(deviation: Deviation) -> str:
    """One line in words."""
    act = Act(deviation.act)
    too = f" and node {deviation.extra}" if act == Act.HURRY and deviation.extra else ""
    at, node, amount, extra = deviation.at, deviation.node, deviation.amount, deviation.extra
    ms = f"{amount / 1000:g} ms"
    moment = f"{at / 1e6:9.6f} s"
    link = f"message {at} from {node // 16} to {node % 16}"
    sides = {0: "both ways", 1: "its messages are lost", 2: "messages to it are lost"}.get(extra, "")
    side = "+".join(str(bit) for bit in range(1, 16) if node >> bit & 1)
    survives = {0: "nothing", 1: "all", 2: "half"}.get(extra % 3, "")
    return {
        Act.PROPOSE: f"{moment}  a client proposes at node {node}",
        Act.READ: f"{moment}  a client reads at node {node}",
        Act.CRASH: f"{moment}  node {node} crashes for {ms}; {survives} of the write under way survives",
        Act.PARTITION: f"{moment}  {side} are cut off for {ms}, {sides}",
        Act.PAUSE: f"{moment}  node {node} stands still for {ms}",
        Act.HURRY: f"{moment}  {amount} ticks pass at once at node {node}{too}",
        Act.DROP: f"{link} is lost",
        Act.DUPLICATE: f"{link} arrives twice, the second time after {ms}",
        Act.DELAY: f"{link} takes {ms}",
        Act.SLOW_WRITE: f"write {at} of node {node} takes {ms}",
        Act.CRASH_WRITE: f"node {node} crashes for {ms} in its write {at}; {survives} of it survives",
        Act.SLOW_APPLY: f"application {at} of node {node} takes {ms}",
        Act.FINALE: f"{moment}  faults end; only {side} go on",
    }[act]
