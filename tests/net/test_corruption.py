"""Comparing hashes with other members: who is accused, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tercet.core import rpc_errors
from tercet.core.errors import Corruption
from tercet.core.machine import Alarm, Command, Machine, encode_command
from tercet.core.members import MemberView
from tercet.core.raft.types import Entry
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.corruption import CorruptionCheck
from tercet.net.world import World
from tercet.sim.contract import run_in_world


class Member:
    """One of a few members that share their writes, but for what a test changes."""

    def __init__(self, member_id: int, all_members: dict[int, Member]) -> None:
        self.member_id = member_id
        self.machine = Machine()
        self.machine.members.load([MemberView(i, "", ()) for i in (1, 2, 3)], [])
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.is_leader = member_id == 1
        self._all = all_members
        all_members[member_id] = self

    def put(self, value: bytes) -> None:
        self.apply(Command.PUT, rpc.PutRequest(key=b"k", value=value).SerializeToString())

    def apply(self, kind: Command, payload: bytes) -> None:
        data = encode_command(kind, 1, 1, payload)
        self.machine.apply(Entry(1, self.machine.applied_index + 1, data))

    def connected_since(self, member_id: int) -> float | None:
        return 0.0 if member_id in self._all else None

    async def call_member(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        if member_id not in self._all:
            raise rpc_errors.TIMEOUT.with_traceback(None)
        return await self._all[member_id].calls[method](payload)

    async def propose_and_wait(self, kind: int, payload: bytes) -> object:
        self.apply(Command(kind), payload)
        return None

    async def wait_read_point(self) -> None: ...


Change = Callable[[dict[int, Member]], None]


def checks(
    change: Change, *, at_start: bool = False, compaction: bool = False, absent: int = 0
) -> tuple[Alarm, ...]:
    """What member 1 accuses after ``change``; three members have had the same five puts before it."""

    async def body(world: World) -> tuple[Alarm, ...]:
        members: dict[int, Member] = {}
        found = [CorruptionCheck(world, Member(i, members), 1.0) for i in (1, 2, 3)]
        for member in members.values():
            for number in range(5):
                member.put(b"%d" % number)
        change(members)
        members.pop(absent, None)
        first = found[0]
        check = first.check_compaction if compaction else first.check_at_start if at_start else first.check
        await check()
        return members[1].machine.alarms

    return run_in_world(body)


def test_equal_members_pass_both_checks() -> None:
    assert checks(lambda _: None) == ()
    assert checks(lambda _: None, at_start=True) == ()
    assert checks(lambda _: None, absent=3) == ()


def test_a_member_with_another_value_is_accused() -> None:
    def change(members: dict[int, Member]) -> None:
        for member in members.values():
            member.put(b"other" if member.member_id == 3 else b"right")

    assert checks(change) == (Alarm(3, rpc.CORRUPT),)
    with pytest.raises(Corruption, match="data inconsistency with peers"):
        checks(change, at_start=True)


def test_a_member_that_is_ahead_of_its_leader_is_accused() -> None:
    assert checks(lambda members: members[2].put(b"more")) == (Alarm(2, rpc.CORRUPT),)


def test_a_member_that_is_behind_or_compacted_otherwise_cannot_be_compared() -> None:
    def behind(members: dict[int, Member]) -> None:
        members[1].put(b"new")
        members[2].put(b"new")

    def compacted(members: dict[int, Member]) -> None:
        members[1].apply(Command.COMPACTION, rpc.CompactionRequest(revision=3).SerializeToString())

    assert checks(behind) == ()
    assert checks(compacted) == ()


def test_the_leader_checks_by_itself_now_and_then() -> None:
    async def body(world: World) -> tuple[Alarm, ...]:
        members: dict[int, Member] = {}
        found = [CorruptionCheck(world, Member(i, members), 10.0) for i in (1, 2, 3)]
        for member in members.values():
            member.put(b"%d" % (member.member_id == 2))
        with world.clock.timeout(25.0):
            await found[0].run()
        return members[1].machine.alarms

    assert run_in_world(body) == (Alarm(2, rpc.CORRUPT),)


def compact(member: Member, revision: int = 4) -> None:
    member.apply(Command.COMPACTION, rpc.CompactionRequest(revision=revision).SerializeToString())


def written_apart(*wrong: int) -> Change:
    """Members that have another value, each its own, in what the compaction at revision 7 has left."""

    def change(members: dict[int, Member]) -> None:
        for member in members.values():
            member.put(b"%d" % member.member_id if member.member_id in wrong else b"right")
            compact(member, 7)

    return change


def test_what_a_compaction_has_left_is_compared_and_the_minority_accused() -> None:
    assert checks(written_apart(), compaction=True) == ()
    assert checks(written_apart(3), compaction=True) == (Alarm(3, rpc.CORRUPT),)
    assert checks(written_apart(1), compaction=True) == (Alarm(1, rpc.CORRUPT),)


def test_without_a_majority_that_agrees_the_alarm_is_the_whole_clusters() -> None:
    assert checks(written_apart(2, 3), compaction=True) == (Alarm(0, rpc.CORRUPT),)
    assert checks(written_apart(3), compaction=True, absent=2) == (Alarm(0, rpc.CORRUPT),)


def test_a_member_that_lags_can_be_compared_by_its_compaction() -> None:
    def change(members: dict[int, Member]) -> None:
        for member in members.values():
            compact(member)
        members[1].put(b"new")

    assert checks(change, compaction=True) == ()


def test_a_member_of_another_compaction_is_looked_at_later() -> None:
    async def body(world: World) -> tuple[tuple[Alarm, ...], tuple[Alarm, ...]]:
        members: dict[int, Member] = {}
        found = [CorruptionCheck(world, Member(i, members), 0.0, 10.0) for i in (1, 2, 3)]
        for member in members.values():
            for number in range(5):
                member.put(b"other" if (member.member_id, number) == (3, 4) else b"%d" % number)
        compact(members[1], 6)
        compact(members[2], 6)
        with world.clock.timeout(15.0):
            await found[0].run()
        early = members[1].machine.alarms
        compact(members[3], 6)
        with world.clock.timeout(15.0):
            await found[0].run()
        return early, members[1].machine.alarms

    assert run_in_world(body) == ((), (Alarm(3, rpc.CORRUPT),))
