"""Readers of recorded histories: ours, Jepsen's log lines, and EDN maps (Porcupine's key-value store).

The format is found by looking at the first line. Recordings without a clock get their positions as times.
In Jepsen's register logs a ``:fail :cas`` is an answer, not an accident: the register did not hold the
expected value. It is read as an ok operation with the result False.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .history import Header, History, Operation, Result, decode_lines, from_pairs

__all__ = ["FORMATS", "detect", "read_edn", "read_history", "read_jepsen_log"]

FORMATS = ("tercet", "jepsen", "edn")

_JEPSEN = re.compile(r"^INFO\s+jepsen\.util - (\d+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.*?)\s*$")
_EDN_PAIR = re.compile(r":([a-z_-]+)\s+(\"(?:[^\"\\]|\\.)*\"|:[a-z_-]+|nil|-?\d+)")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def detect(text: bytes) -> str:
    """The format of a recording, by its first line that is not empty; ``ValueError`` for any other."""
    for line in text.splitlines():
        start = line.strip()
        if not start:
            continue
        if start.startswith(b"INFO"):
            return "jepsen"
        if start.startswith(b"{:"):
            return "edn"
        if start.startswith(b"{"):
            return "tercet"
        break
    raise ValueError("not a history: need JSON lines, a Jepsen log, or EDN maps")


def read_history(data: bytes, format: str | None = None) -> History:
    """Read a recording; ``format`` None looks at the data. Raises ``ValueError`` naming the line."""
    found = format or detect(data)
    if found == "tercet":
        return decode_lines(data)
    text = data.decode("utf-8", "strict")
    if found == "jepsen":
        return read_jepsen_log(text)
    if found == "edn":
        return read_edn(text)
    raise ValueError(f"unknown format {found!r}: need one of {', '.join(FORMATS)}")


def read_jepsen_log(text: str) -> History:
    """A Jepsen test's log of one register, values being integers or nil."""
    return History(tuple(from_pairs(_jepsen_events(text))), header=Header(model="cas-register"))


def _jepsen_events(text: str) -> Iterator[tuple[str, int, Operation]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = _JEPSEN.match(line)
        if found is None:
            if "jepsen.util" in line:
                raise ValueError(f"line {number}: cannot read {line.strip()!r}")
            continue  # a test's log has other lines between the operations
        process, kind, f, word = int(found[1]), found[2], found[3], found[4]
        if word.startswith(":"):
            yield kind, process, Operation(process, f, 0, error=word[1:])
            continue
        value = _jepsen_value(word, number)
        result: Result = value if f == "read" else True
        if f == "cas" and kind == "fail":
            kind, result = "ok", False
        yield kind, process, Operation(process, f, 0, value=None if f == "read" else value, result=result)


def _jepsen_value(word: str, number: int) -> int | tuple[int, ...] | None:
    try:
        if word == "nil":
            return None
        if word.startswith("["):
            return tuple(int(part) for part in word.strip("[]").split())
        return int(word)
    except ValueError:
        raise ValueError(f"line {number}: cannot read the value {word!r}") from None


def read_edn(text: str) -> History:
    """Maps of :process, :type, :f, :key and :value, one a line; operations put, append and get."""
    return History(tuple(from_pairs(_edn_events(text))), header=Header(model="kv"))


def _edn_events(text: str) -> Iterator[tuple[str, int, Operation]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = {name: _edn_value(word) for name, word in _EDN_PAIR.findall(line)}
        process, kind, f = fields.get("process"), fields.get("type"), fields.get("f")
        if not isinstance(process, int) or not isinstance(kind, str) or not isinstance(f, str):
            raise ValueError(f"line {number}: need :process, :type and :f, got {line.strip()!r}")
        if kind not in ("invoke", "ok", "fail", "info"):
            raise ValueError(f"line {number}: unknown :type {kind}")
        key, value = fields.get("key"), fields.get("value")
        observed = f in ("get", "read")
        yield (
            kind,
            process,
            Operation(
                process,
                f,
                0,
                key="" if key is None else str(key),
                value=None if observed else value,
                result=value if observed else None,
            ),
        )


def _edn_value(word: str) -> int | str | None:
    if word == "nil":
        return None
    if word.startswith('"'):
        return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), word[1:-1])
    if word.startswith(":"):
        return word[1:]
    return int(word)
