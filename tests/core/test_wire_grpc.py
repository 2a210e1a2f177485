"""gRPC's message prefixes, timeouts and status texts."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.rpc_errors import RpcError
from tercet.core.wire.grpc import MessageReader, frame_message, parse_timeout, percent_encode


@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_messages_survive_any_cutting(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(frame_message, messages))
    reader = MessageReader(1000, "")
    found = []
    index = 0
    while data:
        size = cuts[index % len(cuts)]
        index += 1
        found += reader.feed(data[:size])
        data = data[size:]
    assert found == messages
    assert reader.pending == 0


@pytest.mark.parametrize(
    ("prefix", "encoding", "code", "text"),
    [
        (b"\1\0\0\0\1", "gzip", 12, 'grpc: Decompressor is not installed for grpc-encoding "gzip"'),
        (b"\1\0\0\0\1", "", 13, "grpc: compressed flag set with identity or empty encoding"),
        (b"\2\0\0\0\1", "", 13, "grpc: received unexpected payload format 2"),
        (b"\0\0\0\3\xe9", "", 8, "grpc: received message larger than max (1001 vs. 1000)"),
    ],
)
def test_a_message_is_refused_by_its_prefix(prefix: bytes, encoding: str, code: int, text: str) -> None:
    with pytest.raises(RpcError) as caught:
        MessageReader(1000, encoding).feed(prefix)
    assert (caught.value.code, caught.value.message) == (code, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("4999m", 4.999), ("5u", 5e-6), ("99999999n", 0.099999999)],
)
def test_a_timeout_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "S", "1", "1s", "-1S", "123456789S", "1.5S", "٣S", " 1S"])
def test_a_malformed_timeout_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="grpc-timeout"):
        parse_timeout(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_status_text_survives_percent_coding(text: str) -> None:
    encoded = percent_encode(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode("ascii")) == text
