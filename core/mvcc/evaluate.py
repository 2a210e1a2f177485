"""Evaluating write requests: from a store and a request to a body and a delta, touching nothing.

Bodies are serialised responses without their header, those of requests that may be long in parts; the answers
inside a transaction carry a header with the revision alone, as etcd's do. A transaction works in this order:
every comparison, nested ones included, is judged on the state before it; then the chosen operations are
checked; only then do they write, each seeing the writes before it. So a transaction happens as a whole or not
at all.

Deletions and transactions may visit every key there is, so they are evaluated in steps (``mvcc.steps``), all
of them on the state at the first one. Most are done with their first step.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import lru_cache
from typing import Final, TypeAlias

from .. import rpc_errors
from ..wire.proto import rpc_pb2 as rpc
from ..wire.varint import encode_varint
from .compare import branches
from .draft import Draft
from .pages import answer_in_pages, range_is_long, wire_forms_in_pages
from .ranges import Readable, answer_range, range_end_of
from .record import Delta, Event, Record, make_record, value_of
from .steps import PAGE_KEYS, Steps
from .store import Store
from .tally import Tally

__all__ = ["evaluate_delete", "evaluate_put", "evaluate_txn", "is_read_only"]

#: An operation of the branch taken, and which of its fields is set.
_Chosen: TypeAlias = tuple[str | None, rpc.RequestOp]

#: An answer inside a transaction that is larger than this is work enough for one step.
_STEP_BYTES: Final = 128 << 10


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


def evaluate_delete(
    store: Store, request: rpc.DeleteRangeRequest, tally: Tally
) -> Steps[tuple[list[bytes], Delta]]:
    """Evaluate one deletion on its own; deleting nothing takes no revision."""
    draft = Draft(store)
    before = tally.operations
    body = yield from _delete_body(draft, request, tally)
    tally.end(before)
    return body, draft.delta()


def evaluate_txn(
    store: Store, request: rpc.TxnRequest, leases: Container[int], tally: Tally, *, writes: bool = True
) -> Steps[tuple[list[bytes], Delta]]:
    """Evaluate a transaction; a read-only one yields an empty delta.

    Args:
        leases: the ids of the leases there are.
        writes: False for a read-only transaction, which is counted as one piece of work.

    Raises:
        RpcError: one of its operations cannot be done (KEY_NOT_FOUND, LEASE_NOT_FOUND, COMPACTED,
            FUTURE_REVISION); then nothing is done.
    """
    before = tally.operations
    draft = Draft(store)
    pinned = store.compacted
    store.pin(pinned)
    try:
        path: list[bool] = []
        yield from branches(draft, request, tally, path)
        chosen = list(_chosen_operations(request, iter(path)))
        _check_puts(chosen, draft, leases, tally)
        _check_ranges(chosen, draft)
        if writes:
            tally.end(before)
            before = tally.operations
        body = yield from _txn_body(draft, request, iter(path), tally)
    finally:
        store.unpin(pinned)
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
    return b"".join((b"\x12", encode_varint(len(data)), data))


def _kept(view: Readable, previous: Record | None, request: rpc.PutRequest) -> tuple[bytes, int]:
    """The value and lease of a put that keeps one of them."""
    if previous is None:
        raise rpc_errors.KEY_NOT_FOUND.with_traceback(None)
    value = value_of(view.data_of(previous)) if request.ignore_value else request.value
    return value, previous.lease if request.ignore_lease else request.lease


# ---- the checks of the chosen operations


def _chosen_operations(request: rpc.TxnRequest, path: Iterator[bool]) -> Iterator[_Chosen]:
    for operation in request.success if next(path) else request.failure:
        kind = operation.WhichOneof("request")
        if kind == "request_txn":
            yield from _chosen_operations(operation.request_txn, path)
        else:
            yield kind, operation


def _check_puts(chosen: list[_Chosen], view: Readable, leases: Container[int], tally: Tally) -> None:
    for kind, operation in chosen:
        if kind != "request_put":
            continue
        put = operation.request_put
        if put.ignore_value or put.ignore_lease:
            tally.ranges += 1
            if view.latest(put.key) is None:
                raise rpc_errors.KEY_NOT_FOUND.with_traceback(None)
        if put.lease and put.lease not in leases:
            raise rpc_errors.LEASE_NOT_FOUND.with_traceback(None)


def _check_ranges(chosen: list[_Chosen], view: Readable) -> None:
    for kind, operation in chosen:
        if kind != "request_range":
            continue
        revision = operation.request_range.revision
        if revision > view.revision:
            raise rpc_errors.FUTURE_REVISION.with_traceback(None)
        if revision and revision < view.compacted:
            raise rpc_errors.COMPACTED.with_traceback(None)


# ---- the bodies


@lru_cache(16)
def _revision_header(revision: int) -> bytes:
    number = encode_varint(revision)
    return b"".join((b"\n", encode_varint(len(number) + 1), b"\x18", number))


def _txn_body(
    draft: Draft, request: rpc.TxnRequest, path: Iterator[bool], tally: Tally
) -> Steps[list[bytes]]:
    """A ``TxnResponse`` in parts; what has written or shown much makes a step of its own."""
    succeeded = next(path)
    parts = [b"\x10\x01"] if succeeded else []
    written = draft.size
    for operation in request.success if succeeded else request.failure:
        if operation.WhichOneof("request") == "request_put":
            answer = _put_answer(draft, operation.request_put, tally)
            parts += (b"\x1a", encode_varint(len(answer)), answer)
            continue
        long_answer = yield from _long_answer(draft, operation, path, tally)
        size = sum(map(len, long_answer))
        parts += (b"\x1a", encode_varint(size), *long_answer)
        if size > _STEP_BYTES or draft.size - written > PAGE_KEYS:
            written = draft.size
            yield
    return parts


def _long_answer(
    draft: Draft, operation: rpc.RequestOp, path: Iterator[bool], tally: Tally
) -> Steps[list[bytes]]:
    """One serialised ``ResponseOp`` of anything but a put, in parts."""
    match operation.WhichOneof("request"):
        case "request_range":
            tally.ranges += 1
            request = operation.request_range
            if range_is_long(draft, request):
                body = yield from answer_in_pages(draft, request)
            else:
                body = [answer_range(draft, request)]
            tag = b"\x0a"
        case "request_delete_range":
            body = yield from _delete_body(draft, operation.request_delete_range, tally)
            tag = b"\x1a"
        case "request_txn":
            body = yield from _txn_body(draft, operation.request_txn, path, tally)
            return [b"\x22" + encode_varint(2 + sum(map(len, body))) + b"\n\x00", *body]
        case _:
            return []
    header = _revision_header(draft.revision)
    return [tag + encode_varint(len(header) + sum(map(len, body))) + header, *body]


def _put_answer(draft: Draft, request: rpc.PutRequest, tally: Tally) -> bytes:
    """One serialised ``ResponseOp`` of a put."""
    body = _put_body(draft, request, tally)
    answer = _revision_header(draft.revision) + body
    return b"".join((b"\x12", encode_varint(len(answer)), answer))


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


def _delete_body(draft: Draft, request: rpc.DeleteRangeRequest, tally: Tally) -> Steps[list[bytes]]:
    """A ``DeleteRangeResponse`` in parts."""
    tally.deletes += 1
    tally.ranges += request.prev_kv
    gone = yield from draft.delete_range(request.key, range_end_of(request.key, request.range_end))
    if not gone:
        return []
    parts = [b"\x10" + encode_varint(len(gone))]
    if request.prev_kv:
        for number, (_, forms) in enumerate(wire_forms_in_pages(draft, gone)):
            if number:
                yield
            parts.append(b"".join([b"\x1a" + encode_varint(len(form)) + form for form in forms]))
    return parts
