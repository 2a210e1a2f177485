"""Changing members through the Cluster service: what is refused before and after the log, and promotion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from google.protobuf.message import Message

from tercet.core.members import MemberCommand, MemberView
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeCall

OWN, N2, N3, LEARNER = 101, 102, 103, 104
BAD_URLS = (3, "etcdserver: given member URLs are invalid")
EXISTS = (9, "etcdserver: Peer URLs already exists")
NOT_FOUND = (5, "etcdserver: member not found")
VOTES = (9, "etcdserver: can only promote a learner member")
NOT_STARTED = (9, "etcdserver: re-configuration failed due to not enough started members")
UNHEALTHY = (14, "etcdserver: unhealthy cluster")
NOT_READY = (9, "etcdserver: can only promote a learner member which is in sync with leader")
FOR_LEARNER = (14, "etcdserver: rpc not supported for learner")


def view(member_id: int, name: str = "n", *, learner: bool = False) -> MemberView:
    return MemberView(member_id, name, (f"http://n{member_id}:2380",), (), learner)


def at_desk(test: Callable[[Desk], Awaitable[None]], **options: Any) -> None:
    """Three started voters, all of which have been connected for ten seconds; the first is the leader."""

    async def run(world: World) -> None:
        await world.clock.sleep(20)
        desk = Desk(world, **options)
        desk.member.machine.members.load([view(OWN), view(N2), view(N3)], [])
        desk.member.connected = dict.fromkeys((N2, N3), world.clock.monotonic() - 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.services.run)
            await world.clock.sleep(0.01)
            await test(desk)
            nursery.cancel_scope.cancel()

    run_in_world(run)


async def call(desk: Desk, method: str, request: Message) -> FakeCall:
    """Make a call and wait for its answer."""
    found = desk.call(f"Cluster/{method}", request)
    while found.status is None:
        await desk.world.clock.sleep(0.01)
    return found


async def status(desk: Desk, method: str, request: Message) -> tuple[int, str]:
    try:
        found = await call(desk, method, request)
    except RpcError as error:
        return int(error.code), error.message
    assert found.status is not None
    return found.status


def add(url: str = "http://new:2380", *, learner: bool = False) -> rpc.MemberAddRequest:
    return rpc.MemberAddRequest(peerURLs=[url], isLearner=learner)


@pytest.mark.parametrize(("most", "added"), [(0, 0), (1, 1), (2, 2)])
def test_the_flag_says_how_many_learners_there_may_be(most: int, added: int) -> None:
    async def test(desk: Desk) -> None:
        answers = [await status(desk, "MemberAdd", add(f"http://l{i}:2380", learner=True)) for i in range(3)]
        refused = (9, "etcdserver: too many learner members in cluster")
        assert answers == [(0, "")] * added + [refused] * (3 - added)

    at_desk(test, max_learners=most)


@pytest.mark.parametrize(
    ("method", "request_message", "expected"),
    [
        ("MemberAdd", rpc.MemberAddRequest(), BAD_URLS),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://c:1", "127.0.0.1:1"]), BAD_URLS),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://c:1", "http://n102:2380"]), EXISTS),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://c:99999"]), BAD_URLS),
        ("MemberRemove", rpc.MemberRemoveRequest(ID=1234), NOT_FOUND),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=1234, peerURLs=["http://c:1"]), NOT_FOUND),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=OWN, peerURLs=["http://n102:2380"]), EXISTS),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=N2), BAD_URLS),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=N2, peerURLs=["http://c:1", "c"]), BAD_URLS),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=1234, peerURLs=["c"]), NOT_FOUND),
        ("MemberPromote", rpc.MemberPromoteRequest(ID=1234), NOT_FOUND),
        ("MemberPromote", rpc.MemberPromoteRequest(ID=N2), VOTES),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=OWN, peerURLs=["http://n101:2380"]), (0, "")),
    ],
)
def test_what_the_list_of_members_refuses(
    method: str, request_message: Message, expected: tuple[int, str]
) -> None:
    async def test(desk: Desk) -> None:
        assert await status(desk, method, request_message) == expected

    at_desk(test)


def test_a_member_is_added_and_removed_and_the_answers_show_everybody_without_a_revision() -> None:
    async def test(desk: Desk) -> None:
        made = rpc.MemberAddResponse.FromString((await call(desk, "MemberAdd", add())).answer)
        assert made.header.member_id == OWN and made.header.revision == 0 and made.header.raft_term == 3
        assert (list(made.member.peerURLs), made.member.name) == (["http://new:2380"], "")
        everybody = sorted([OWN, N2, N3, made.member.ID])
        assert [member.ID for member in made.members] == everybody
        removal = rpc.MemberRemoveRequest(ID=made.member.ID)
        gone = rpc.MemberRemoveResponse.FromString((await call(desk, "MemberRemove", removal)).answer)
        assert [member.ID for member in gone.members] == [OWN, N2, N3]
        assert await status(desk, "MemberRemove", removal) == NOT_FOUND

    at_desk(test)


def test_nobody_joins_while_a_voter_was_not_connected_for_five_seconds() -> None:
    async def test(desk: Desk) -> None:
        now = desk.world.clock.monotonic()
        for connected in ({N2: now - 10}, {N2: now - 10, N3: now - 4}):
            desk.member.connected = connected
            for request in (add(), add(learner=True)):
                assert await status(desk, "MemberAdd", request) == UNHEALTHY
        assert desk.member.proposed == []

    at_desk(test)


def test_nobody_votes_more_while_too_few_have_started_but_a_second_member_may_always_come() -> None:
    async def test(desk: Desk) -> None:
        members = desk.member.machine.members
        members.load([view(OWN), view(N2, "")], [])
        assert await status(desk, "MemberAdd", add()) == NOT_STARTED
        members.load([view(OWN)], [])
        assert await status(desk, "MemberAdd", add()) == (0, "")

    at_desk(test)


def test_who_is_down_may_be_removed_and_one_too_many_may_not() -> None:
    async def test(desk: Desk) -> None:
        members = desk.member.machine.members
        del desk.member.connected[N3]
        assert await status(desk, "MemberRemove", rpc.MemberRemoveRequest(ID=N2)) == UNHEALTHY
        assert await status(desk, "MemberRemove", rpc.MemberRemoveRequest(ID=N3)) == (0, "")
        members.load([view(OWN), view(N2, "")], [])
        assert await status(desk, "MemberRemove", rpc.MemberRemoveRequest(ID=OWN)) == NOT_STARTED
        members.load([view(OWN)], [])
        assert await status(desk, "MemberRemove", rpc.MemberRemoveRequest(ID=OWN)) == NOT_STARTED

    at_desk(test)


def test_without_the_strict_check_only_the_list_decides() -> None:
    async def test(desk: Desk) -> None:
        desk.member.connected = {}
        assert await status(desk, "MemberAdd", add()) == (0, "")
        assert await status(desk, "MemberRemove", rpc.MemberRemoveRequest(ID=N2)) == (0, "")

    at_desk(test, strict_reconfig_check=False)


def test_a_learner_is_promoted_once_it_holds_nine_tenths_of_the_leaders_log() -> None:
    async def test(desk: Desk) -> None:
        members, promotion = desk.member.machine.members, rpc.MemberPromoteRequest(ID=LEARNER)
        members.load([view(OWN), view(N2), view(N3), view(LEARNER, learner=True)], [])
        desk.member.matches = {OWN: 100, LEARNER: 89}
        assert await status(desk, "MemberPromote", promotion) == NOT_READY
        desk.member.matches[LEARNER] = 90
        assert await status(desk, "MemberPromote", promotion) == (0, "")
        promoted = members.get(LEARNER)
        assert promoted is not None and not promoted.is_learner
        assert await status(desk, "MemberPromote", promotion) == VOTES

    at_desk(test)


def test_a_promotion_waits_for_a_leader_and_gives_up_in_time() -> None:
    async def test(desk: Desk) -> None:
        desk.member.change_leader(0)
        found = await status(desk, "MemberPromote", rpc.MemberPromoteRequest(ID=N2))
        assert found == (14, "etcdserver: request timed out")

    at_desk(test)


def test_a_learner_answers_only_status_and_what_the_node_itself_refuses() -> None:
    async def test(desk: Desk) -> None:
        desk.member.is_learner = True
        for method, request in [
            ("Cluster/MemberList", rpc.MemberListRequest()), ("Cluster/MemberAdd", add()),
            ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=5)), ("KV/Txn", rpc.TxnRequest()),
            ("KV/Compact", rpc.CompactionRequest()), ("Maintenance/HashKV", rpc.HashKVRequest()),
        ]:  # fmt: skip
            with pytest.raises(RpcError) as refused:
                desk.call(method, request)
            assert (int(refused.value.code), refused.value.message) == FOR_LEARNER
        assert desk.ask("Maintenance/Status", rpc.StatusRequest()).isLearner
        assert desk.ask("KV/Range", rpc.RangeRequest(key=b"k", serializable=True)).count == 0
        async with trio.open_nursery() as nursery:
            stream = desk.open(nursery, "Watch/Watch")
            await stream.finished.wait()
            assert stream.status == FOR_LEARNER

    at_desk(test)


def test_leadership_moves_only_from_the_leader_to_a_voter() -> None:
    async def test(desk: Desk) -> None:
        members = desk.member.machine.members
        members.load([view(OWN), view(N2), view(LEARNER, learner=True)], [])

        async def move(target: int) -> tuple[int, str] | None:
            async with trio.open_nursery() as nursery:
                stream = desk.open(nursery, "Maintenance/MoveLeader")
                stream.request(rpc.MoveLeaderRequest(targetID=target))
                await stream.finished.wait()
            return stream.status

        bad = (9, "etcdserver: bad leader transferee")
        assert await move(1234) == await move(LEARNER) == bad
        assert await move(OWN) == (0, "") and desk.member.moved_to == []
        assert await move(N2) == (0, "") and desk.member.moved_to == [N2]
        assert await move(OWN) == (9, "etcdserver: not leader")

    at_desk(test)


def test_the_members_commands_have_the_numbers_of_the_log() -> None:
    assert [int(command) for command in MemberCommand] == [10, 45, 46, 47, 48]
