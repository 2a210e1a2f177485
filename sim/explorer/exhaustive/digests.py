"""A set of 64 bit digests that costs little more than eight bytes for each.

Python's own set needs some ninety: the numbers are objects and most places are empty. Here the digests lie
in arrays with open addressing, one array for each value of the highest byte, so that growing copies little
at a time.

Source: Knuth, The Art of Computer Programming 3, section 6.4, algorithm L.
"""

from __future__ import annotations

from array import array

__all__ = ["Digests"]

_MASK = (1 << 64) - 1
_PARTS = 256
_FIRST_SIZE = 16  # of a part; a power of two


class Digests:
    """The digests seen so far."""

    def __init__(self) -> None:
        self._parts = [array("Q", bytes(8 * _FIRST_SIZE)) for _ in range(_PARTS)]
        self._room = [_FIRST_SIZE * 3 // 4] * _PARTS  # how many more each part takes before it grows
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, digest: int) -> bool:
        """Enter a digest, any integer, of which 64 bits count; False: it was there before."""
        digest = digest & _MASK or 1  # 0 marks an empty place
        number = digest >> 56
        part = self._parts[number]
        mask = len(part) - 1
        place = digest & mask
        while found := part[place]:
            if found == digest:
                return False
            place = (place + 1) & mask
        part[place] = digest
        self._count += 1
        self._room[number] -= 1
        if not self._room[number]:
            self._grow(number)
        return True

    def _grow(self, number: int) -> None:
        old = self._parts[number]
        size = 2 * len(old)
        mask = size - 1
        part = array("Q", bytes(8 * size))
        for digest in old:
            if digest:
                place = digest & mask
                while part[place]:
                    place = (place + 1) & mask
                part[place] = digest
        self._parts[number] = part
        self._room[number] = size * 3 // 4 - len(old) * 3 // 4
