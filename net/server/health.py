"""Is this member well? The checks behind ``/health``, ``/livez`` and ``/readyz``, as etcd names them.

``/health`` is the old question (no alarm, a leader, a linearizable read within a second). ``/livez`` asks
only whether the process answers reads by itself, ``/readyz`` whether it should get traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import trio

from tercet.core.rpc_errors import RpcError

from ..config import MemberConfig
from ..world import World

__all__ = ["ALARM_NAMES", "CHECKS", "READ_SECONDS", "HealthChecks", "health_body"]

#: How long the read of a health check may take.
READ_SECONDS: Final = 1.0
ALARM_NAMES: Final = {1: "NOSPACE", 2: "CORRUPT"}
#: The checks of the two newer questions, in etcd's order.
CHECKS: Final = {
    "livez": ("serializable_read",),
    "readyz": ("data_corruption", "serializable_read", "linearizable_read"),
}


class HealthChecks:
    """The checks of one member; each gives "" when all is well, otherwise the reason."""

    def __init__(self, node: Any) -> None:
        self._node = node

    async def health(self, world: World, *, serializable: bool, exclude: Iterable[str]) -> str:
        """The reason why this member is not healthy, "" when it is."""
        left_out = tuple(exclude)
        for name in self._alarms():
            if name not in left_out:
                return f"ALARM {name}"
        if serializable:
            return ""
        if not self._node.leader_id:
            return "RAFT NO LEADER"
        reason = await self.linearizable_read(world)
        return f"RANGE ERROR:{reason}" if reason else ""

    async def run(self, world: World, name: str) -> str:
        """Run one check by its name."""
        if name == "linearizable_read":
            return await self.linearizable_read(world)
        if name == "data_corruption":
            return "alarm activated: CORRUPT" if "CORRUPT" in self._alarms() else ""
        return ""  # serializable_read: this code runs, so the state machine can be read

    async def linearizable_read(self, world: World) -> str:
        """Whether a quorum confirms this member's state within ``READ_SECONDS``."""
        finished = trio.Event()
        answers: list[RpcError | None] = []

        def done(error: RpcError | None) -> None:
            answers.append(error)
            finished.set()

        with world.clock.timeout(READ_SECONDS):
            self._node.read_index(done, world.clock.monotonic() + READ_SECONDS)
            await finished.wait()
        if not answers:
            return "etcdserver: request timed out"
        return "" if answers[0] is None else answers[0].message

    def _alarms(self) -> Sequence[str]:
        return [ALARM_NAMES.get(int(alarm.kind), str(alarm.kind)) for alarm in self._node.machine.alarms]


def health_body(config: MemberConfig, reason: str) -> str:
    """The JSON of ``/health``; the reason is a field since 3.5."""
    state = "false" if reason else "true"
    if config.reported_version.startswith("3.4."):
        return f'{{"health":"{state}"}}'
    return f'{{"health":"{state}","reason":"{reason}"}}'
