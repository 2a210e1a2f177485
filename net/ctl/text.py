"""How Go prints and reads numbers, durations, quoted texts and sizes; users' scripts compare the output.

Each function covers what the command lines need of Go's ``strconv``, ``time`` and ``fmt``.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "duration_text", "parse_bool", "parse_duration", "parse_int", "parse_uint", "quoted", "size_text",
]

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_UNITS: Final = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000,
    "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


def _syntax(function: str, word: str) -> ValueError:
    return ValueError(f"strconv.{function}: parsing {quoted(word)}: invalid syntax")


def _range(function: str, word: str) -> ValueError:
    return ValueError(f"strconv.{function}: parsing {quoted(word)}: value out of range")


def _digits(word: str, base: int, function: str) -> int:
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"[:base]
    if not word or any(letter not in alphabet for letter in word.lower()):
        raise _syntax(function, word)
    return int(word, base)


def parse_int(word: str, base: int = 10) -> int:
    """A signed 64-bit number. ``ValueError`` has Go's text; base 0 takes 0x, 0o, 0b and 1_000, too."""
    sign = -1 if word.startswith("-") else 1
    body = word[1:] if word[:1] in ("-", "+") else word
    chosen, body = _base(body) if base == 0 else (base, body)
    try:
        value = sign * _digits(body, chosen, "ParseInt")
    except ValueError:
        raise _syntax("ParseInt", word) from None
    if not -(1 << 63) <= value < 1 << 63:
        raise _range("ParseInt", word)
    return value


def parse_uint(word: str, base: int = 10) -> int:
    """An unsigned 64-bit number; as ``parse_int``."""
    chosen, body = _base(word) if base == 0 else (base, word)
    try:
        value = _digits(body, chosen, "ParseUint")
    except ValueError:
        raise _syntax("ParseUint", word) from None
    if value >= 1 << 64:
        raise _range("ParseUint", word)
    return value


def _base(word: str) -> tuple[int, str]:
    """The base that a number's spelling tells, and its digits without the underscores between them."""
    base, digits = 10, word
    for prefix, named in (("0x", 16), ("0b", 2), ("0o", 8)):
        if word.lower().startswith(prefix):
            base, digits = named, word[2:]
            break
    else:
        if len(word) > 1 and word[0] == "0":
            base, digits = 8, word[1:]
    if "_" not in digits:
        return base, digits
    parts = (digits if base == 10 else "0" + digits).split("_")
    return base, "".join(parts) if all(parts) else digits  # which is no number


def parse_bool(word: str) -> bool:
    """Go's spellings of true and false."""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _syntax("ParseBool", word)


def parse_duration(word: str) -> float:
    """Seconds from Go's duration, such as ``1m30s`` or ``-1.5h``; a bare number only when it is 0."""
    body = word[1:] if word[:1] in ("-", "+") else word
    if body == "0":
        return 0.0
    if not body:
        raise ValueError(f"time: invalid duration {quoted(word)}")
    total, position = 0.0, 0
    while position < len(body):
        part = _PART.match(body, position)
        if part is None:
            raise ValueError(f"time: invalid duration {quoted(word)}")
        if not part[2]:
            raise ValueError(f"time: missing unit in duration {quoted(word)}")
        if part[2] not in _UNITS:
            raise ValueError(f"time: unknown unit {quoted(part[2])} in duration {quoted(word)}")
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if total >= 1 << 63:
        raise ValueError(f"time: invalid duration {quoted(word)}")
    return (-total if word.startswith("-") else total) / 1e9


def duration_text(seconds: float) -> str:
    """Go's text for a duration: ``1.5s``, ``2m0s``, ``315.2µs``."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000:
            return sign + _decimal(nanoseconds, size) + unit
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    text = _decimal(rest, 1_000_000_000) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return sign + text


def _decimal(value: int, unit: int) -> str:
    whole, part = divmod(value, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


_ESCAPES: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def quoted(value: str | bytes) -> str:
    """Go's ``%q``: printable characters as they are, invalid UTF-8 byte by byte as ``\\xnn``."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    parts = ['"']
    for letter in data.decode("utf-8", "surrogateescape"):
        code = ord(letter)
        if letter in _ESCAPES:
            parts.append(_ESCAPES[letter])
        elif 0xDC80 <= code <= 0xDCFF:
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif letter == " " or (letter.isprintable() and not letter.isspace()):
            parts.append(letter)
        elif code < 0x80:
            parts.append(f"\\x{code:02x}")
        elif code < 0x10000:
            parts.append(f"\\u{code:04x}")
        else:
            parts.append(f"\\U{code:08x}")
    return "".join(parts) + '"'


def size_text(size: int) -> str:
    """A size in bytes with decimal units: ``20 kB``, ``1.5 MB``."""
    if size < 10:
        return f"{size} B"
    exponent, power = 0, 1
    while size >= power * 1000 and exponent < 6:
        exponent, power = exponent + 1, power * 1000
    value = int(size / power * 10 + 0.5) / 10
    unit = ("B", "kB", "MB", "GB", "TB", "PB", "EB")[exponent]
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
