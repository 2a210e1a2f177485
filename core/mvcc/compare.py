"""The comparisons of a transaction: which branch it takes, and those nested in that branch.

All are judged on the state before the transaction. A comparison over a range holds when it holds for every
key in it; it visits them a page at a time (``mvcc.steps``).
"""

from __future__ import annotations

from ..wire.proto import rpc_pb2 as rpc
from .pages import Pageable, select_in_pages, wire_forms_in_pages
from .ranges import range_end_of
from .record import Record, value_of
from .steps import Steps
from .tally import Tally

__all__ = ["branches"]


def branches(view: Pageable, request: rpc.TxnRequest, tally: Tally, path: list[bool]) -> Steps[None]:
    """Note in ``path`` whether each transaction succeeds: this one, then those of its branch, depth first."""
    succeeded = True
    for compare in request.compare:
        tally.ranges += 1
        if compare.range_end:
            succeeded = yield from _range_holds(view, compare)
        else:
            succeeded = _key_holds(view, compare)
        if not succeeded:
            break
    path.append(succeeded)
    for operation in request.success if succeeded else request.failure:
        if operation.WhichOneof("request") == "request_txn":
            yield from branches(view, operation.request_txn, tally, path)


def _key_holds(view: Pageable, compare: rpc.Compare) -> bool:
    record = view.latest(compare.key)
    if record is None:
        return _missing_holds(compare)
    if compare.target == rpc.Compare.VALUE:
        return _judge(compare, value_of(view.data_of(record)), compare.value)
    return _judge(compare, _number(record, compare.target), _number(compare, compare.target))


def _range_holds(view: Pageable, compare: rpc.Compare) -> Steps[bool]:
    wanted, empty = _number(compare, compare.target), True
    end = range_end_of(compare.key, compare.range_end)
    for place, page in enumerate(select_in_pages(view, compare.key, end, view.revision)):
        if place:
            yield
        empty = empty and not page
        if compare.target != rpc.Compare.VALUE:
            if not all(_judge(compare, _number(record, compare.target), wanted) for record in page):
                return False
            continue
        for number, (_, forms) in enumerate(wire_forms_in_pages(view, page)):
            if number:
                yield
            if not all(_judge(compare, value_of(form), compare.value) for form in forms):
                return False
    return _missing_holds(compare) if empty else True


def _missing_holds(compare: rpc.Compare) -> bool:
    """A missing key has revision, version and lease 0, but no value at all."""
    return compare.target != rpc.Compare.VALUE and _judge(compare, 0, _number(compare, compare.target))


# What a target is called, in a record as in the request that names the number wanted.
_NUMBERS: dict[int, str] = {
    rpc.Compare.VERSION: "version",
    rpc.Compare.CREATE: "create_revision",
    rpc.Compare.MOD: "mod_revision",
    rpc.Compare.LEASE: "lease",
}


def _number(of: Record | rpc.Compare, target: int) -> int:
    number: int = getattr(of, _NUMBERS[target]) if target in _NUMBERS else 0
    return number


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
