"""What goes into and comes out of the client's calls: frozen values, and their protobuf forms.

Operations (``Put``, ``Get``, ``Delete``, ``Txn``, ``Compare``) become requests with ``request``; answers are
read with the functions at the end. Revisions, leases and versions are etcd's int64; keys and values bytes.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

__all__ = [
    "Compare", "Delete", "DeleteResult", "Event", "Get", "GetResult", "Header", "KeyValue", "Lease",
    "LeaseState", "Member", "Operation", "Put", "PutResult", "Result", "Status", "Txn", "TxnResult",
    "WatchBatch", "event_of", "header_of", "key_value_of", "read_delete", "read_get",
    "read_put", "read_txn",
]


class Header(msgspec.Struct, frozen=True):
    """Who answered, at which revision and Raft term."""

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


class KeyValue(msgspec.Struct, frozen=True):
    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int  # 0: none


class Event(msgspec.Struct, frozen=True):
    """One change. ``kind`` is "put" or "delete"; of a deletion ``kv`` has only key and mod_revision."""

    kind: str
    kv: KeyValue
    prev: KeyValue | None  # only when asked for, and there was one


class WatchBatch(msgspec.Struct, frozen=True):
    """What a watch tells at once; ``events`` is empty in a progress notification, which promises that
    everything up to ``revision`` has been told."""

    revision: int
    events: tuple[Event, ...]

    @property
    def progress(self) -> bool:
        return not self.events


class PutResult(msgspec.Struct, frozen=True):
    header: Header
    prev: KeyValue | None


class GetResult(msgspec.Struct, frozen=True):
    header: Header
    kvs: tuple[KeyValue, ...]
    count: int  # keys in the range, whatever the limit
    more: bool


class DeleteResult(msgspec.Struct, frozen=True):
    header: Header
    deleted: int
    prevs: tuple[KeyValue, ...]


class TxnResult(msgspec.Struct, frozen=True):
    header: Header
    succeeded: bool
    responses: tuple[Result, ...]


Result: TypeAlias = PutResult | GetResult | DeleteResult | TxnResult


class Lease(msgspec.Struct, frozen=True):
    """A granted lease; ``ttl`` in seconds."""

    id: int
    ttl: int


class LeaseState(msgspec.Struct, frozen=True):
    """``ttl``: seconds left, -1 when there is no such lease."""

    id: int
    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...]


class Member(msgspec.Struct, frozen=True):
    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


class Status(msgspec.Struct, frozen=True):
    """The answering member's own view."""

    header: Header
    version: str
    leader: int
    raft_index: int
    raft_term: int
    raft_applied_index: int
    errors: tuple[str, ...]


_ORDERS: Final = {
    "": rpc.RangeRequest.NONE,
    "ascend": rpc.RangeRequest.ASCEND,
    "descend": rpc.RangeRequest.DESCEND,
}
_TARGETS: Final = {
    "key": rpc.RangeRequest.KEY,
    "version": rpc.RangeRequest.VERSION,
    "create": rpc.RangeRequest.CREATE,
    "mod": rpc.RangeRequest.MOD,
    "value": rpc.RangeRequest.VALUE,
}


class Put(msgspec.Struct, frozen=True):
    key: bytes
    value: bytes = b""
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False

    def request(self) -> rpc.PutRequest:
        return rpc.PutRequest(
            key=self.key,
            value=self.value,
            lease=self.lease,
            prev_kv=self.prev_kv,
            ignore_value=self.ignore_value,
            ignore_lease=self.ignore_lease,
        )


class Get(msgspec.Struct, frozen=True):
    """``range_end``: b"" one key, b"\\0" from the key on, else exclusive. limit 0: all, revision 0: now."""

    key: bytes
    range_end: bytes = b""
    serializable: bool = False
    revision: int = 0
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False
    sort_order: str = ""  # ascend or descend
    sort_target: str = "key"  # key, version, create, mod or value

    def request(self) -> rpc.RangeRequest:
        return rpc.RangeRequest(
            key=self.key,
            range_end=self.range_end,
            serializable=self.serializable,
            revision=self.revision,
            limit=self.limit,
            keys_only=self.keys_only,
            count_only=self.count_only,
            sort_order=_ORDERS[self.sort_order],
            sort_target=_TARGETS[self.sort_target],
        )


class Delete(msgspec.Struct, frozen=True):
    key: bytes
    range_end: bytes = b""
    prev_kv: bool = False

    def request(self) -> rpc.DeleteRangeRequest:
        return rpc.DeleteRangeRequest(key=self.key, range_end=self.range_end, prev_kv=self.prev_kv)


class Compare(msgspec.Struct, frozen=True):
    """One condition of a transaction; made by the class methods. ``relation``: one of = != > <."""

    field: str
    key: bytes
    relation: str
    wanted: int | bytes
    range_end: bytes = b""

    @classmethod
    def value(cls, key: bytes, relation: str, wanted: bytes, range_end: bytes = b"") -> Compare:
        return cls("value", key, relation, wanted, range_end)

    @classmethod
    def version(cls, key: bytes, relation: str, wanted: int, range_end: bytes = b"") -> Compare:
        """Version 0: the key does not exist."""
        return cls("version", key, relation, wanted, range_end)

    @classmethod
    def create_revision(cls, key: bytes, relation: str, wanted: int, range_end: bytes = b"") -> Compare:
        return cls("create_revision", key, relation, wanted, range_end)

    @classmethod
    def mod_revision(cls, key: bytes, relation: str, wanted: int, range_end: bytes = b"") -> Compare:
        return cls("mod_revision", key, relation, wanted, range_end)

    @classmethod
    def lease(cls, key: bytes, relation: str, wanted: int, range_end: bytes = b"") -> Compare:
        return cls("lease", key, relation, wanted, range_end)

    def request(self) -> rpc.Compare:
        message = rpc.Compare(
            result=_RELATIONS[self.relation],
            target=_COMPARE_TARGETS[self.field],
            key=self.key,
            range_end=self.range_end,
        )
        setattr(message, self.field, self.wanted)
        return message


_RELATIONS: Final = {
    "=": rpc.Compare.EQUAL,
    ">": rpc.Compare.GREATER,
    "<": rpc.Compare.LESS,
    "!=": rpc.Compare.NOT_EQUAL,
}
_COMPARE_TARGETS: Final = {
    "version": rpc.Compare.VERSION,
    "create_revision": rpc.Compare.CREATE,
    "mod_revision": rpc.Compare.MOD,
    "value": rpc.Compare.VALUE,
    "lease": rpc.Compare.LEASE,
}


class Txn(msgspec.Struct, frozen=True):
    """All compares hold: ``success``, else ``failure``; may be an operation of another transaction."""

    compares: tuple[Compare, ...] = ()
    success: tuple[Operation, ...] = ()
    failure: tuple[Operation, ...] = ()

    def request(self) -> rpc.TxnRequest:
        return rpc.TxnRequest(
            compare=[compare.request() for compare in self.compares],
            success=[_operation(operation) for operation in self.success],
            failure=[_operation(operation) for operation in self.failure],
        )


Operation: TypeAlias = Put | Get | Delete | Txn


def _operation(operation: Operation) -> rpc.RequestOp:
    match operation:
        case Put():
            return rpc.RequestOp(request_put=operation.request())
        case Get():
            return rpc.RequestOp(request_range=operation.request())
        case Delete():
            return rpc.RequestOp(request_delete_range=operation.request())
        case Txn():
            return rpc.RequestOp(request_txn=operation.request())


def header_of(message: rpc.ResponseHeader) -> Header:
    return Header(message.cluster_id, message.member_id, message.revision, message.raft_term)


def key_value_of(message: kv_pb2.KeyValue) -> KeyValue:
    return KeyValue(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease,
    )


def event_of(message: kv_pb2.Event) -> Event:
    return Event(
        "delete" if message.type == kv_pb2.Event.DELETE else "put",
        key_value_of(message.kv),
        key_value_of(message.prev_kv) if message.HasField("prev_kv") else None,
    )


def read_put(message: rpc.PutResponse) -> PutResult:
    return PutResult(
        header_of(message.header), key_value_of(message.prev_kv) if message.HasField("prev_kv") else None
    )


def read_get(message: rpc.RangeResponse) -> GetResult:
    kvs = tuple(key_value_of(kv) for kv in message.kvs)
    return GetResult(header_of(message.header), kvs, message.count, message.more)


def read_delete(message: rpc.DeleteRangeResponse) -> DeleteResult:
    prevs = tuple(key_value_of(kv) for kv in message.prev_kvs)
    return DeleteResult(header_of(message.header), message.deleted, prevs)


def read_txn(message: rpc.TxnResponse) -> TxnResult:
    return TxnResult(
        header_of(message.header), message.succeeded, tuple(_response(one) for one in message.responses)
    )


def _response(message: rpc.ResponseOp) -> Result:
    match message.WhichOneof("response"):
        case "response_put":
            return read_put(message.response_put)
        case "response_range":
            return read_get(message.response_range)
        case "response_delete_range":
            return read_delete(message.response_delete_range)
        case _:
            return read_txn(message.response_txn)
