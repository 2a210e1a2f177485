"""Evaluating write requests: from a store and a request to a body and a delta, touching nothing.

Bodies are serialised responses without their header; the answers inside a transaction carry a header with
the revision alone, as etcd's do. A transaction works in this order: every comparison, nested ones included,
is judged on the state before it; then the chosen operations are checked; only then do they write, each
seeing the writes before it. So a transaction happens as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from .. import rpc_errors
from ..wire.proto import rpc_pb2 as rpc
from .draft import Draft
from .ranges import Readable, answer_range, range_end_of
from .record import Delta, Event, Record, make_record, value_of, varint
from .store import Store
from .tally import Tally

__all__ = ["evaluate_delete", "evaluate_put", "evaluate_txn", "is_read_only"]


def evaluate_put(
    store: Store, request: rpc.PutRequest, leases: Container[int], tally: Tally
) -> tuple[bytes, Delta]:
    """Evaluate one put on its own.

    Args:
        leases: the ids of the leases there are.

    Raises:
        RpcError: LEASE_NOT_FOUND; KEY_NOT_FOUND when ignore_value or ignore_lease has nothing to keep.
    """
    key, lease = request.key, request.lease
    if lease and lease not in leases:
        raise rpc_errors.LEASE_NOT_FOUND.with_traceback(None)
    previous = store.latest(key)
    value = request.value
    if request.ignore_value or request.ignore_lease:
        tally.ranges += 1
        value, lease = _kept(store, previous, request)
        tally.txns += 1
    elif request.prev_kv:
        tally.ranges += 1
        tally.txns += 1
    tally.puts += 1
    revision = store.revision + 1
    if previous is None:
        record = make_record(key, revision, revision, 0, 1, value, lease)
    else:
        record = make_record(
            previous.key, previous.create_revision, revision, 0, previous.version + 1, value, lease
        )
    body = b""
    if request.prev_kv and previous is not None:
        body = _previous_field(store.data_of(previous))
    return body, (Event(record, previous),)


def evaluate_delete(store: Store, request: rpc.DeleteRangeRequest, tally: Tally) -> tuple[bytes, Delta]:
    """Evaluate one deletion on its own; deleting nothing takes no revision."""
    draft = Draft(store)
    before = tally.operations
    body = _delete_body(draft, request, tally)
    tally.end(before)
    return body, draft.delta()


def evaluate_txn(
    view: Store, request: rpc.TxnRequest, leases: Container[int], tally: Tally, *, writes: bool = True
) -> tuple[bytes, Delta]:
    """Evaluate a transaction; a read-only one yields an empty delta.

    Args:
        leases: the ids of the leases there are.
        writes: False for a read-only transaction, which is counted as one piece of work.

    Raises:
        RpcError: one of its operations cannot be done (KEY_NOT_FOUND, LEASE_NOT_FOUND, COMPACTED,
            FUTURE_REVISION); then nothing is done.
    """
    before = tally.operations
    try:
        path = list(_outcomes(view, request, tally))
        for check in (_check_put(view, leases, tally), _check_range(view)):
            for operation in _chosen_operations(request, iter(path)):
                check(operation)
        if writes:
            tally.end(before)
            before = tally.operations
        draft = Draft(view)
        body = _txn_body(draft, request, iter(path), tally)
    finally:
        tally.end(before)
    return body, draft.delta()


def is_read_only(request: rpc.TxnRequest) -> bool:
    """True when neither branch could write: such a transaction needs no place in the log."""
    for operation in (*request.success, *request.failure):
        kind = operation.WhichOneof("request")
        if kind == "request_txn":
            if not is_read_only(operation.request_txn):
                return False
        elif kind != "request_range":
            return False
    return True


def _previous_field(data: bytes) -> bytes:
    return b"".join((b"\x12", varint(len(data)), data))


def _kept(view: Readable, previous: Record | None, request: rpc.PutRequest) -> tuple[bytes, int]:
    """The value and lease of a put that keeps one of them."""
    if previous is None:
        raise rpc_errors.KEY_NOT_FOUND.with_traceback(None)
    value = value_of(view.data_of(previous)) if request.ignore_value else request.value
    return value, previous.lease if request.ignore_lease else request.lease


# ---- comparisons


def _outcomes(view: Readable, request: rpc.TxnRequest, tally: Tally) -> Iterator[bool]:
    """Which branch each transaction takes: this one's, then those of the chosen branch, depth first."""
    succeeded = all(_compare_holds(view, compare, tally) for compare in request.compare)
    yield succeeded
    for operation in request.success if succeeded else request.failure:
        if operation.WhichOneof("request") == "request_txn":
            yield from _outcomes(view, operation.request_txn, tally)


def _compare_holds(view: Readable, compare: rpc.Compare, tally: Tally) -> bool:
    tally.ranges += 1
    if compare.range_end:
        records = view.select(compare.key, range_end_of(compare.key, compare.range_end), view.revision)
    else:
        record = view.latest(compare.key)
        records = [] if record is None else [record]
    if not records:
        # A missing key has revision, version and lease 0, but no value at all.
        return compare.target != rpc.Compare.VALUE and _judge(compare, 0, _wanted_number(compare))
    if compare.target == rpc.Compare.VALUE:
        return all(_judge(compare, value_of(view.data_of(record)), compare.value) for record in records)
    wanted = _wanted_number(compare)
    return all(_judge(compare, _number_of(record, compare.target), wanted) for record in records)


def _wanted_number(compare: rpc.Compare) -> int:
    match compare.target:
        case rpc.Compare.VERSION:
            return compare.version
        case rpc.Compare.CREATE:
            return compare.create_revision
        case rpc.Compare.MOD:
            return compare.mod_revision
        case rpc.Compare.LEASE:
            return compare.lease
    return 0


def _number_of(record: Record, target: int) -> int:
    match target:
        case rpc.Compare.VERSION:
            return record.version
        case rpc.Compare.CREATE:
            return record.create_revision
        case rpc.Compare.MOD:
            return record.mod_revision
        case rpc.Compare.LEASE:
            return record.lease
    return 0


def _judge(compare: rpc.Compare, have: int | bytes, want: int | bytes) -> bool:
    match compare.result:
        case rpc.Compare.EQUAL:
            return have == want
        case rpc.Compare.NOT_EQUAL:
            return have != want
        case rpc.Compare.GREATER:
            return have > want  # type: ignore[operator]
        case rpc.Compare.LESS:
            return have < want  # type: ignore[operator]
    return True


# ---- the checks of the chosen operations


def _chosen_operations(request: rpc.TxnRequest, path: Iterator[bool]) -> Iterator[rpc.RequestOp]:
    for operation in request.success if next(path) else request.failure:
        if operation.WhichOneof("request") == "request_txn":
            yield from _chosen_operations(operation.request_txn, path)
        else:
            yield operation


def _check_put(view: Readable, leases: Container[int], tally: Tally) -> Callable[[rpc.RequestOp], None]:
    def check(operation: rpc.RequestOp) -> None:
        if operation.WhichOneof("request") != "request_put":
            return
        put = operation.request_put
        if put.ignore_value or put.ignore_lease:
            tally.ranges += 1
            if view.latest(put.key) is None:
                raise rpc_errors.KEY_NOT_FOUND.with_traceback(None)
        if put.lease and put.lease not in leases:
            raise rpc_errors.LEASE_NOT_FOUND.with_traceback(None)

    return check


def _check_range(view: Readable) -> Callable[[rpc.RequestOp], None]:
    def check(operation: rpc.RequestOp) -> None:
        if operation.WhichOneof("request") != "request_range":
            return
        revision = operation.request_range.revision
        if revision > view.revision:
            raise rpc_errors.FUTURE_REVISION.with_traceback(None)
        if revision and revision < view.compacted:
            raise rpc_errors.COMPACTED.with_traceback(None)

    return check


# ---- the bodies


def _revision_header(revision: int) -> bytes:
    number = varint(revision)
    return b"".join((b"\n", varint(len(number) + 1), b"\x18", number))


def _txn_body(draft: Draft, request: rpc.TxnRequest, path: Iterator[bool], tally: Tally) -> bytes:
    succeeded = next(path)
    parts = [b"\x10\x01"] if succeeded else []
    for operation in request.success if succeeded else request.failure:
        answer = _operation_answer(draft, operation, path, tally)
        parts += (b"\x1a", varint(len(answer)), answer)
    return b"".join(parts)


def _operation_answer(
    draft: Draft, operation: rpc.RequestOp, path: Iterator[bool], tally: Tally
) -> bytes:
    """One serialised ``ResponseOp``."""
    match operation.WhichOneof("request"):
        case "request_range":
            tally.ranges += 1
            tag, body = b"\x0a", answer_range(draft, operation.request_range)
        case "request_put":
            tag, body = b"\x12", _put_body(draft, operation.request_put, tally)
        case "request_delete_range":
            tag, body = b"\x1a", _delete_body(draft, operation.request_delete_range, tally)
        case "request_txn":
            body = b"\n\x00" + _txn_body(draft, operation.request_txn, path, tally)
            return b"".join((b"\x22", varint(len(body)), body))
        case _:
            return b""
    answer = _revision_header(draft.revision) + body
    return b"".join((tag, varint(len(answer)), answer))


def _put_body(draft: Draft, request: rpc.PutRequest, tally: Tally) -> bytes:
    value, lease = request.value, request.lease
    kept = request.ignore_value or request.ignore_lease
    tally.ranges += kept or request.prev_kv
    if kept:
        value, lease = _kept(draft, draft.latest(request.key), request)
    tally.puts += 1
    previous = draft.put(request.key, value, lease)
    if request.prev_kv and previous is not None:
        return _previous_field(draft.data_of(previous))
    return b""


def _delete_body(draft: Draft, request: rpc.DeleteRangeRequest, tally: Tally) -> bytes:
    tally.deletes += 1
    tally.ranges += request.prev_kv
    gone = draft.delete_range(request.key, range_end_of(request.key, request.range_end))
    if not gone:
        return b""
    parts = [b"\x10", varint(len(gone))]
    if request.prev_kv:
        for data in draft.data_of_all(gone):
            parts += (b"\x1a", varint(len(data)), data)
    return b"".join(parts)
