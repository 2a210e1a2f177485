"""What Go says about text that is not JSON: which character was wrong, and what was being read just then.

Python's decoder finds out *that* a body is bad; only then is it read again here, by a small pushdown
automaton, for the words that etcd's users know. A body that merely stops is ``unexpected EOF``.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["json_complaint"]

_SPACE: Final = " \t\r\n"
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_END: Final = "unexpected EOF"
#: What may follow one part of a number, and what it is called when something else does.
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]*)?")


class _Bad(Exception):
    """The text that Go has for what is wrong."""


def json_complaint(text: str, start: int = 0, *, alone: bool = False) -> str:
    """Why no JSON value begins at ``start``, or "" when one does.

    Args:
        text: JSON, or not.
        start: Where the value should begin; there may be space before it.
        alone: Nothing may follow the value, and a text that merely stops is described as Go does then.
    """
    if alone:
        text += " "  # this is how Go finds out that a text breaks off within a word or a number
    try:
        end = _skip(text, _value(text, _skip(text, start)))
    except _Bad as bad:
        return "unexpected end of JSON input" if alone and str(bad) == _END else str(bad)
    if alone and end < len(text):
        return f"invalid character {_shown(text[end])} after top-level value"
    return ""


def _value(text: str, at: int) -> int:
    """Read one value with all that is in it; where it ends. No recursion: bodies may nest deeply."""
    open_ones: list[str] = []
    while True:
        at = _simple(text, at) if _at(text, at) not in "[{" else _opened(text, at, open_ones)
        if at < 0:  # something was opened, and a value comes next
            at = -at
            continue
        while True:  # after a value
            if not open_ones:
                return at
            at = _skip(text, at)
            found = _at(text, at)
            if found == ("}" if open_ones[-1] == "{" else "]"):
                open_ones.pop()
                at += 1
                continue
            if found != ",":
                where = "object key:value pair" if open_ones[-1] == "{" else "array element"
                raise _Bad(f"invalid character {_shown(found)} after {where}")
            at = _skip(text, at + 1)
            if open_ones[-1] == "{":
                at = _key(text, at)
            break


def _opened(text: str, at: int, open_ones: list[str]) -> int:
    """Behind the bracket: the first value's place, negated, or the end of an empty one."""
    bracket = text[at]
    at = _skip(text, at + 1)
    if _at(text, at) == ("}" if bracket == "{" else "]"):
        return at + 1
    open_ones.append(bracket)
    return -(_key(text, at) if bracket == "{" else at)


def _key(text: str, at: int) -> int:
    """Read a key and its colon; where its value begins."""
    found = _at(text, at)
    if found != '"':
        raise _Bad(f"invalid character {_shown(found)} looking for beginning of object key string")
    at = _skip(text, _string(text, at))
    found = _at(text, at)
    if found != ":":
        raise _Bad(f"invalid character {_shown(found)} after object key")
    return _skip(text, at + 1)


def _simple(text: str, at: int) -> int:
    found = _at(text, at)
    if found == '"':
        return _string(text, at)
    if found in _LITERALS:
        return _literal(text, at, _LITERALS[found])
    if found == "-" or (found.isascii() and found.isdigit()):
        return _number(text, at)
    raise _Bad(f"invalid character {_shown(found)} looking for beginning of value")


def _literal(text: str, at: int, wanted: str) -> int:
    for place, letter in enumerate(wanted):
        found = _at(text, at + place)
        if found != letter:
            raise _Bad(f"invalid character {_shown(found)} in literal {wanted} (expecting {_shown(letter)})")
    return at + len(wanted)


def _number(text: str, at: int) -> int:
    matched = _NUMBER.match(text, at)
    end = matched.end() if matched else at
    last = text[end - 1]
    if last == "-" and end == at + 1:
        raise _Bad(f"invalid character {_shown(_at(text, end))} in numeric literal")
    if last == ".":
        raise _Bad(f"invalid character {_shown(_at(text, end))} after decimal point in numeric literal")
    if last in "eE+-":
        raise _Bad(f"invalid character {_shown(_at(text, end))} in exponent of numeric literal")
    return end


def _string(text: str, at: int) -> int:
    at += 1
    while True:
        found = _at(text, at)
        if found == '"':
            return at + 1
        if found < " ":
            raise _Bad(f"invalid character {_shown(found)} in string literal")
        at += 1
        if found == "\\":
            at = _escape(text, at)


def _escape(text: str, at: int) -> int:
    found = _at(text, at)
    if found == "u":
        for place in range(at + 1, at + 5):
            if _at(text, place) not in _HEX:
                raise _Bad(f"invalid character {_shown(text[place])} in \\u hexadecimal character escape")
        return at + 5
    if found not in 'bfnrt\\/"':
        raise _Bad(f"invalid character {_shown(found)} in string escape code")
    return at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _at(text: str, at: int) -> str:
    if at >= len(text):
        raise _Bad(_END)
    return text[at]


def _shown(character: str) -> str:
    """A character in single quotes, as Go shows the bytes of a text."""
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    first = character.encode("utf-8", "surrogateescape")[0]
    if first < 0x80:
        short = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 92: r"\\"}
        plain = chr(first) if 32 <= first < 127 else f"\\x{first:02x}"
        return f"'{short.get(first, plain)}'"
    return f"'{chr(first)}'" if first >= 0xA1 and first != 0xAD else f"'\\u{first:04x}'"
