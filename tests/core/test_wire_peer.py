"""Peer frames: what is encoded comes back, and nothing else comes through."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.core.raft.types import (
    AppendReply,
    AppendRequest,
    Entry,
    HeartbeatRequest,
    Message,
    ProposeRequest,
)
from tercet.core.wire import peer
from tercet.core.wire.peer import (
    FRAME_BYTES_MAX,
    Answer,
    Batch,
    Call,
    Frame,
    FrameDecoder,
    Hello,
    PeerProtocolError,
    Ping,
    Pong,
    Refusal,
    Welcome,
    encode,
    encode_batches,
)

u64 = st.integers(0, 2**64 - 1)
small = st.integers(0, 1000)
messages = st.one_of(
    st.builds(HeartbeatRequest, sender=u64, to=u64, term=small, leader_commit=small, context=u64),
    st.builds(AppendReply, sender=u64, to=u64, term=small, success=st.booleans()),
    st.builds(ProposeRequest, sender=u64, to=u64, term=small, entries=st.tuples(st.binary(max_size=20))),
    st.builds(
        AppendRequest,
        sender=u64,
        to=u64,
        term=small,
        prev_log_index=small,
        prev_log_term=small,
        entries=st.lists(st.builds(Entry, small, small, st.binary(max_size=20)), max_size=3).map(tuple),
        leader_commit=small,
    ),
)
frames = st.one_of(
    st.builds(Hello, small, u64, u64, u64),
    st.builds(Welcome, u64),
    st.builds(Refusal, st.text(max_size=20)),
    st.builds(Batch, st.lists(messages, max_size=4).map(tuple)),
    st.builds(Call, small, st.text(max_size=10), st.binary(max_size=30)),
    st.builds(Answer, small, st.integers(0, 16), st.text(max_size=10), st.binary(max_size=30), st.booleans()),
    st.just(Ping()),
    st.just(Pong()),
)


@given(st.lists(frames, max_size=6), st.data())
def test_frames_come_back_however_their_bytes_are_cut(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    decoder = FrameDecoder(FRAME_BYTES_MAX)
    received: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])
    assert received == sent


@given(frames, st.integers(0), st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_another_frame(sent: Frame, spot: int, change: int) -> None:
    stream = bytearray(encode(sent))
    stream[spot % len(stream)] ^= change
    decoder = FrameDecoder(FRAME_BYTES_MAX)
    try:
        received = decoder.feed(bytes(stream))
    except PeerProtocolError:
        return
    assert received == [], "a longer length only makes the decoder wait"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_a_batch_is_cut_into_frames_that_the_other_end_accepts(sizes: list[int]) -> None:
    small = 1 << 16  # in place of 4 MiB, which only takes longer
    sent: list[Message] = [
        ProposeRequest(sender=1, to=2, term=1, entries=(bytes(size * small // 4),)) for size in sizes
    ]
    with patch.object(peer, "BATCH_BYTES", small):
        received = FrameDecoder(small + 4096).feed(encode_batches(sent))
    assert [message for frame in received if isinstance(frame, Batch) for message in frame.messages] == sent


def test_a_strangers_first_frame_may_not_be_long() -> None:
    with pytest.raises(PeerProtocolError, match="at most 1024 are allowed"):
        FrameDecoder().feed(encode(Refusal("x" * 2000)))
