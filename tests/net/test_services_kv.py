"""KV, Cluster and Maintenance on a member without a network: headers, read points, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from google.protobuf.message import DecodeError

from tercet.core import rpc_errors
from tercet.core.machine import Command
from tercet.core.wire.proto import internal_pb2 as internal
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk


def with_desk(test: Callable[[Desk], Awaitable[None]]) -> None:
    async def run(world: World) -> None:
        await test(Desk(world))

    run_in_world(run)


def test_answers_carry_ids_revision_and_term() -> None:
    async def test(desk: Desk) -> None:
        header = desk.put(b"k").header
        assert (header.cluster_id, header.member_id, header.revision, header.raft_term) == (202, 101, 2, 3)
        desk.member.change_leader(101)
        assert desk.ask("KV/Range", rpc.RangeRequest(key=b"k")).header.raft_term == 4

    with_desk(test)


def test_malformed_requests_are_refused_without_a_proposal() -> None:
    async def test(desk: Desk) -> None:
        for method, request, error in [
            ("KV/Put", rpc.PutRequest(), rpc_errors.EMPTY_KEY),
            ("KV/DeleteRange", rpc.DeleteRangeRequest(), rpc_errors.EMPTY_KEY),
            ("KV/Range", rpc.RangeRequest(), rpc_errors.EMPTY_KEY),
            ("KV/Txn", rpc.TxnRequest(success=[rpc.RequestOp()]), rpc_errors.KEY_NOT_FOUND),
            ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=9_000_000_001), rpc_errors.LEASE_TTL_TOO_LARGE),
        ]:
            assert desk.call(method, request).status == (error.code, error.message)
        assert desk.member.proposed == []

    with_desk(test)


def test_bytes_that_are_no_request_raise_for_the_door_to_answer() -> None:
    async def test(desk: Desk) -> None:
        for path, handler in desk.services.unary.items():
            if path.rpartition("/")[2] in ("Range", "Put", "DeleteRange", "Txn", "Compact", "LeaseGrant"):
                with pytest.raises(DecodeError):
                    desk.call(path.removeprefix("/etcdserverpb."), b"\xff\xff\xff")
                assert handler is not None
        assert desk.member.proposed == []

    with_desk(test)


def test_serializable_reads_ask_nobody_and_others_need_a_read_point() -> None:
    async def test(desk: Desk) -> None:
        desk.put(b"k")
        desk.member.read_error = rpc_errors.TIMEOUT
        assert desk.ask("KV/Range", rpc.RangeRequest(key=b"k", serializable=True)).count == 1
        call = desk.call("KV/Range", rpc.RangeRequest(key=b"k"))
        assert call.status == (14, "etcdserver: request timed out")
        local = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k", serializable=True))
        point = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k"))
        assert desk.ask("KV/Txn", rpc.TxnRequest(success=[local])).succeeded
        assert desk.call("KV/Txn", rpc.TxnRequest(success=[local, point])).status == call.status

    with_desk(test)


def test_read_only_transactions_take_no_place_in_the_log() -> None:
    async def test(desk: Desk) -> None:
        desk.put(b"k")
        operation = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k"))
        response = desk.ask("KV/Txn", rpc.TxnRequest(success=[operation]))
        assert response.responses[0].response_range.kvs[0].value == b"v"
        assert desk.member.proposed == [Command.PUT]

    with_desk(test)


def test_errors_of_the_state_reach_the_client() -> None:
    async def test(desk: Desk) -> None:
        call = desk.call("KV/Put", rpc.PutRequest(key=b"k", lease=9))
        assert call.status == (5, "etcdserver: requested lease not found")
        call = desk.call("KV/Range", rpc.RangeRequest(key=b"k", revision=99))
        assert call.status == (11, "etcdserver: mvcc: required revision is a future revision")
        call = desk.call("KV/Compact", rpc.CompactionRequest(revision=99))
        assert call.status == (11, "etcdserver: mvcc: required revision is a future revision")

    with_desk(test)


def test_who_insists_on_a_leader_is_refused_at_once_without_one() -> None:
    async def test(desk: Desk) -> None:
        desk.member.change_leader(0)
        for method, request in [
            ("KV/Put", rpc.PutRequest(key=b"k")),
            ("KV/Range", rpc.RangeRequest(key=b"k", serializable=True)),
            ("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=5)),
        ]:
            call = desk.call(method, request, hasleader="true")
            assert call.status == (14, "etcdserver: no leader")
        assert desk.ask("KV/Range", rpc.RangeRequest(key=b"k", serializable=True)).count == 0

    with_desk(test)


def test_members_are_listed_without_a_revision_and_get_names_when_published() -> None:
    async def test(desk: Desk) -> None:
        response = desk.ask("Cluster/MemberList", rpc.MemberListRequest())
        assert response.header.revision == 0 and response.header.raft_term == 3
        member = response.members[0]
        assert (member.name, list(member.peerURLs)) == ("", ["http://localhost:2380"])
        attributes = internal.MemberAttributes(member_id=member.ID, name="n1", client_urls=["http://c"])
        desk.member.propose(
            Command.MEMBER_ATTRIBUTES, attributes.SerializeToString(), lambda outcome: None
        )
        member = desk.ask("Cluster/MemberList", rpc.MemberListRequest(linearizable=True)).members[0]
        assert (member.name, list(member.clientURLs)) == ("n1", ["http://c"])

    with_desk(test)


def test_status_names_the_leader_and_what_is_wrong() -> None:
    async def test(desk: Desk) -> None:
        desk.put(b"k")
        status = desk.ask("Maintenance/Status", rpc.StatusRequest())
        assert (status.version, status.leader, status.raftTerm, status.raftIndex) == ("3.4.35", 101, 3, 1)
        assert status.dbSize >= status.dbSizeInUse > 0 and not status.errors
        raised = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, memberID=101, alarm=rpc.NOSPACE)
        assert not desk.ask("Maintenance/Alarm", raised).HasField("header")
        desk.member.change_leader(0)
        status = desk.ask("Maintenance/Status", rpc.StatusRequest())
        assert list(status.errors) == ["etcdserver: no leader", "memberID:101 alarm:NOSPACE "]

    with_desk(test)


def test_the_history_hash_is_etcds() -> None:
    async def test(desk: Desk) -> None:
        response = desk.ask("Maintenance/HashKV", rpc.HashKVRequest())
        assert (response.hash, response.compact_revision, response.header.revision) == (1084519789, -1, 1)
        call = desk.call("Maintenance/HashKV", rpc.HashKVRequest(revision=100))
        assert call.status == (11, "etcdserver: mvcc: required revision is a future revision")

    with_desk(test)


def test_every_method_of_the_services_offered_has_an_answer() -> None:
    """Auth comes later as a whole; of the other services no method may be forgotten."""

    async def test(desk: Desk) -> None:
        for path, method in METHODS.items():
            if path.startswith("/etcdserverpb.Auth/"):
                continue
            streaming = method.client_streaming or method.server_streaming
            in_task = path in desk.services.stream  # so may a unary method be that waits for long
            assert in_task if streaming else in_task or path in desk.services.unary

    with_desk(test)
