"""The cluster's version follows its members: up when the last is newer, down when that was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tercet.core import rpc_errors
from tercet.core.machine import Command, Machine, encode_command
from tercet.core.members import MemberView
from tercet.core.raft.types import Entry
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.net.versions import VersionWatch
from tercet.net.world import World
from tercet.sim.contract import run_in_world


class Member:
    """The leader of three; the others report what a test says, None: they do not answer."""

    def __init__(self, others: tuple[str | None, str | None]) -> None:
        self.member_id = 1
        self.is_leader = True
        self.machine = Machine()
        self.machine.members.load([MemberView(i, "", (), (), i == 3) for i in (1, 2, 3)], [])
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.others = dict(zip((2, 3), others, strict=True))
        self.asked = 0

    async def call_member(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        self.asked += 1
        found = self.others[member_id]
        if found is None:
            raise rpc_errors.TIMEOUT.with_traceback(None)
        assert method == "version"
        return found.encode()

    async def propose_and_wait(self, kind: int, payload: bytes) -> object:
        data = encode_command(Command(kind), 1, 1, payload)
        assert self.machine.apply(Entry(1, self.machine.applied_index + 1, data)).error is None
        return None


def after(
    ours: str, others: tuple[str | None, str | None], *, target: str = "", leads: bool = True
) -> tuple[str, str, int]:
    """The cluster's version, which was 3.4.0, the downgrade, and how many questions were asked."""

    async def body(world: World) -> tuple[str, str, int]:
        member = Member(others)
        member.is_leader = leads
        watch = VersionWatch(world, member, ours, 5.0)
        assert await member.calls["version"](b"") == ours.encode()
        now = internal.ClusterVersion(version="3.4.0").SerializeToString()
        await member.propose_and_wait(Command.CLUSTER_VERSION, now)
        if target:
            wanted = internal.Downgrade(target=target).SerializeToString()
            await member.propose_and_wait(Command.DOWNGRADE, wanted)
        with world.clock.timeout(7.0):
            await watch.run()
        return member.machine.cluster_version, member.machine.downgrade, member.asked

    return run_in_world(body)


def test_the_version_rises_when_the_last_member_is_newer() -> None:
    assert after("3.5.2", ("3.5.0", "3.5.9")) == ("3.5.0", "", 2)
    assert after("3.6.0", ("3.5.0", "3.6.1")) == ("3.5.0", "", 2)


@pytest.mark.parametrize("other", ["3.4.35", None, "nonsense"])
def test_one_member_that_is_older_or_does_not_say_holds_it_back(other: str | None) -> None:
    assert after("3.5.2", ("3.5.0", other)) == ("3.4.0", "", 2)


def test_nobody_is_asked_while_nothing_can_follow() -> None:
    assert after("3.4.35", ("3.5.0", "3.5.0")) == ("3.4.0", "", 0)
    assert after("3.5.2", ("3.5.0", "3.5.0"), leads=False) == ("3.4.0", "", 0)


def test_a_downgrade_ends_when_the_last_member_is_of_the_target() -> None:
    assert after("3.3.9", ("3.3.9", "3.3.1"), target="3.3.0") == ("3.3.0", "", 2)
    assert after("3.3.9", ("3.3.9", "3.4.1"), target="3.3.0") == ("3.4.0", "3.3.0", 2)
    assert after("3.4.9", ("3.3.9", "3.3.9"), target="3.3.0") == ("3.4.0", "3.3.0", 2)
