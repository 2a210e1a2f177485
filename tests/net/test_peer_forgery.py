"""Frames with a right checksum and a wrong content, in a member's name: refused before the core sees them."""

from __future__ import annotations

import msgspec
import pytest

from tercet.core.raft.types import (
    AppendRequest,
    ConfChange,
    Entry,
    HeartbeatRequest,
    Message,
    ProposeRequest,
    SnapshotMeta,
    SnapshotRequest,
    encode_conf_change,
)
from tercet.core.wire.peer import (
    FORMAT_VERSION,
    MAGIC,
    Batch,
    FrameDecoder,
    Hello,
    Ping,
    Pong,
    Welcome,
    encode,
)

from .test_peers import CLUSTER, harness


def append(*entries: Entry, prev: int = 3) -> AppendRequest:
    return AppendRequest(
        sender=1, to=2, term=5, prev_log_index=prev, prev_log_term=1, entries=entries, leader_commit=0
    )


def propose(*entries: bytes) -> ProposeRequest:
    return ProposeRequest(sender=1, to=2, term=5, entries=entries)


FORGED = [
    propose(b""), propose(b"x" * 16), propose(b"x" * 17, b"y"),
    append(Entry(5, 5)), append(Entry(5, 4), Entry(5, 6)), append(Entry(5, 3), Entry(5, 4)),
    append(Entry(5, 4), Entry(5, 6), Entry(5, 5), Entry(5, 7)), append(Entry(5, 4), Entry(5, 4), Entry(5, 6)),
    append(Entry(5, 4), Entry(4, 5)), append(Entry(0, 4)), append(Entry(6, 4)),
    append(prev=-1), append(Entry(-1, 4)), HeartbeatRequest(sender=1, to=2, term=-2, leader_commit=0),
    HeartbeatRequest(sender=1, to=2, term=2, leader_commit=-1),
    SnapshotRequest(sender=1, to=2, term=5, meta=SnapshotMeta(9, 5, (1, 2))),  # its data cannot have come
    ProposeRequest(sender=1, to=2, term=5, entries=(), conf_changes=(b"no change",)),
    ProposeRequest(
        sender=1, to=2, term=5, entries=(), conf_changes=(encode_conf_change(ConfChange(context=b"short")),)
    ),
]  # fmt: skip


@pytest.mark.parametrize("message", FORGED, ids=[msgspec.json.encode(m).decode()[:60] for m in FORGED])
async def test_a_message_that_no_member_sends_closes_the_connection(message: Message) -> None:
    async with harness() as one:
        connection = await one.dial()
        await connection.send_all(MAGIC + encode(Hello(FORMAT_VERSION, CLUSTER, 1, 2)))
        assert FrameDecoder().feed(await connection.receive(4096)) == [Welcome(2)]
        await connection.send_all(encode(Batch((message,))))
        assert await connection.receive(4096) == b""
        assert one.received == []
        connection.close()


@pytest.mark.parametrize("message", [propose(b"x" * 17), append(), append(Entry(1, 4), Entry(5, 5, b"z"))])
async def test_a_message_that_members_send_is_delivered(message: Message) -> None:
    async with harness() as one:
        connection = await one.dial()
        await connection.send_all(MAGIC + encode(Hello(FORMAT_VERSION, CLUSTER, 1, 2)))
        await connection.receive(4096)
        await connection.send_all(encode(Batch((message,))) + encode(Ping()))
        assert FrameDecoder().feed(await connection.receive(4096)) == [Pong()]
        assert one.received == [message]
        connection.close()


async def test_a_greeting_alone_does_not_push_out_the_members_connection() -> None:
    async with harness() as one:
        both = []
        for _ in range(2):
            connection = await one.dial()
            await connection.send_all(MAGIC + encode(Hello(FORMAT_VERSION, CLUSTER, 1, 2)))
            assert FrameDecoder().feed(await connection.receive(4096)) == [Welcome(2)]
            if not both:
                await connection.send_all(encode(Ping()))
                assert FrameDecoder().feed(await connection.receive(4096)) == [Pong()]
            both.append(connection)
        await both[1].send_all(b"\xff" * 99)
        assert await both[1].receive(4096) == b""
        await both[0].send_all(encode(Ping()))
        assert FrameDecoder().feed(await both[0].receive(4096)) == [Pong()]
        for connection in both:
            connection.close()
