"""Requests as their serialised messages: some valid, and garbage in the shape of protobuf.

``ask`` gives requests that may be damaged afterwards: even damaged they cannot delete or compact another
client's keys. ``change`` gives those that could, whole and for the fuzzer's own keys.
"""

from __future__ import annotations

import random
from typing import Final

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS

__all__ = ["PREFIX", "ask", "change", "garbage"]

PREFIX: Final = b"fuzz/"
_KV, _LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"

#: What could, damaged, touch others' keys or the cluster itself: garbage never goes there.
_DANGEROUS: Final = frozenset({
    _KV + "DeleteRange", _KV + "Compact", "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Maintenance/MoveLeader", "/etcdserverpb.Maintenance/Downgrade",
})  # fmt: skip
#: Membership and authentication are left out whole: a legal request of theirs ends the cluster's service.
_GARBAGE_PATHS: Final = tuple(
    path
    for path in sorted(METHODS)
    if path not in _DANGEROUS and "Member" not in path and not path.startswith("/etcdserverpb.Auth/")
)

#: With authentication only what anybody may do is left out.
_GUARDED_PATHS: Final = tuple(
    path
    for path in sorted(METHODS)
    if path not in ("/etcdserverpb.Maintenance/Alarm", "/etcdserverpb.Maintenance/MoveLeader")
)


def _key(rng: random.Random) -> bytes:
    return PREFIX + b"%d" % rng.randrange(200)


def ask(rng: random.Random) -> tuple[str, bytes]:
    """A valid request: path and message."""
    draw = rng.randrange(9)
    if draw < 2:
        value = rng.randbytes(rng.choice((0, 3, 10, 300)))
        put = rpc.PutRequest(
            key=_key(rng), value=value, lease=rng.choice((0, 0, 0, 7)), prev_kv=rng.random() < 0.3
        )
        return _KV + "Put", put.SerializeToString()
    if draw < 5:
        get = rpc.RangeRequest(
            key=_key(rng), limit=rng.randrange(5), revision=rng.choice((0, 0, 1, 2**62)),
            serializable=rng.random() < 0.5,
        )  # fmt: skip
        return _KV + "Range", get.SerializeToString()
    if draw == 5:
        txn = rpc.TxnRequest(
            compare=[rpc.Compare(key=_key(rng), result=rpc.Compare.GREATER, version=0)],
            success=[rpc.RequestOp(request_range=rpc.RangeRequest(key=_key(rng)))],
            failure=[rpc.RequestOp(request_put=rpc.PutRequest(key=_key(rng), value=b"t"))],
        )
        return _KV + "Txn", txn.SerializeToString()
    if draw == 6:
        grant = rpc.LeaseGrantRequest(TTL=rng.choice((0, 5, -1, 2**40)), ID=rng.choice((0, 7, 8)))
        return _LEASE + "LeaseGrant", grant.SerializeToString()
    if draw == 7:
        create = rpc.WatchCreateRequest(
            key=_key(rng), start_revision=rng.choice((0, 1, 2**61)), progress_notify=True,
            watch_id=rng.choice((0, 0, 5, -1)),
        )  # fmt: skip
        return "/etcdserverpb.Watch/Watch", rpc.WatchRequest(create_request=create).SerializeToString()
    return _LEASE + "LeaseKeepAlive", rpc.LeaseKeepAliveRequest(ID=7).SerializeToString()


def change(rng: random.Random) -> tuple[str, bytes]:
    """A valid request that deletes own keys, compacts what is no history of others, or only asks."""
    draw = rng.randrange(4)
    if draw == 0:
        return _KV + "DeleteRange", rpc.DeleteRangeRequest(key=_key(rng)).SerializeToString()
    if draw == 1:
        whole = rpc.DeleteRangeRequest(key=PREFIX, range_end=b"fuzz0", prev_kv=True)
        return _KV + "DeleteRange", whole.SerializeToString()
    if draw == 2:
        return _KV + "Compact", rpc.CompactionRequest(revision=rng.choice((1, 2, 3, -1))).SerializeToString()
    alarms = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
    return "/etcdserverpb.Maintenance/Alarm", alarms.SerializeToString()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(rng: random.Random) -> bytes:
    number, kind = rng.randrange(1, 20), rng.choice((0, 0, 1, 2, 2, 3, 4, 5, 6, 7))
    tag = _varint(number << 3 | kind)
    if kind == 0:
        return tag + _varint(rng.choice((0, 1, rng.getrandbits(31), rng.getrandbits(64), 2**69)))
    if kind == 2:
        body = rng.randbytes(rng.randrange(12))
        return tag + _varint(rng.choice((len(body), len(body), len(body) + 1, 2**31, 2**63))) + body
    return tag + rng.randbytes(rng.choice((0, 4, 8)))


def _nest(field: int, depth: int) -> bytes:
    """A message that holds itself ``depth`` times."""
    inner = b""
    for _ in range(depth):
        inner = _varint(field << 3 | 2) + _varint(len(inner)) + inner
    return inner


def garbage(rng: random.Random, *, guarded: bool = False) -> tuple[str, bytes]:
    """A path and a message that is wrong, or right only by chance. ``guarded``: authentication is on."""
    draw = rng.randrange(5)
    path = rng.choice(_GUARDED_PATHS if guarded else _GARBAGE_PATHS)
    if draw == 0:
        return path, rng.randbytes(rng.randrange(60))
    if draw == 1:
        return path, b"".join(_field(rng) for _ in range(rng.randrange(1, 8)))
    if draw == 2:  # success -> request_txn -> success ...
        depth = rng.choice((3, 30, 99, 101, 2000))
        inner = b""
        for _ in range(depth):
            op = _varint(4 << 3 | 2) + _varint(len(inner)) + inner
            inner = _varint(2 << 3 | 2) + _varint(len(op)) + op
        return _KV + "Txn", inner
    if draw == 3:
        return path, _nest(rng.randrange(1, 6), rng.choice((5, 99, 101, 2000)))
    return path, b"\x0b" * rng.choice((3, 120, 20_000))  # groups that are never closed
