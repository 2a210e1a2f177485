"""Fuzzed byte streams on the peer port: every one ends in a clean close, and holds little memory meanwhile.

``python tests/net/fuzz_peers.py 100000`` runs that many streams; the tests run a few thousand.
"""

from __future__ import annotations

import random
import sys

import trio

from tercet.core.raft.types import AppendRequest, Entry, HeartbeatRequest, Message
from tercet.core.wire.peer import (
    FORMAT_VERSION,
    FRAME_BYTES_MAX,
    MAGIC,
    Batch,
    Call,
    Frame,
    Hello,
    Ping,
    Refusal,
    encode,
)
from tercet.net.channel import Identity
from tercet.net.peer_server import PeerServer
from tercet.net.real import real_world
from tercet.net.world import Connection, World

__all__ = ["fuzz", "only_one"]

CLUSTER = 0xC1


def only_one(sender: int, urls: tuple[str, ...]) -> Refusal | None:
    """Admit member 1 alone."""
    return None if sender == 1 else Refusal(f"member {sender:x} is not part of this cluster")


class Script:
    """A connection that plays given chunks and then ends."""

    remote = "10.0.0.9:4711"

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks[::-1]
        self.sent = 0
        self.closed = False

    def try_send(self, data: bytes) -> int:
        self.sent += len(data)
        return len(data)

    async def send_all(self, data: bytes) -> None:
        self.sent += len(data)
        await trio.lowlevel.checkpoint()

    async def receive(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.chunks:
            return b""
        data = self.chunks.pop()
        if len(data) > max_bytes:
            self.chunks.append(data[max_bytes:])
        return data[:max_bytes]

    def close_sending(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def valid_session(chance: random.Random) -> bytes:
    """What a well-behaved member could send."""
    count = chance.randint(1, 4)
    entries = tuple(Entry(1, i, chance.randbytes(chance.randint(0, 40))) for i in range(1, count + 1))
    messages: list[Message] = [
        HeartbeatRequest(sender=1, to=2, term=1, leader_commit=0),
        AppendRequest(
            sender=1, to=2, term=1, prev_log_index=0, prev_log_term=0, entries=entries, leader_commit=1
        ),
    ]
    frames: list[Frame] = [Batch(tuple(messages)), Ping(), Call(1, "lease/renew", chance.randbytes(8))]
    hello = Hello(FORMAT_VERSION, CLUSTER, 1, 2)
    return MAGIC + encode(hello) + b"".join(encode(frame) for frame in chance.choices(frames, k=4))


def stream(chance: random.Random) -> list[bytes]:
    """One hostile stream, cut into chunks."""
    kind = chance.randrange(5)
    if kind == 0:
        data = chance.randbytes(chance.randint(0, 200))
    elif kind == 1:
        data = MAGIC + chance.randbytes(chance.randint(0, 200))
    elif kind == 2:  # a length without its bytes
        length = chance.choice([FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 2**32 - 1, 1024, 1025])
        data = valid_session(chance) + length.to_bytes(4, "big") + chance.randbytes(4)
    else:
        mutated = bytearray(valid_session(chance))
        for _ in range(chance.randint(1, 6)):
            spot = chance.randrange(len(mutated))
            change = chance.randrange(3)
            if change == 0:
                mutated[spot] = chance.randrange(256)
            elif change == 1:
                del mutated[spot : spot + chance.randint(1, 9)]
            else:
                mutated[spot:spot] = chance.randbytes(chance.randint(1, 9))
        data = bytes(mutated)
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(0, 3)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [part for part in parts if part]


async def _answer(method: str, payload: bytes) -> bytes:
    return payload


async def _serve(world: World, seed: int, count: int) -> int:
    delivered: list[int] = [0]

    def deliver(messages: tuple[Message, ...]) -> None:
        delivered[0] += len(messages)

    server = PeerServer(world, Identity(CLUSTER, 2), admit=only_one, deliver=deliver, answer=_answer)
    chance = random.Random(seed)
    for number in range(count):
        script = Script(stream(chance))
        connection: Connection = script
        await server.serve(connection)
        assert script.closed, f"stream {number} of seed {seed} was left open"
        assert script.sent < 1 << 16, f"stream {number} of seed {seed} was answered at length"
    return delivered[0]


def fuzz(seed: int, count: int) -> int:
    """Serve ``count`` fuzzed streams drawn from ``seed``; how many messages were taken from intact parts.

    Raises what the server raises, which must be nothing.
    """
    world = real_world("fuzz", seed=seed, write_log=lambda line: None)
    return trio.run(_serve, world, seed, count)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(f"{wanted} streams, {fuzz(1, wanted)} messages taken from intact parts")
