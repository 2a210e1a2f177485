"""What is refused before it is proposed: pure functions of the request (and of two numbers for compaction).

Each returns the error or None. They are asked by the member that got the request, so nothing malformed
enters the log. Checks that need the state (is the lease there?) are made when the entry is applied.
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import rpc_errors
from ..rpc_errors import RpcError
from ..wire.proto import rpc_pb2 as rpc

__all__ = ["check_compaction", "check_delete", "check_put", "check_range", "check_txn"]

_SORT_ORDERS = frozenset(rpc.RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(rpc.RangeRequest.SortTarget.values())


def check_range(request: rpc.RangeRequest) -> RpcError | None:
    """A range needs a key, and a sort order and target that exist."""
    if not request.key:
        return rpc_errors.EMPTY_KEY
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        return rpc_errors.INVALID_SORT_OPTION
    return None


def check_put(request: rpc.PutRequest) -> RpcError | None:
    """A put needs a key, and must not give what it asks to ignore."""
    if not request.key:
        return rpc_errors.EMPTY_KEY
    if request.ignore_value and request.value:
        return rpc_errors.VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        return rpc_errors.LEASE_PROVIDED
    return None


def check_delete(request: rpc.DeleteRangeRequest) -> RpcError | None:
    """A deletion needs a key."""
    return None if request.key else rpc_errors.EMPTY_KEY


def check_compaction(revision: int, compacted: int, newest: int) -> RpcError | None:
    """A compaction, and a history's hash, must be above the last one and not above the newest revision."""
    if revision <= compacted:
        return rpc_errors.COMPACTED
    return rpc_errors.FUTURE_REVISION if revision > newest else None


def check_txn(request: rpc.TxnRequest, max_operations: int) -> RpcError | None:
    """A transaction must be small enough, well formed throughout, and write no key twice.

    Args:
        max_operations: most comparisons or operations in one list; what a level uses is missing to the
            transactions nested in it.
    """
    error = _check_shape(request, max_operations)
    if error is None:
        error = _Writes.of(request.success)[1] or _Writes.of(request.failure)[1]
    return error


def _check_shape(request: rpc.TxnRequest, max_operations: int) -> RpcError | None:
    size = max(len(request.compare), len(request.success), len(request.failure))
    if size > max_operations:
        return rpc_errors.TOO_MANY_OPERATIONS
    if any(not compare.key for compare in request.compare):
        return rpc_errors.EMPTY_KEY
    for operation in (*request.success, *request.failure):
        error = _check_operation(operation, max_operations - size)
        if error is not None:
            return error
    return None


def _check_operation(operation: rpc.RequestOp, max_operations: int) -> RpcError | None:
    match operation.WhichOneof("request"):
        case "request_range":
            return check_range(operation.request_range)
        case "request_put":
            return check_put(operation.request_put)
        case "request_delete_range":
            return check_delete(operation.request_delete_range)
        case "request_txn":
            return _check_shape(operation.request_txn, max_operations)
    return rpc_errors.KEY_NOT_FOUND


class _Writes:
    """The keys that one list of operations puts, and the ranges it deletes.

    The two branches of a nested transaction exclude each other, so the same key may be put in both.
    """

    def __init__(self) -> None:
        self.puts: dict[bytes, None] = {}
        self.deletes: list[tuple[bytes, bytes]] = []

    @classmethod
    def of(cls, operations: Sequence[rpc.RequestOp]) -> tuple[_Writes, RpcError | None]:
        """Collect; the error is DUPLICATE_KEY when a key is put twice, or put and deleted."""
        writes = cls()
        for operation in operations:
            if operation.WhichOneof("request") == "request_delete_range":
                request = operation.request_delete_range
                writes.deletes.append((request.key, request.range_end))
        for operation in operations:
            if operation.WhichOneof("request") == "request_txn":
                error = writes._add_nested(operation.request_txn)
                if error is not None:
                    return writes, error
        for operation in operations:
            if operation.WhichOneof("request") == "request_put":
                key = operation.request_put.key
                if key in writes.puts or writes._deletes(key):
                    return writes, rpc_errors.DUPLICATE_KEY
                writes.puts[key] = None
        return writes, None

    def _add_nested(self, request: rpc.TxnRequest) -> RpcError | None:
        branches = []
        for operations in (request.success, request.failure):
            branch, error = _Writes.of(operations)
            if error is not None:
                return error
            branches.append(branch)
        for branch in branches:
            if any(key in self.puts or self._deletes(key) for key in branch.puts):
                return rpc_errors.DUPLICATE_KEY
        for branch in branches:
            self.puts.update(branch.puts)
            self.deletes += branch.deletes
        return None

    def _deletes(self, key: bytes) -> bool:
        """As etcd, which overlooks that a range up to a zero byte is unbounded and calls it empty."""
        return any(start <= key < end if end else start == key for start, end in self.deletes)
