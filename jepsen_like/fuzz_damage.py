"""Damage: small changes to valid bytes and valid lists of pieces, drawn from a random stream."""

from __future__ import annotations

import random
import struct
from typing import Final

__all__ = ["damage_bytes", "damage_pieces"]

#: Numbers at which lengths and counters tend to break.
_LENGTHS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def damage_bytes(rng: random.Random, data: bytes, *, first: int = 0) -> tuple[str, bytes]:
    """Change a few bytes at or after ``first``; returns what was done and the new bytes."""
    if len(data) <= first + 1:
        return "short", data
    act = rng.choice(("flip", "set", "cut", "drop", "repeat", "insert", "length", "splice"))
    where = rng.randrange(first, len(data))
    changed = bytearray(data)
    if act == "flip":
        for _ in range(rng.choice((1, 1, 2, 5))):
            changed[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
    elif act == "set":
        changed[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
    elif act == "cut":
        del changed[where:]
    elif act == "drop":
        del changed[where : where + rng.randrange(1, 20)]
    elif act == "repeat":
        end = min(len(data), where + rng.randrange(1, 200))
        changed[where:where] = data[where:end] * rng.choice((1, 2, 30))
    elif act == "insert":
        changed[where:where] = rng.randbytes(rng.randrange(1, 20))
    elif act == "length":
        changed[where : where + 4] = struct.pack(">I", rng.choice(_LENGTHS))
    else:
        other = rng.randrange(first, len(data))
        changed[where : where + 30] = data[other : other + 30]
    return act, bytes(changed)


def damage_pieces(rng: random.Random, pieces: list[bytes], *, first: int = 0) -> str:
    """Drop, repeat or swap whole pieces at or after ``first``, in place; returns what was done."""
    if len(pieces) < first + 2:
        return "whole"
    at = rng.randrange(first, len(pieces))
    act = rng.choice(("without", "twice", "swapped"))
    if act == "without":
        del pieces[at]
    elif act == "twice":
        pieces[at:at] = [pieces[at]] * rng.choice((1, 2, 20))
    else:
        other = rng.randrange(first, len(pieces))
        pieces[at], pieces[other] = pieces[other], pieces[at]
    return act
