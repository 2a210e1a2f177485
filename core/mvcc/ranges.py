"""Answering a range request: which revision, which keys, in which order, how much of each.

The body is a serialised ``RangeResponse`` without its header; stored records are spliced in. Order of the
steps, as clients can see it: take the keys in order, drop what the revision bounds exclude, sort, cut at
the limit. Without bounds and order the limit is applied first, so a sort target alone sorts what the limit
has left over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from .. import rpc_errors
from ..wire.proto import rpc_pb2 as rpc
from ..wire.varint import encode_varint
from .record import Record, value_of, without_value

__all__ = [
    "SORT_KEYS", "Readable", "answer_range", "has_bounds", "range_end_of", "read_revision", "shown_field",
    "sort_records", "tail", "within_bounds",
]

_PLENTY = 1 << 30  # records; more than there can be: a limit beyond may not fit where it is counted


class Readable(Protocol):
    """What ranges read from: the store itself, or a draft of a transaction."""

    @property
    def revision(self) -> int: ...

    compacted: int

    def latest(self, key: bytes) -> Record | None: ...

    def select(self, start: bytes, end: bytes | None, revision: int, limit: int = 0) -> list[Record]: ...

    def count(self, start: bytes, end: bytes | None, revision: int) -> int: ...

    def data_of(self, record: Record, *, keep: bool = True) -> bytes: ...

    def data_of_all(self, records: Sequence[Record]) -> list[bytes]: ...


#: What ``RangeRequest.SortTarget`` sorts by, but for values.
SORT_KEYS: dict[int, Callable[[Record], object]] = {
    rpc.RangeRequest.KEY: lambda record: record.key,
    rpc.RangeRequest.VERSION: lambda record: record.version,
    rpc.RangeRequest.CREATE: lambda record: record.create_revision,
    rpc.RangeRequest.MOD: lambda record: record.mod_revision,
}


def range_end_of(key: bytes, range_end: bytes) -> bytes | None:
    """Turn etcd's ``range_end`` into an exclusive end: empty means one key, a zero byte everything (None)."""
    if not range_end:
        return key + b"\0"
    return None if range_end == b"\0" else range_end


def read_revision(view: Readable, asked: int) -> int:
    """The revision a read asks for; 0 and below mean the newest.

    Raises:
        RpcError: FUTURE_REVISION or COMPACTED.
    """
    if asked > view.revision:
        raise rpc_errors.FUTURE_REVISION.with_traceback(None)
    if asked <= 0:
        return view.revision
    if asked < view.compacted:
        raise rpc_errors.COMPACTED.with_traceback(None)
    return asked


def answer_range(view: Readable, request: rpc.RangeRequest) -> bytes:
    """Answer a checked request (``checks.check_range``) with the body of a ``RangeResponse``.

    Raises:
        RpcError: FUTURE_REVISION or COMPACTED; nothing else, whatever the request says.
    """
    revision = read_revision(view, request.revision)
    key, range_end = request.key, request.range_end
    if not range_end and revision == view.revision and not _is_special(request):
        record = view.latest(key)
        if record is None:
            return b""
        data = record.data
        if data is None:
            data = view.data_of(record)
        return b"".join((b"\x12", encode_varint(len(data)), data, b"\x20\x01"))
    end = range_end_of(key, range_end)
    count = view.count(key, end, revision)
    more = False
    records: list[Record] = []
    if not request.count_only:
        more, records = _chosen(view, request, end, revision)
    shown = [without_value(record) for record in records] if request.keys_only else view.data_of_all(records)
    return shown_field(shown) + tail(count, more=more)


def _is_special(request: rpc.RangeRequest) -> bool:
    return bool(request.count_only or request.keys_only or has_bounds(request))


def has_bounds(request: rpc.RangeRequest) -> bool:
    """Whether revisions decide what is shown."""
    return bool(
        request.min_mod_revision or request.max_mod_revision
        or request.min_create_revision or request.max_create_revision
    )


def _chosen(
    view: Readable, request: rpc.RangeRequest, end: bytes | None, revision: int
) -> tuple[bool, list[Record]]:
    """The records to show, and whether the limit cut some off."""
    limit = max(0, request.limit)
    order = request.sort_order
    fetch = 0 if order or has_bounds(request) or not limit else min(limit, _PLENTY) + 1
    records = view.select(request.key, end, revision, fetch)
    if has_bounds(request):
        records = [record for record in records if within_bounds(record, request)]
    if order or request.sort_target:
        sort_records(view, records, request.sort_target, descending=order == rpc.RangeRequest.DESCEND)
    if limit and len(records) > limit:
        return True, records[:limit]
    return False, records


def sort_records(view: Readable, records: list[Record], target: int, *, descending: bool) -> None:
    """Sort in place by one of ``RangeRequest.SortTarget``; equal ones stay in their order."""
    if target == rpc.RangeRequest.VALUE:
        values = list(map(value_of, view.data_of_all(records)))
        order = sorted(range(len(records)), key=values.__getitem__, reverse=descending)
        records[:] = [records[place] for place in order]
        return
    sort_key = SORT_KEYS.get(target, SORT_KEYS[0])
    records.sort(key=sort_key, reverse=descending)  # type: ignore[arg-type]


def within_bounds(record: Record, request: rpc.RangeRequest) -> bool:
    """Whether the revisions that a request asks for include the record's."""
    return (
        (not request.min_mod_revision or record.mod_revision >= request.min_mod_revision)
        and (not request.max_mod_revision or record.mod_revision <= request.max_mod_revision)
        and (not request.min_create_revision or record.create_revision >= request.min_create_revision)
        and (not request.max_create_revision or record.create_revision <= request.max_create_revision)
    )


def shown_field(shown: Iterable[bytes]) -> bytes:
    """The field ``kvs`` of a ``RangeResponse``, from wire forms."""
    parts: list[bytes] = []
    for data in shown:
        parts += (_shown_head(len(data)), data)
    return b"".join(parts)


@lru_cache(4096)
def _shown_head(size: int) -> bytes:
    return b"\x12" + encode_varint(size)


def tail(count: int, *, more: bool) -> bytes:
    """The fields of a ``RangeResponse`` behind ``kvs``."""
    return (b"\x18\x01" if more else b"") + (b"\x20" + encode_varint(count) if count else b"")
