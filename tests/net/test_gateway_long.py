"""Long answers of the gateway: the same JSON, made and sent in pieces."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError, Message

from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server import gateway_long
from tercet.net.server.gateway_json import to_json
from tercet.net.server.gateway_long import json_pieces


def keys(count: int, size: int = 40) -> list[kv_pb2.KeyValue]:
    return [
        kv_pb2.KeyValue(key=b"k<%d>" % number, value=b"v" * (number % size), mod_revision=number, version=1)
        for number in range(count)
    ]


HEADER = rpc.ResponseHeader(cluster_id=1, member_id=2, revision=300, raft_term=1 << 40)
RANGE = rpc.RangeResponse(header=HEADER, kvs=keys(200), more=True, count=200)
ANSWERS: list[Message] = [
    RANGE,
    rpc.RangeResponse(header=HEADER, kvs=keys(200)),
    rpc.RangeResponse(kvs=[kv_pb2.KeyValue(key=b"large", value=b"v" * 5_000), *keys(3)]),
    rpc.DeleteRangeResponse(header=HEADER, deleted=200, prev_kvs=keys(200)),
    rpc.LeaseLeasesResponse(header=HEADER, leases=[rpc.LeaseStatus(ID=number) for number in range(500)]),
    rpc.TxnResponse(
        header=HEADER,
        succeeded=True,
        responses=[
            rpc.ResponseOp(response_put=rpc.PutResponse()),
            rpc.ResponseOp(response_range=RANGE),
            rpc.ResponseOp(response_txn=rpc.TxnResponse(responses=[rpc.ResponseOp(response_range=RANGE)])),
            rpc.ResponseOp(response_range=rpc.RangeResponse(count=3)),
        ],
    ),
    rpc.StatusResponse(header=HEADER, version="3.4.23", errors=["x" * 600, "y"], isLearner=True),
    rpc.RangeResponse(),
]


@pytest.mark.parametrize("piece", [1, 50, 400, 3_000, 1 << 20])
@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{type(answer).__name__}-{answer.ByteSize()}")
def test_the_pieces_are_the_whole_text(answer: Message, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_long, "PIECE_BYTES", piece)
    pieces = list(json_pieces(type(answer), memoryview(answer.SerializeToString())))
    assert "".join(pieces) == to_json(answer)


def test_no_piece_is_much_larger_than_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_long, "PIECE_BYTES", 400)
    pieces = list(json_pieces(rpc.RangeResponse, memoryview(RANGE.SerializeToString())))
    assert len(pieces) > 20
    assert max(map(len, pieces)) < 400 * 4


@pytest.mark.parametrize(
    "data", [RANGE.SerializeToString()[:-1], RANGE.SerializeToString() + b"\x0b", b"\xff" * 100]
)
def test_bytes_that_are_no_message_are_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_long, "PIECE_BYTES", 10)
    with pytest.raises(DecodeError):
        list(json_pieces(rpc.RangeResponse, memoryview(data)))
