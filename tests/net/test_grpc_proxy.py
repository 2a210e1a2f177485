"""The proxy's namespace: which keys a request means, and which keys an answer names."""

from __future__ import annotations

import pytest

from tercet.core.rpc_errors import EMPTY_KEY, RpcError
from tercet.core.wire.proto import election_pb2 as election
from tercet.core.wire.proto import kv_pb2 as kv
from tercet.core.wire.proto import lock_pb2 as lock
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS
from tercet.net.grpc_proxy.namespace import Namespace

SPACE = Namespace(b"ns/")
KV = "/etcdserverpb.KV/"


@pytest.mark.parametrize(("asked", "meant"), [
    ((b"k", b""), (b"ns/k", b"")),
    ((b"a", b"c"), (b"ns/a", b"ns/c")),
    ((b"a", b"\0"), (b"ns/a", b"ns0")),
    ((b"", b"\0"), (b"ns/", b"ns0")),
    ((b"\0", b"\0"), (b"ns/\0", b"ns0")),
])  # fmt: skip
def test_an_interval_stays_behind_the_prefix(asked: tuple[bytes, bytes], meant: tuple[bytes, bytes]) -> None:
    for path, kind in ((f"{KV}Range", rpc.RangeRequest), (f"{KV}DeleteRange", rpc.DeleteRangeRequest)):
        sent = kind.FromString(
            SPACE.request(path, kind(key=asked[0], range_end=asked[1]).SerializeToString())
        )
        assert (sent.key, sent.range_end) == meant
    create = rpc.WatchCreateRequest(key=asked[0], range_end=asked[1], start_revision=7)
    watch = rpc.WatchRequest(create_request=create).SerializeToString()
    sent_watch = rpc.WatchRequest.FromString(SPACE.request("/etcdserverpb.Watch/Watch", watch))
    assert (sent_watch.create_request.key, sent_watch.create_request.range_end) == meant
    assert sent_watch.create_request.start_revision == 7


@pytest.mark.parametrize(("path", "message"), [
    (f"{KV}Put", rpc.PutRequest(value=b"v")),
    (f"{KV}Range", rpc.RangeRequest()),
    (f"{KV}DeleteRange", rpc.DeleteRangeRequest()),
    (f"{KV}Txn", rpc.TxnRequest(failure=[rpc.RequestOp(request_put=rpc.PutRequest())])),
])  # fmt: skip
def test_no_key_is_refused_rather_than_taken_for_the_prefix(path: str, message: rpc.PutRequest) -> None:
    with pytest.raises(RpcError, match=EMPTY_KEY.message):
        SPACE.request(path, message.SerializeToString())


def test_a_transaction_is_changed_at_every_depth() -> None:
    inner = rpc.TxnRequest(
        compare=[rpc.Compare(key=b"c", range_end=b"\0")],
        success=[rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"d"))],
    )
    request = rpc.TxnRequest(
        success=[rpc.RequestOp(request_txn=inner)],
        failure=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"p", value=b"v"))],
    )
    sent = rpc.TxnRequest.FromString(SPACE.request(f"{KV}Txn", request.SerializeToString()))
    deep = sent.success[0].request_txn
    assert (deep.compare[0].key, deep.compare[0].range_end) == (b"ns/c", b"ns0")
    assert deep.success[0].request_delete_range.key == b"ns/d"
    assert (sent.failure[0].request_put.key, sent.failure[0].request_put.value) == (b"ns/p", b"v")

    pair = kv.KeyValue(key=b"ns/k", value=b"ns/v")
    answer = rpc.TxnResponse(responses=[
        rpc.ResponseOp(response_range=rpc.RangeResponse(kvs=[pair])),
        rpc.ResponseOp(response_put=rpc.PutResponse(prev_kv=pair)),
        rpc.ResponseOp(response_delete_range=rpc.DeleteRangeResponse(prev_kvs=[pair])),
        rpc.ResponseOp(response_txn=rpc.TxnResponse(responses=[
            rpc.ResponseOp(response_range=rpc.RangeResponse(kvs=[pair]))])),
    ])  # fmt: skip
    got = rpc.TxnResponse.FromString(SPACE.response(f"{KV}Txn", answer.SerializeToString())).responses
    pairs = [got[0].response_range.kvs[0], got[1].response_put.prev_kv,
             got[2].response_delete_range.prev_kvs[0],
             got[3].response_txn.responses[0].response_range.kvs[0]]  # fmt: skip
    assert [(one.key, one.value) for one in pairs] == [(b"k", b"ns/v")] * 4


def test_events_and_a_leases_keys_lose_the_prefix_and_strangers_are_left_out() -> None:
    event = kv.Event(kv=kv.KeyValue(key=b"ns/k"), prev_kv=kv.KeyValue(key=b"ns/k"))
    watch = rpc.WatchResponse(watch_id=3, events=[event, kv.Event(kv=kv.KeyValue(key=b"ns/m"))])
    told = rpc.WatchResponse.FromString(
        SPACE.response("/etcdserverpb.Watch/Watch", watch.SerializeToString())
    )
    assert [one.kv.key for one in told.events] == [b"k", b"m"]
    assert (told.events[0].prev_kv.key, told.events[1].HasField("prev_kv")) == (b"k", False)
    lease = rpc.LeaseTimeToLiveResponse(ID=5, keys=[b"ns/a", b"other", b"ns/b"])
    path = "/etcdserverpb.Lease/LeaseTimeToLive"
    shown = rpc.LeaseTimeToLiveResponse.FromString(SPACE.response(path, lease.SerializeToString()))
    assert list(shown.keys) == [b"a", b"b"]


def test_locks_and_elections_are_keys_too() -> None:
    sent = lock.LockRequest.FromString(
        SPACE.request("/v3lockpb.Lock/Lock", lock.LockRequest(name=b"m", lease=9).SerializeToString())
    )
    assert (sent.name, sent.lease) == (b"ns/m", 9)
    got = lock.LockResponse.FromString(
        SPACE.response("/v3lockpb.Lock/Lock", lock.LockResponse(key=b"ns/m/9").SerializeToString())
    )
    assert got.key == b"m/9"
    leader = election.LeaderKey(name=b"ns/e", key=b"ns/e/1", rev=4, lease=5)
    campaign = election.CampaignResponse.FromString(
        SPACE.response(
            "/v3electionpb.Election/Campaign", election.CampaignResponse(leader=leader).SerializeToString()
        )
    )
    assert (campaign.leader.name, campaign.leader.key, campaign.leader.rev) == (b"e", b"e/1", 4)
    resign = election.ResignRequest(leader=campaign.leader).SerializeToString()
    back = election.ResignRequest.FromString(SPACE.request("/v3electionpb.Election/Resign", resign))
    assert back.leader == leader


@pytest.mark.parametrize("path", sorted(METHODS))
def test_an_empty_message_of_any_method_is_refused_or_stays_readable(path: str) -> None:
    method = METHODS[path]
    try:
        method.request.FromString(SPACE.request(path, b""))
    except RpcError as error:
        assert error.message == EMPTY_KEY.message
    method.response.FromString(SPACE.response(path, b""))
