"""The leader's half of the cluster's version: up when all members are newer, down when that was asked for.

A member answers peers' calls ``version`` with the version it reports. The leader asks only while something
may follow from it: it is itself newer than the cluster, or a downgrade is under way. Only when every member,
learners included, has answered does the version move: one that is down might still be an older one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from tercet.core.machine import Command, Machine
from tercet.core.rpc_errors import RpcError
from tercet.core.versions import minor_version
from tercet.core.wire.proto import internal_pb2 as internal

from .world import World

__all__ = ["VersionWatch"]

_METHOD = "version"
_CALL_SECONDS = 1.0


class _Member(Protocol):
    member_id: int
    machine: Machine
    calls: dict[str, Callable[[bytes], Awaitable[bytes]]]

    @property
    def is_leader(self) -> bool: ...

    async def call_member(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes: ...

    async def propose_and_wait(self, kind: int, payload: bytes) -> object: ...


class VersionWatch:
    """Moves the cluster's version while this member leads.

    Args:
        reported: the version that this member reports, e.g. 3.4.35.
        seconds: between two looks.
    """

    def __init__(self, world: World, member: _Member, reported: str, seconds: float) -> None:
        self._world = world
        self._member = member
        self._reported = reported
        self._seconds = seconds
        member.calls[_METHOD] = self._answer

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await self._world.clock.sleep(self._seconds)
            if self._member.is_leader and self._member.machine.cluster_version:
                try:
                    await self.look()
                except RpcError as error:
                    self._world.probe.log("warn", "failed to move the cluster version", error=error.message)

    async def look(self) -> None:
        """Do what follows from the members' versions, if anything; raises ``RpcError``."""
        machine = self._member.machine
        ours, now = minor_version(self._reported), minor_version(machine.cluster_version)
        target = minor_version(machine.downgrade)
        if ours is None or now is None or (target is None and ours <= now):
            return
        found = await self._ask_all()
        if found is None:
            return
        if target is not None:
            if set(found) == {target}:
                await self._end_downgrade(machine.downgrade)
        elif min(found) > now:
            await self._set_version(min(found))

    async def _end_downgrade(self, target: str) -> None:
        numbers = minor_version(target)
        assert numbers is not None
        await self._set_version(numbers)
        payload = internal.Downgrade(target="").SerializeToString()
        await self._member.propose_and_wait(Command.DOWNGRADE, payload)
        self._world.probe.log("info", "the cluster has been downgraded", cluster_version=target)

    async def _set_version(self, numbers: tuple[int, int]) -> None:
        before, after = self._member.machine.cluster_version, f"{numbers[0]}.{numbers[1]}.0"
        payload = internal.ClusterVersion(version=after).SerializeToString()
        await self._member.propose_and_wait(Command.CLUSTER_VERSION, payload)
        fields = {"from": before, "to": after}
        self._world.probe.log("info", "updated cluster version", **fields)

    async def _answer(self, payload: bytes) -> bytes:
        return self._reported.encode()

    async def _ask_all(self) -> list[tuple[int, int]] | None:
        """The version of every member; None when one does not say."""
        answers: dict[int, tuple[int, int] | None] = {}

        async def ask(member_id: int) -> None:
            try:
                text = await self._member.call_member(member_id, _METHOD, b"", _CALL_SECONDS)
            except RpcError:
                answers[member_id] = None
            else:
                answers[member_id] = minor_version(text.decode("ascii", "replace"))

        async with trio.open_nursery() as nursery:
            for member in self._member.machine.members.all():
                if member.id != self._member.member_id:
                    nursery.start_soon(ask, member.id)
        own = minor_version(self._reported)
        found = [own, *(answers[member_id] for member_id in sorted(answers))]
        return None if None in found else [one for one in found if one is not None]
