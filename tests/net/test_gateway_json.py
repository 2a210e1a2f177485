"""Protobuf as the gateway's JSON, in and out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.server.gateway_json import InputError, documents, from_json, to_json

KEYS = st.binary(max_size=9)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
PUTS = st.builds(rpc.PutRequest, key=KEYS, value=KEYS, lease=INT64, prev_kv=st.booleans())
RANGES = st.builds(
    rpc.RangeRequest, key=KEYS, range_end=KEYS, limit=INT64, revision=INT64,
    sort_order=st.sampled_from([0, 1, 2]), sort_target=st.integers(0, 4), serializable=st.booleans(),
)  # fmt: skip
OPERATIONS = st.one_of(
    st.builds(rpc.RequestOp, request_put=PUTS), st.builds(rpc.RequestOp, request_range=RANGES)
)
BRANCHES = st.lists(OPERATIONS, max_size=3)
TXNS = st.builds(rpc.TxnRequest, success=BRANCHES, failure=BRANCHES)
NAMES = ["key", "value", "lease", "limit", "success", "compare", "sortOrder", "request_put", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(TXNS)
def test_what_goes_out_comes_back_the_same(message: rpc.TxnRequest) -> None:
    assert from_json(rpc.TxnRequest, json.loads(to_json(message))) == message


@given(JSON)
def test_no_json_raises_anything_but_an_input_error(value: object) -> None:
    for message_class in (rpc.TxnRequest, rpc.RangeRequest, rpc.PutRequest, rpc.WatchRequest):
        try:
            message = from_json(message_class, value)
        except InputError:
            continue
        message.SerializeToString()


@given(st.text(max_size=30))
def test_no_text_raises_anything_but_an_input_error(text: str) -> None:
    try:
        list(documents(text))
    except InputError as problem:
        assert str(problem)


def test_both_spellings_of_a_field_mean_the_same() -> None:
    one = from_json(rpc.RangeRequest, {"range_end": "Yg==", "minModRevision": "3", "sort_order": "ASCEND"})
    two = from_json(rpc.RangeRequest, {"rangeEnd": "Yg==", "min_mod_revision": 3, "sortOrder": 1})
    assert one == two


def test_numbers_of_64_bits_leave_as_strings_and_others_as_numbers() -> None:
    assert to_json(rpc.LeaseGrantResponse(ID=1 << 60, TTL=5)) == '{"ID":"1152921504606846976","TTL":"5"}'
    assert to_json(rpc.HashKVResponse(hash=7)) == '{"hash":7}'


def test_zero_fields_are_left_out_and_empty_messages_kept() -> None:
    assert to_json(rpc.TxnResponse(responses=[rpc.ResponseOp(response_put=rpc.PutResponse())])) == (
        '{"responses":[{"response_put":{}}]}'
    )


def test_html_characters_are_escaped_as_in_go() -> None:
    member = rpc.Member(name="<a&b>")
    assert to_json(member) == '{"name":"\\u003ca\\u0026b\\u003e"}'


@pytest.mark.parametrize(("value", "text"), [
    ({"key": "!!!"}, "illegal base64 data at input byte 0"),
    ({"key": "Zm9"}, "illegal base64 data at input byte 0"),
    ({"key": 5}, "json: cannot unmarshal number into Go value of type []uint8"),
    ([], "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
    ({"limit": "abc"}, "invalid character 'a' looking for beginning of value"),
    ({"limit": "NaN"}, "invalid character 'N' looking for beginning of value"),
    ({"limit": "abc", "key": "!!!"}, "illegal base64 data at input byte 0"),
    ({"limit": 1.5}, "json: cannot unmarshal number 1.5 into Go value of type int64"),
    ({"serializable": "true"}, "json: cannot unmarshal string into Go value of type bool"),
    ({"sort_order": "UP"}, 'unknown value "UP" for enum etcdserverpb.RangeRequest_SortOrder'),
])  # fmt: skip
def test_bad_input_is_refused_in_gos_words(value: object, text: str) -> None:
    with pytest.raises(InputError) as caught:
        from_json(rpc.RangeRequest, value)
    assert str(caught.value) == text


def test_of_two_spellings_the_camels_counts_and_members_of_a_oneof_are_read_last() -> None:
    both = {"range_end": "Yg==", "rangeEnd": "Yw=="}
    for value in (both, dict(reversed(both.items()))):
        assert from_json(rpc.RangeRequest, value).range_end == b"c"
    assert from_json(rpc.RangeRequest, {**both, "rangeEnd": None}).range_end == b""
    with pytest.raises(InputError, match="into Go value of type"):
        from_json(rpc.Compare, {"version": "abc", "range_end": 5})


def test_transactions_cannot_nest_without_end() -> None:
    value: dict[str, object] = {}
    for _ in range(120):
        value = {"success": [{"request_txn": value}]}
    with pytest.raises(InputError, match="exceeded max depth"):
        from_json(rpc.TxnRequest, value)


def test_a_cut_document_is_an_unexpected_end() -> None:
    with pytest.raises(InputError, match="unexpected EOF"):
        list(documents('{"key":'))
    assert list(documents('{"a":1} {"b":2}\n')) == [{"a": 1}, {"b": 2}]
