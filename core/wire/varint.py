"""Base-128 varints, the integers of protobuf's wire format: seven bits a byte, lowest first."""

from __future__ import annotations

__all__ = ["decode_varint", "encode_varint", "varint_size"]

_LAST = [bytes((n,)) for n in range(128)]  # a byte that ends a number
_MORE = [bytes((n | 128,)) for n in range(128)]  # a byte after which it goes on
# Numbers below 2**14, and the lowest fourteen bits of a larger one: most that occur, revisions among them,
# are one or two look-ups.
_SHORT = (*_LAST, *[low + high for high in _LAST[1:] for low in _MORE])
_LOW = tuple([low + high for high in _MORE for low in _MORE])
_U64 = (1 << 64) - 1


def encode_varint(number: int) -> bytes:
    """Encode an integer; a negative one as its 64-bit two's complement, ten bytes, as protobuf's int64 does.

    Args:
        number: -2**63 .. 2**64 - 1.

    Raises:
        ValueError: the number does not fit 64 bits.
    """
    if 0 <= number < 16384:
        return _SHORT[number]
    if 0 < number < 268435456:
        return _LOW[number & 16383] + _SHORT[number >> 14]
    if not -(1 << 63) <= number <= _U64:
        raise ValueError(f"need -2**63 <= number < 2**64, got {number}")
    number &= _U64
    return _LOW[number & 16383] + encode_varint(number >> 14)


def decode_varint(data: bytes, position: int = 0) -> tuple[int, int]:
    """Decode one unsigned varint.

    Returns:
        The number (0 .. 2**64 - 1; higher bits are cut, as protobuf does) and the position after it.

    Raises:
        ValueError: the data ends within the number, or it has more than ten bytes.
    """
    number = shift = 0
    while True:
        if position >= len(data):
            raise ValueError("data ends within a varint")
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & _U64, position
        shift += 7
        if shift >= 70:
            raise ValueError("a varint has at most ten bytes")


def varint_size(number: int) -> int:
    """The number of bytes that ``encode_varint(number)`` has, for 0 <= number < 2**64."""
    return (number.bit_length() + 6) // 7 or 1
