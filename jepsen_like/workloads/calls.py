"""Between histories and the client library: operations become calls, and answers become values.

Keys and values are text in a history and UTF-8 on the wire.
"""

from __future__ import annotations

from tercet.net import client as net
from tercet.net.client import values

from ..history import Answer, Kv, Operation, Request, Txn

__all__ = ["kv_of", "perform"]


async def perform(client: net.Client, asked: Operation) -> Answer:
    """Make the call that an operation describes.

    Raises:
        Rejected, OutcomeUnknown: as the client library does.
        ValueError: an operation that etcd does not have.
    """
    key, end = asked.key.encode(), asked.range_end.encode()
    if asked.f == "put":
        put = await client.put(key, str(asked.value).encode(), lease=asked.lease, prev_kv=asked.prev_kv)
        return _answer(put, asked.prev_kv)
    if asked.f == "get":
        return _answer(
            await client.get(key, range_end=end, serializable=asked.serializable, revision=asked.at)
        )
    if asked.f == "delete":
        return _answer(await client.delete(key, range_end=end, prev_kv=asked.prev_kv))
    if asked.f == "txn" and isinstance(asked.value, Txn):
        return _answer(await client.txn(*_txn(asked.value)))
    raise ValueError(f"etcd has no operation {asked.f!r} with {asked.value!r}")


_NUMBERS = {
    "version": net.Compare.version,
    "create": net.Compare.create_revision,
    "mod": net.Compare.mod_revision,
}


def _txn(txn: Txn) -> tuple[list[net.Compare], list[values.Operation], list[values.Operation]]:
    compares = []
    for guard in txn.compare:
        if guard.target == "value":
            compares.append(
                net.Compare.value(guard.key.encode(), guard.relation, str(guard.operand).encode())
            )
        else:
            make = _NUMBERS[guard.target]
            compares.append(make(guard.key.encode(), guard.relation, int(guard.operand)))
    return compares, [_request(r) for r in txn.then], [_request(r) for r in txn.otherwise]


def _request(request: Request) -> values.Operation:
    key, end = request.key.encode(), request.range_end.encode()
    if request.f == "put":
        return net.Put(key, request.value.encode())
    if request.f == "get":
        return net.Get(key, end)
    return net.Delete(key, end)


def kv_of(found: net.KeyValue) -> Kv:
    """A key as histories hold it."""
    return Kv(
        found.key.decode(),
        found.value.decode(),
        found.create_revision,
        found.mod_revision,
        found.version,
        found.lease,
    )


def _answer(result: values.Result, prev_kv: bool = False, *, inner: bool = False) -> Answer:
    revision = 0 if inner else result.header.revision
    if isinstance(result, net.PutResult):
        return Answer(revision, kvs=(kv_of(result.prev),) if prev_kv and result.prev is not None else ())
    if isinstance(result, net.GetResult):
        return Answer(revision, kvs=tuple(map(kv_of, result.kvs)), count=result.count)
    if isinstance(result, net.DeleteResult):
        return Answer(revision, kvs=tuple(map(kv_of, result.prevs)), count=result.deleted)
    return Answer(
        revision,
        succeeded=result.succeeded,
        answers=tuple(_answer(part, inner=True) for part in result.responses),
    )
