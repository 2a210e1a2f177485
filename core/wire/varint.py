"""Base-128 varints, the integers of protobuf's wire format: seven bits a byte, lowest first."""

from __future__ import annotations

__all__ = ["decode_varint", "encode_varint", "varint_size"]

_ONE_BYTE = tuple(bytes((n,)) for n in range(128))
_U64 = (1 << 64) - 1


def encode_varint(number: int) -> bytes:
    """Encode an integer; a negative one as its 64-bit two's complement, ten bytes, as protobuf's int64 does.

    Args:
        number: -2**63 .. 2**64 - 1.

    Raises:
        ValueError: the number does not fit 64 bits.
    """
    if 0 <= number < 128:
        return _ONE_BYTE[number]
    if number < 0:
        if number < -(1 << 63):
            raise ValueError(f"need -2**63 <= number < 2**64, got {number}")
        number &= _U64
    elif number > _U64:
        raise ValueError(f"need -2**63 <= number < 2**64, got {number}")
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


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
