"""A schedule's run as a trace, for ``tercet trace`` and its player.

The bytes are those of ``core.trace``: every step of every node, and a note for each deviation where it
bites. A trace of a run with a planted bug no longer verifies against the shipped core, and says where.
"""

from __future__ import annotations

from tercet.core.raft import Effects, Event, RaftState
from tercet.core.trace import Header, TraceEncoder

from .random import Outcome, replay
from .schedule import Act, Deviation, Schedule, describe

__all__ = ["trace_schedule"]

_KINDS = {
    Act.PROPOSE: "client",
    Act.READ: "client",
    Act.CRASH: "crash",
    Act.CRASH_WRITE: "crash",
    Act.FINALE: "heal",
}


class _Recorder:
    def __init__(self, schedule: Schedule, comment: str) -> None:
        self._encoder = TraceEncoder()
        members = tuple((node, f"n{node}") for node in range(1, schedule.settings.nodes + 1))
        header = Header(
            program="tercet sim explore", world="explored", seed=schedule.settings.seed, members=members,
            comment=comment,
        )
        self.chunks = [self._encoder.begin(header)]

    def step(self, now_us: int, event: Event | None, effects: Effects, state: RaftState) -> None:
        self.chunks.append(self._encoder.record(now_us * 1000, event, effects, state))

    def end(self, now_us: int, text: str) -> None:
        """What was found, as the last note."""
        self.chunks.append(self._encoder.note(now_us * 1000, "other", text))

    def note(self, now_us: int, deviation: Deviation) -> None:
        act = Act(deviation.act)
        node = deviation.node if act not in (Act.PARTITION, Act.FINALE) else 0
        if act in (Act.DROP, Act.DUPLICATE, Act.DELAY):
            node = deviation.node // 16
        kind = _KINDS.get(act, "fault")
        self.chunks.append(self._encoder.note(now_us * 1000, kind, describe(deviation), node))


def trace_schedule(schedule: Schedule, comment: str = "") -> tuple[Outcome, bytes]:
    """Replay ``schedule`` and record it.

    Args:
        comment: for the header, e.g. the command that repeats the run.

    Returns:
        The outcome and the bytes of the trace file; the trace ends where a violation was found.
    """
    recorder = _Recorder(schedule, comment)
    outcome = replay(schedule, recorder)
    if not outcome.valid:
        recorder.end(outcome.virtual_us, f"{outcome.rule}: {outcome.text}")
    return outcome, b"".join(recorder.chunks)
