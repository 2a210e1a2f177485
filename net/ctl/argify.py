"""Lines of interactive input taken apart into words: quotes as in a shell, escapes as in Go."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["split_line", "unquoted"]

_WORDS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\'"\s]\S*[^\'"\s]?')
_ESCAPE: Final = re.compile(
    rb"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))"
)
_PLAIN: Final = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
    b"\\": b"\\", b"'": b"'", b'"': b'"',
}  # fmt: skip


def split_line(line: bytes) -> list[bytes]:
    """The words of a line, without the quotes around them."""
    words = []
    for word in _WORDS.findall(line):
        if word[:1] == b'"':
            words.append(unquoted(word))
        elif word[:1] == b"'":
            words.append(word[1:-1])
        else:
            words.append(word)
    return words


def unquoted(word: bytes) -> bytes:
    """What a text in double quotes says."""
    return _ESCAPE.sub(_said, word[1:-1])


def _said(found: re.Match[bytes]) -> bytes:
    plain, two, octal, four, eight = found.groups()
    if plain is not None:
        return _PLAIN[plain]
    if two is not None:
        return bytes([int(two, 16)])
    if octal is not None:
        return bytes([int(octal, 8) & 255])
    return chr(int(four or eight, 16)).encode("utf-8", "replace")
