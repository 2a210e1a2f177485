"""HPACK's Huffman code (RFC 7541, appendix B), a byte at a time.

The code is canonical: of two codes of one length the greater symbol has the greater one, and longer codes
follow shorter ones. So the lengths alone are the table. A state is what has been read of a code, with a one
in front; (state, byte) leads to (state, bytes put out). These pairs are worked out when first met, 65,536 at
most, so that decoding costs one look-up a byte.
"""

from __future__ import annotations

from typing import Final

__all__ = ["decode_huffman"]

#: Of the codes for bytes 0 to 255 and the end of string, in bits.
_LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
)  # fmt: skip
_END: Final = 256
_EMPTY: Final = 1  # nothing has been read of a code
_FAILED: Final = -1


def _symbols() -> dict[int, int]:
    """Code, with a one in front -> symbol."""
    found = {}
    code = before = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_LENGTHS)):
        code <<= length - before
        before = length
        found[1 << length | code] = symbol
        code += 1
    return found


_SYMBOLS: Final = _symbols()
#: What fills the last byte up: the beginning of the code of all ones, shorter than a byte.
_PADDINGS: Final = frozenset((2 << length) - 1 for length in range(8))
#: state * 256 + byte -> (next state * 256, or _FAILED; whether a string may end there; what is put out)
_steps: dict[int, tuple[int, bool, bytes]] = {}


def _step(key: int) -> tuple[int, bool, bytes]:
    state, out = key >> 8, bytearray()
    for place in range(7, -1, -1):
        state = state << 1 | key >> place & 1
        symbol = _SYMBOLS.get(state)
        if symbol == _END:
            found = (_FAILED, False, b"")
            break
        if symbol is not None:
            out.append(symbol)
            state = _EMPTY
    else:
        found = (state << 8, state in _PADDINGS, bytes(out))
    _steps[key] = found
    return found


def decode_huffman(text: bytes) -> bytes:
    """Decode one string.

    Raises:
        ValueError: the end-of-string code, or wrong padding (RFC 7541, 5.2).
    """
    state = _EMPTY << 8
    complete = True
    out = []
    steps = _steps
    for byte in text:
        key = state | byte
        state, complete, piece = steps.get(key) or _step(key)
        if state < 0:
            raise ValueError("the end-of-string code")
        out.append(piece)
    if not complete:
        raise ValueError("the padding is not the end of the code of all ones")
    return b"".join(out)
