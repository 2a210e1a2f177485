"""The quota of the database: how large a member lets it grow, and the alarm when it would grow beyond.

A request that would not fit is refused by the member that got it, which raises the NOSPACE alarm for the
whole cluster; then every member refuses to grow until somebody compacts, defragments and disarms. What a
request costs is estimated as in etcd. The size is known by commits; what was let in since the last one is
added to it. Far from the limit nothing is counted at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from tercet.core import rpc_errors
from tercet.core.machine import Alarm, Command, Machine, Outcome
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

__all__ = ["DEFAULT_QUOTA_BYTES", "LEASE_COST", "Quota", "put_cost", "txn_cost"]

#: What etcd takes for 0.
DEFAULT_QUOTA_BYTES: Final = 2 << 30
#: What a lease is taken to cost.
LEASE_COST: Final = 320
_RECORD_COST: Final = 256  # beside key and value
_TIGHT_BYTES: Final = 512 << 20  # more than can be let in between two commits


class _Member(Protocol):
    member_id: int
    machine: Machine
    database_size: Callable[[], tuple[int, int]]

    def propose(self, kind: int, payload: bytes, done: Callable[[Outcome | RpcError], None]) -> None: ...


class Quota:
    """One member's quota.

    Args:
        limit: bytes; 0: etcd's default of 2 GiB; below 0: none.

    ``tight``: the limit is near enough that requests must be asked about with ``refuse``.
    """

    def __init__(self, member: _Member, limit: int) -> None:
        self._member = member
        self.limit = limit or DEFAULT_QUOTA_BYTES
        self._let_in = 0  # bytes since the last commit
        self.tight = False
        self.refresh()

    def refresh(self) -> None:
        """The size has changed: a commit, or a defragmentation."""
        self._let_in = 0
        self.tight = self.limit > 0 and self._member.database_size()[0] + _TIGHT_BYTES > self.limit

    def refuse(self, cost: int, refused: Callable[[RpcError], None]) -> bool:
        """Whether a request does not fit; then ``refused`` is called once the alarm is raised.

        What puts nothing costs nothing, and always fits: how else would there be room again.
        """
        member = self._member
        if not (self.tight and cost) or member.database_size()[0] + self._let_in + cost < self.limit:
            self._let_in += cost
            return False
        if Alarm(member.member_id, rpc.NOSPACE) in member.machine.alarms:
            refused(rpc_errors.NO_SPACE)
        else:
            alarm = rpc.AlarmRequest(
                action=rpc.AlarmRequest.ACTIVATE, memberID=member.member_id, alarm=rpc.NOSPACE
            )
            member.propose(
                Command.ALARM, alarm.SerializeToString(), lambda _: refused(rpc_errors.NO_SPACE)
            )
        return True


def put_cost(request: rpc.PutRequest) -> int:
    """The bytes that a put is taken to cost."""
    return _RECORD_COST + len(request.key) + len(request.value)


def txn_cost(request: rpc.TxnRequest) -> int:
    """The bytes that the dearer branch of a transaction is taken to cost."""
    return max(_list_cost(request.success), _list_cost(request.failure))


def _list_cost(operations: object) -> int:
    cost = 0
    for operation in operations:  # type: ignore[attr-defined]  # a repeated field
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            cost += put_cost(operation.request_put)
        elif kind == "request_txn":
            cost += txn_cost(operation.request_txn)
    return cost
