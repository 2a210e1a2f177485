"""Our HPACK decoder and encoder against the ``hpack`` package."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman as package_huffman
from hpack.table import HeaderTable
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercet.core.wire.hpack_decode import HeaderDecoder, HeaderListTooLarge, HpackError
from tercet.core.wire.hpack_encode import encode_plain
from tercet.core.wire.hpack_huffman import decode_huffman
from tercet.core.wire.hpack_static import STATIC, STATIC_PLACES

_NAMES = st.sampled_from([b":path", b":method", b"grpc-timeout", b"user-agent", b"token", b"x"]) | st.binary(
    min_size=1, max_size=12
)
_VALUES = st.sampled_from([b"", b"POST", b"4999m", b"a" * 200]) | st.binary(max_size=40)
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES, st.booleans()), max_size=8)


def test_the_static_table_is_the_packages() -> None:
    assert STATIC == HeaderTable.STATIC_TABLE
    assert STATIC_PLACES == HeaderTable.STATIC_TABLE_MAPPING


@given(st.lists(st.tuples(_FIELDS, st.booleans(), st.sampled_from([None, 0, 64, 1000, 4096])), max_size=8))
def test_blocks_of_the_package_decode_to_their_fields(
    blocks: list[tuple[list[tuple[bytes, bytes, bool]], bool, int | None]],
) -> None:
    encoder = Encoder()
    decoder = HeaderDecoder(4096, 1 << 20)
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=huffman)
        assert decoder.decode(block) == [(name, value) for name, value, _ in fields]


@given(st.lists(st.binary(max_size=60), max_size=6))
@example([b"\x82\xbf"])
@example([b"\x40\x01a\x01b\xbe", b"\xbe", b"\x20\xbe"])
@settings(max_examples=500)
def test_any_bytes_are_decoded_or_refused_as_the_package_does(blocks: list[bytes]) -> None:
    ours = HeaderDecoder(4096, 1 << 20)
    theirs = Decoder()
    for block in blocks:
        try:
            mine = ours.decode(block)
        except HpackError:
            mine = None
        try:
            expected = [(bytes(n), bytes(v)) for n, v in theirs.decode(block, raw=True)]
        except HPACKError:
            expected = None
        assert mine == expected
        if mine is None:
            return


@given(st.binary(max_size=30))
@settings(max_examples=500)
def test_huffman_strings_are_decoded_or_refused_as_the_package_does(text: bytes) -> None:
    try:
        expected = package_huffman(text)
    except HPACKError:
        with pytest.raises(ValueError, match="code"):
            decode_huffman(text)
    else:
        assert decode_huffman(text) == expected


@given(st.binary(max_size=100))
def test_huffman_strings_survive_the_round_trip(text: bytes) -> None:
    encoded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    assert decode_huffman(encoded) == text


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=8))
def test_plain_blocks_decode_anywhere_and_leave_no_trace(fields: list[tuple[bytes, bytes]]) -> None:
    decoder = Decoder()
    block = encode_plain(fields)
    for _ in range(2):
        assert [(bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)] == fields
    assert not decoder.header_table.dynamic_entries


def test_a_block_that_changes_the_table_says_so() -> None:
    decoder = HeaderDecoder()
    for block, changed in [(b"\x82", False), (b"\x40\x01a\x01b", True), (b"\xbe", False), (b"\x20", True)]:
        decoder.decode(block)
        assert decoder.changed is changed


def test_a_bomb_of_references_stops_at_the_limit() -> None:
    decoder = HeaderDecoder(4096, 65536)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000)
    with pytest.raises(HeaderListTooLarge):
        decoder.decode(b"\xbe" * 10_000)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xff\xff\xff\xff\xff\x7f",
        b"\x00\x01",
        b"\x00\x7f\x00ab",
        b"\x3f\xe2\x1f",
        b"\x82\x20",
        b"\x00\x81\xff\x00",
    ],
    ids=["index 0", "long integer", "no name", "short name", "table too large", "late update", "Huffman EOS"],
)
def test_a_malformed_block_is_refused(block: bytes) -> None:
    with pytest.raises(HpackError):
        HeaderDecoder().decode(block)
