"""HPACK's Huffman code, a byte at a time.

The ``hpack`` package ships an automaton that takes four bits a step. Two of its steps make one of ours:
(state, byte) to (state, bytes put out). The pairs are worked out when first met, 65,536 at most, so that
decoding costs one look-up a byte, a third of the package's loop.
"""

from __future__ import annotations

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE

__all__ = ["decode_huffman"]

_FAILED = -1
#: state * 256 + byte -> (next state * 256, or _FAILED; whether a string may end there; what is put out)
_steps: dict[int, tuple[int, bool, bytes]] = {}


def _step(key: int) -> tuple[int, bool, bytes]:
    state = key >> 8
    out = b""
    flags = 0
    for nibble in (key >> 4 & 15, key & 15):
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + nibble]
        if flags & HUFFMAN_FAIL:
            found = (_FAILED, False, b"")
            break
        if flags & HUFFMAN_EMIT_SYMBOL:
            out += bytes((symbol,))
    else:
        found = (state << 8, bool(flags & HUFFMAN_COMPLETE), out)
    _steps[key] = found
    return found


def decode_huffman(text: bytes) -> bytes:
    """Decode one string.

    Raises:
        ValueError: a code that does not exist, the end-of-string code, or wrong padding (RFC 7541, 5.2).
    """
    state = 0
    complete = True
    out = []
    steps = _steps
    for byte in text:
        key = state | byte
        state, complete, piece = steps.get(key) or _step(key)
        if state < 0:
            raise ValueError("a code that does not exist")
        out.append(piece)
    if not complete:
        raise ValueError("the padding is not the end of the code of all ones")
    return b"".join(out)
