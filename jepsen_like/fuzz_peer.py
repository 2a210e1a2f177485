"""What a stranger, a broken member or a wrong program sends to a peer port."""

from __future__ import annotations

import random
import struct
from typing import Final

import google_crc32c
import msgspec

from tercet.core.raft.types import AppendRequest, Entry, HeartbeatRequest, Message, ProposeRequest
from tercet.core.wire.peer import (
    FORMAT_VERSION,
    FRAME_BYTES_MAX,
    MAGIC,
    Answer,
    Batch,
    Call,
    Frame,
    Hello,
    Ping,
    Welcome,
    encode,
)

from .fuzz_damage import damage_bytes

__all__ = ["PeerTarget", "peer_stream"]

#: How often a stream speaks in the name of a real member, which speaks on a connection of its own beside it.
IMPOSTORS: Final = 0.05


class PeerTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What anybody can learn of a member from ``/members`` on its peer port."""

    cluster_id: int
    member_id: int
    others: tuple[int, ...]  # the other members' ids


def _framed(payload: bytes) -> bytes:
    """Any payload as a frame with the right length and checksum."""
    return struct.pack(">II", len(payload), google_crc32c.value(payload)) + payload


def _hello(rng: random.Random, target: PeerTarget) -> Hello:
    """A greeting that is wrong in one way."""
    wrong = rng.randrange(5)
    stranger = rng.getrandbits(64)
    return Hello(
        2**31 if wrong == 0 else FORMAT_VERSION,
        rng.getrandbits(64) if wrong == 1 else target.cluster_id,
        target.member_id if wrong == 2 else stranger,
        rng.getrandbits(64) if wrong == 3 else target.member_id,
    )


def _frames(rng: random.Random, sender: int, target: PeerTarget) -> list[bytes]:
    """Valid frames as a member sends them, of a term that is long past."""
    entries = tuple(Entry(0, i, rng.randbytes(rng.randrange(30))) for i in range(1, rng.randrange(2, 5)))
    to = target.member_id
    batch = Batch((
        HeartbeatRequest(sender=sender, to=to, term=0, leader_commit=0),
        AppendRequest(sender=sender, to=to, term=0, prev_log_index=0, prev_log_term=0, entries=entries,
                      leader_commit=0),
    ))  # fmt: skip
    frames: list[Frame] = [batch, Ping(), Call(1, "lease/renew", rng.randbytes(8)), Call(2, "no", b"")]
    return [encode(frame) for frame in frames]


def _implausible(rng: random.Random, sender: int, to: int) -> bytes:
    """A message of the right shape that no member sends; accepted, it would stop every member."""
    entries = (Entry(0, rng.choice((0, 2, 9))), Entry(0, 3))
    short = (rng.randbytes(rng.randrange(17)),)
    messages: tuple[Message, ...] = (
        *[ProposeRequest(sender=sender, to=to, term=rng.randrange(5), entries=short)] * 3,
        HeartbeatRequest(sender=sender, to=to, term=-1, leader_commit=0),
        HeartbeatRequest(sender=sender, to=to, term=0, leader_commit=-5),
        AppendRequest(sender=sender, to=to, term=0, prev_log_index=-1, prev_log_term=0, entries=(),
                      leader_commit=0),
        AppendRequest(sender=sender, to=to, term=0, prev_log_index=0, prev_log_term=0, entries=entries,
                      leader_commit=0),
    )  # fmt: skip
    return encode(Batch((rng.choice(messages),)))


def _unframed(rng: random.Random, target: PeerTarget) -> bytes:
    """A frame whose checksum is right and whose content is not a frame, or not one for here."""
    pack = msgspec.msgpack.encode
    foreign: list[Frame] = [Welcome(1), Answer(1, 0, "", b""), Hello(FORMAT_VERSION, 1, 2, 3)]
    draw = rng.randrange(7)
    if draw == 0:
        return _framed(rng.randbytes(rng.randrange(200)))
    if draw == 1:
        return _framed(b"\x91" * rng.choice((10, 500, 100_000)))  # nested arrays
    if draw == 2:
        return _framed(pack(["Batch", rng.choice(([1], [["Unknown"]], [[]], "x", None, {}))]))
    if draw == 3:
        return _framed(pack(["Batch", [["HeartbeatRequest", "a", "b", -1, []]]]))
    if draw == 4:
        strange = HeartbeatRequest(sender=rng.getrandbits(63), to=target.member_id, term=0, leader_commit=0)
        return encode(Batch((strange,)))
    if draw == 5:
        return encode(
            Call(rng.getrandbits(63), rng.choice(("", "lease/renew", "\x00" * 99)), rng.randbytes(50))
        )
    return encode(rng.choice(foreign))


def _giant(rng: random.Random) -> bytes:
    """A length that must not be believed."""
    length = rng.choice((1025, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 2**31, 2**32 - 1))
    return struct.pack(">II", length, rng.getrandbits(32)) + rng.randbytes(rng.choice((0, 100, 5000)))


def peer_stream(rng: random.Random, target: PeerTarget) -> tuple[str, bytes]:
    """One connection as (what it is, its bytes)."""
    draw = rng.randrange(10)
    if rng.random() < IMPOSTORS and target.others:
        return _impostor(rng, target)
    if draw == 0:
        return "random", rng.randbytes(rng.choice((0, 1, 7, 8, 300, 5000)))
    if draw == 1:
        return "magic", MAGIC + rng.randbytes(rng.randrange(300))
    if draw == 2:
        path = rng.choice(("/members", "/version", "/v3/kv/put", "/raft"))
        method = rng.choice(("GET", "HEAD", "CONNECT", "POST"))
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        return "http", head if rng.random() < 0.5 else damage_bytes(rng, head)[1]
    if draw == 3:
        return "giant", MAGIC + _giant(rng)
    if draw == 4:
        return "unframed", MAGIC + _unframed(rng, target)
    hello = encode(_hello(rng, target))
    if draw < 7:
        return "stranger", MAGIC + hello + b"".join(_frames(rng, rng.getrandbits(63), target))
    done, data = damage_bytes(rng, MAGIC + hello, first=rng.choice((0, len(MAGIC))))
    return f"hello-{done}", data


def _impostor(rng: random.Random, target: PeerTarget) -> tuple[str, bytes]:
    """A member's true greeting, and then what no member sends."""
    sender = rng.choice(target.others)
    start = MAGIC + encode(Hello(FORMAT_VERSION, target.cluster_id, sender, target.member_id))
    if rng.random() < 0.3:
        return "member-giant", start + _giant(rng)
    if rng.random() < 0.5:
        return "member-unframed", start + _unframed(rng, target)
    if rng.random() < 0.5:
        return "member-implausible", start + _implausible(rng, sender, target.member_id)
    done, frames = damage_bytes(rng, b"".join(_frames(rng, sender, target)))
    return f"member-{done}", start + frames
