"""The quota of the database: what is let in, and how the alarm is raised."""

from __future__ import annotations

from collections.abc import Callable

from tercet.core import rpc_errors
from tercet.core.machine import Alarm, Command, Machine, Outcome
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.quota import DEFAULT_QUOTA_BYTES, Quota, put_cost, txn_cost
from tercet.net.world import World
from tercet.sim.contract import run_in_world

from .service_desk import Desk


class Member:
    """A member whose database has the size that a test says."""

    def __init__(self) -> None:
        self.member_id = 7
        self.machine = Machine()
        self.size = 20_000
        self.database_size: Callable[[], tuple[int, int]] = lambda: (self.size, self.size)
        self.proposed: list[rpc.AlarmRequest] = []

    def propose(self, kind: int, payload: bytes, done: Callable[[Outcome | RpcError], None]) -> None:
        assert kind == Command.ALARM
        request = rpc.AlarmRequest.FromString(payload)
        self.proposed.append(request)
        self.machine.alarms = (Alarm(request.memberID, request.alarm),)
        done(Outcome(7, 1, 1))


def test_nothing_is_counted_far_from_the_limit_or_without_one() -> None:
    member = Member()
    assert not Quota(member, 0).tight and Quota(member, 0).limit == DEFAULT_QUOTA_BYTES
    assert not Quota(member, -1).tight
    assert Quota(member, 100_000).tight
    member.size = DEFAULT_QUOTA_BYTES - 1_000_000
    assert Quota(member, 0).tight


def test_what_would_not_fit_raises_the_alarm_once_and_is_refused() -> None:
    member, answers = Member(), list[RpcError]()
    quota = Quota(member, 22_000)
    assert not quota.refuse(1_000, answers.append)
    assert quota.refuse(1_000, answers.append)  # what was let in counts
    assert [(a.memberID, a.alarm, a.action) for a in member.proposed] == [
        (7, rpc.NOSPACE, rpc.AlarmRequest.ACTIVATE)
    ]
    assert quota.refuse(1_000, answers.append)
    assert len(member.proposed) == 1 and answers == [rpc_errors.NO_SPACE] * 2
    quota.refresh()  # a commit: the size says it now
    assert not quota.refuse(1_000, answers.append)


def test_costs_are_those_of_etcd() -> None:
    put = rpc.PutRequest(key=b"key", value=b"value")
    assert put_cost(put) == 256 + 8
    nested = rpc.TxnRequest(success=[rpc.RequestOp(request_put=put)] * 3)
    request = rpc.TxnRequest(
        success=[rpc.RequestOp(request_put=put), rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k"))],
        failure=[rpc.RequestOp(request_txn=nested)],
    )
    assert txn_cost(request) == 3 * 264


def test_puts_txns_and_leases_are_refused_and_deletions_are_not() -> None:
    async def run(world: World) -> None:
        desk = Desk(world, quota_backend_bytes=8_000)  # less than there is
        put = rpc.PutRequest(key=b"k", value=b"v")
        no_space = (rpc_errors.NO_SPACE.code, rpc_errors.NO_SPACE.message)
        assert desk.call("KV/Put", put).status == no_space
        txn = rpc.TxnRequest(success=[rpc.RequestOp(request_put=put)])
        assert desk.call("KV/Txn", txn).status == no_space
        assert desk.call("Lease/LeaseGrant", rpc.LeaseGrantRequest(TTL=10)).status == no_space
        assert desk.call("KV/DeleteRange", rpc.DeleteRangeRequest(key=b"k")).status == (0, "")
        assert desk.call("KV/Range", rpc.RangeRequest(key=b"k")).status == (0, "")
        assert Alarm(desk.member.member_id, rpc.NOSPACE) in desk.member.machine.alarms

    run_in_world(run)
