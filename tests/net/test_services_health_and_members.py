"""gRPC's health service, and the answers about members that need no change of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from google.protobuf.message import Message

from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import health_pb2 as healthpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.config import member_id
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeCall, FakeStream

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
CLUSTER = {"n1": ("http://a:1",), "n2": ("http://b:1",)}
N1, N2 = (member_id(urls, "etcd-cluster") for urls in CLUSTER.values())


def with_desk(test: Callable[[Desk, trio.Nursery], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        desk = Desk(world, initial_cluster=CLUSTER)
        desk.member.member_id = desk.member.leader_id = N1
        async with trio.open_nursery() as nursery:
            await test(desk, nursery)
            nursery.cancel_scope.cancel()

    run_in_world(run)


def check(desk: Desk, service: str) -> FakeCall:
    call = FakeCall(healthpb.HealthCheckRequest(service=service).SerializeToString(), {})
    desk.services.unary[CHECK](call)
    return call


def watch(desk: Desk, nursery: trio.Nursery, service: str) -> FakeStream:
    stream = desk.open(nursery, WATCH)
    stream.request(healthpb.HealthCheckRequest(service=service))
    return stream


def test_the_server_as_a_whole_serves_and_other_services_are_unknown() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        call = check(desk, "")
        assert call.status == (0, "")
        assert healthpb.HealthCheckResponse.FromString(call.answer).status == 1
        assert check(desk, "etcdserverpb.KV").status == (5, "unknown service")

    with_desk(test)


def test_a_health_watch_hears_of_the_end() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        known, unknown = watch(desk, nursery, ""), watch(desk, nursery, "x")
        assert (await known.response()).status == healthpb.HealthCheckResponse.SERVING
        assert (await unknown.response()).status == healthpb.HealthCheckResponse.SERVICE_UNKNOWN
        assert known.status is None
        desk.services.shut()
        assert (await known.response()).status == healthpb.HealthCheckResponse.NOT_SERVING
        for stream in (known, unknown):
            await stream.finished.wait()
            assert (stream.status, stream.unread()) == ((0, ""), 0)

    with_desk(test)


def refusal(desk: Desk, method: str, request: Message) -> tuple[int, str]:
    """How a call fails, whichever way its handler says so."""
    try:
        call = desk.call(method, request)
    except RpcError as error:
        return int(error.code), error.message
    assert call.status is not None
    return call.status


EXISTS = (9, "etcdserver: Peer URLs already exists")
NOT_FOUND = (5, "etcdserver: member not found")
VOTES = (9, "etcdserver: can only promote a learner member")
BAD_URLS = (3, "etcdserver: given member URLs are invalid")


@pytest.mark.parametrize(
    ("method", "request_message", "expected"),
    [
        ("MemberAdd", rpc.MemberAddRequest(), BAD_URLS),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://c:1", "127.0.0.1:1"]), BAD_URLS),
        ("MemberAdd", rpc.MemberAddRequest(peerURLs=["http://c:1", "http://b:1"]), EXISTS),
        ("MemberRemove", rpc.MemberRemoveRequest(ID=1234), NOT_FOUND),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=1234, peerURLs=["http://c:1"]), NOT_FOUND),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=N1, peerURLs=["http://b:1"]), EXISTS),
        ("MemberPromote", rpc.MemberPromoteRequest(ID=1234), NOT_FOUND),
        ("MemberPromote", rpc.MemberPromoteRequest(ID=N2), VOTES),
        ("MemberUpdate", rpc.MemberUpdateRequest(ID=N1, peerURLs=["http://a:1"]), (0, "")),
    ],
)
def test_what_the_list_of_members_refuses(
    method: str, request_message: Message, expected: tuple[int, str]
) -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        assert refusal(desk, f"Cluster/{method}", request_message) == expected

    with_desk(test)


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("Cluster/MemberAdd", rpc.MemberAddRequest(peerURLs=["http://c:1"])),
        ("Cluster/MemberRemove", rpc.MemberRemoveRequest(ID=N2)),
        ("Cluster/MemberUpdate", rpc.MemberUpdateRequest(ID=N1, peerURLs=["http://c:1"])),
        ("Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=N2)),
    ],
)
def test_a_change_that_could_happen_is_honestly_not_offered(
    method: str, request_message: Message
) -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        service, _, name = method.partition("/")
        text = f"unknown method {name} for service etcdserverpb.{service}"
        assert refusal(desk, method, request_message) == (12, text)

    with_desk(test)


def test_leadership_moves_only_from_the_leader_to_a_member() -> None:
    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        def move(target: int) -> tuple[int, str]:
            return refusal(desk, "Maintenance/MoveLeader", rpc.MoveLeaderRequest(targetID=target))

        assert move(1234) == (9, "etcdserver: bad leader transferee")
        assert move(N1) == (0, "")
        desk.member.change_leader(N2)
        for target in (1234, N1, N2):
            assert move(target) == (9, "etcdserver: not leader")

    with_desk(test)
