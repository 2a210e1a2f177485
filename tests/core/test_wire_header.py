"""Varints and the spliced response header, against the protobuf package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.wire.header import HeaderPrefix, response_header
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.varint import decode_varint, encode_varint, varint_size

_U64 = st.integers(0, 2**64 - 1)
_I64 = st.integers(-(2**63), 2**63 - 1)
_EDGES = [power + step for power in (2**7, 2**14, 2**21, 2**28) for step in (-1, 0, 1)]
_REVISIONS = st.sampled_from(_EDGES) | st.integers(0, 2**29) | _I64


@given(_U64, st.binary(max_size=5), st.binary(max_size=5))
def test_a_varint_survives_the_round_trip_anywhere_in_a_buffer(
    number: int, before: bytes, after: bytes
) -> None:
    encoded = encode_varint(number)
    assert len(encoded) == varint_size(number)
    assert decode_varint(before + encoded + after, len(before)) == (number, len(before) + len(encoded))


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_number_of_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="got"):
        encode_varint(number)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 10 + b"\x01"])
def test_a_torn_or_endless_varint_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="varint"):
        decode_varint(data)


@given(_U64, _U64, _I64, _U64)
def test_the_header_is_what_protobuf_writes(cluster: int, member: int, revision: int, term: int) -> None:
    message = rpc.PutResponse()
    message.header.SetInParent()
    message.header.cluster_id = cluster
    message.header.member_id = member
    message.header.revision = revision
    message.header.raft_term = term
    assert response_header(cluster, member, revision, term) == message.SerializeToString()


@given(_U64, _U64, st.lists(st.tuples(_REVISIONS, st.integers(0, 3) | _U64), max_size=8))
def test_the_kept_header_is_never_stale(cluster: int, member: int, uses: list[tuple[int, int]]) -> None:
    prefix = HeaderPrefix(cluster, member)
    for revision, term in uses:
        assert prefix.encode(revision, term) == response_header(cluster, member, revision, term)
