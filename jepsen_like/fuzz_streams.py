"""The byte streams of ``tercet fuzz``: each a function of a seed and its number, to be sent again at will.

A stream is what a hostile or broken client sends over one connection, cut into writes, and how it ends. Most
begin as something valid and are then damaged in a few places, because what is wrong everywhere is refused
at the first byte and tests nothing else. Two rules keep the verdict meaningful: no stream may spell a legal
request that changes the keys of the other clients (what deletes is sent undamaged and for own keys only),
and no stream forges a legal Raft message in a member's name (who can do that is a member).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from .fuzz_every import PLAIN, Guise
from .fuzz_http import http1_stream
from .fuzz_http2 import http2_stream
from .fuzz_peer import PeerTarget, peer_stream

__all__ = ["ByteStream", "Ending", "Port", "stream_of"]

Port: TypeAlias = Literal["client", "peer"]
#: What the sender does after its last byte: close, close its sending half and read on, reset, or wait a bit.
Ending: TypeAlias = Literal["close", "half", "reset", "wait"]

_ENDINGS: Final[tuple[Ending, ...]] = ("close", "half", "half", "half", "reset", "wait")


class ByteStream(msgspec.Struct, frozen=True, kw_only=True):
    """One connection's worth of bytes."""

    number: int
    port: Port
    member: int  # which member is dialled, counted from 0
    kind: str  # the generator, e.g. "http2/flip"
    chunks: tuple[bytes, ...]  # one write each
    ending: Ending

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(len, self.chunks))


def _random_bytes(rng: random.Random, guise: Guise) -> tuple[str, bytes]:
    return "random", rng.randbytes(rng.choice((0, 1, 8, 24, 300, 5000)))


_CLIENT: Final[tuple[tuple[int, Callable[[random.Random, Guise], tuple[str, bytes]]], ...]] = (
    (1, _random_bytes), (6, http2_stream), (5, http1_stream),
)  # fmt: skip


def _chunks(rng: random.Random, data: bytes) -> tuple[bytes, ...]:
    """Cut into a few writes; most streams are one."""
    if len(data) < 2 or rng.random() < 0.7:
        return (data,) if data else ()
    cuts = sorted({rng.randrange(1, len(data)) for _ in range(rng.randrange(1, 5))})
    return tuple(data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))


def stream_of(seed: int, number: int, targets: tuple[PeerTarget, ...], guise: Guise = PLAIN) -> ByteStream:
    """Make stream ``number`` of a run.

    Args:
        targets: what a stranger can know of each member; empty: nothing is sent to peer ports.
        guise: as whom clients speak.
    """
    rng = random.Random(f"{seed}/stream/{number}")
    member = rng.randrange(max(1, len(targets)))
    port: Port = "peer" if targets and rng.random() < 0.3 else "client"
    if port == "peer":
        kind, data = peer_stream(rng, targets[member])
    else:
        make = rng.choices([row[1] for row in _CLIENT], [row[0] for row in _CLIENT])[0]
        kind, data = make(rng, guise)
    ending = rng.choice(_ENDINGS)
    return ByteStream(
        number=number,
        port=port,
        member=member,
        kind=f"{port}/{kind}",
        chunks=_chunks(rng, data),
        ending=ending,
    )
