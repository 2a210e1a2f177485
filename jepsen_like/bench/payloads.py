"""The requests that the load generator repeats: real protobuf messages in gRPC's five-byte frame."""

from __future__ import annotations

from dataclasses import dataclass

from tercet.core.wire.proto import rpc_pb2 as rpc

__all__ = ["KEY", "OPERATIONS", "VALUE_BYTES", "Operation", "grpc_frame"]

KEY = b"/bench/key-0001"
VALUE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request: its name in the table, its gRPC path and its framed body."""

    name: str
    path: str
    body: bytes
    writes: bool
    #: The weight of this operation in the number of requests asked for: reads are cheaper, so more of them.
    weight: float = 1.0


def grpc_frame(message: bytes) -> bytes:
    """Put gRPC's prefix (not compressed, length) before a serialised message."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _put() -> bytes:
    return grpc_frame(rpc.PutRequest(key=KEY, value=b"v" * VALUE_BYTES).SerializeToString())


def _range(serializable: bool) -> bytes:
    return grpc_frame(rpc.RangeRequest(key=KEY, serializable=serializable).SerializeToString())


_RANGE = "/etcdserverpb.KV/Range"

#: In the order in which a round runs them: reads of a fresh server, writes, and reads after the burst.
OPERATIONS: tuple[Operation, ...] = (
    Operation("range-serializable", _RANGE, _range(True), writes=False, weight=2.0),
    Operation("range-linearizable", _RANGE, _range(False), writes=False, weight=2.0),
    Operation("put", "/etcdserverpb.KV/Put", _put(), writes=True),
    Operation("range-linearizable-after-puts", _RANGE, _range(False), writes=False, weight=1.0),
)
