"""gRPC's health service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from tercet.core.wire.proto import health_pb2 as healthpb
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk, FakeCall, FakeStream

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


def with_desk(test: Callable[[Desk, trio.Nursery], Awaitable[None]], **options: bool) -> None:
    async def run(world: World) -> None:
        desk = Desk(world, **options)
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


def test_clients_are_sent_elsewhere_during_a_defragmentation_when_that_is_asked_for() -> None:
    class Keeper:
        def __init__(self) -> None:
            self.finish = trio.Event()

        async def defragment(self) -> None:
            await self.finish.wait()

    async def test(desk: Desk, nursery: trio.Nursery) -> None:
        keeper = desk.member.keeper = Keeper()
        known, unknown = watch(desk, nursery, ""), watch(desk, nursery, "x")
        assert (await known.response()).status == healthpb.HealthCheckResponse.SERVING
        assert (await unknown.response()).status == healthpb.HealthCheckResponse.SERVICE_UNKNOWN
        job = desk.open(nursery, "/etcdserverpb.Maintenance/Defragment")
        job.request(rpc.DefragmentRequest())
        assert (await known.response()).status == healthpb.HealthCheckResponse.NOT_SERVING
        assert healthpb.HealthCheckResponse.FromString(check(desk, "").answer).status == 2
        keeper.finish.set()
        assert (await known.response()).status == healthpb.HealthCheckResponse.SERVING
        assert unknown.unread() == 0

    with_desk(test, stop_grpc_service_on_defrag=True)


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
