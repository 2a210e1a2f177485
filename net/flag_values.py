"""Reading the text of one flag as etcd's Go program reads it, with Go's reasons for refusing it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from .flag_table import Flag, Kind

__all__ = ["FlagError", "Value", "check_url", "parse_bool", "parse_duration", "read_value"]

class FlagError(ValueError):
    """The configuration cannot be used; exit status 1."""


Value: TypeAlias = str | bool | int | float | tuple[str, ...]
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_duration(text: str) -> float:
    """Seconds of a Go duration such as ``1h30m`` or ``100ms``. ``ValueError`` when it is none."""
    if text in ("0", "+0", "-0"):
        return 0.0
    body = text[1:] if text[:1] in ("+", "-") else text
    seconds, at = 0.0, 0
    for found in _DURATION.finditer(body):
        if found.start() != at:
            break
        seconds += float(found[1]) * _UNITS[found[2]]
        at = found.end()
    if not body or at != len(body):
        raise ValueError("parse error")
    return -seconds if text.startswith("-") else seconds


def _parse_integer(text: str) -> int:
    if re.fullmatch(r"[+-]?0[0-7]+", text):  # Go reads a leading zero as octal
        return int(text, 8)
    try:
        return int(text, 0) if text == text.strip() else int("x")
    except ValueError:
        raise ValueError("parse error") from None


def _parse_uint(text: str) -> int:
    number = _parse_integer(text)
    if number < 0 or number >= 1 << 64 or text.startswith("+"):
        raise ValueError("parse error")
    return number


def parse_bool(text: str) -> bool:
    """What Go takes for a boolean. ``ValueError`` when it is none."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("parse error")


def _parse_urls(text: str) -> tuple[str, ...]:
    """Sorted and without repetitions, as etcd keeps them; "" gives none."""
    if not text:
        return ()
    found = {check_url(part.strip()) for part in text.split(",")}
    return tuple(sorted(found))


def check_url(url: str) -> str:
    """The URL itself when etcd would take it as a listen or advertise URL; ``ValueError`` otherwise."""
    try:
        parts = urlsplit(url)
    except ValueError as problem:
        raise ValueError(f"parse {url!r}: {problem}") from None
    if parts.scheme not in ("http", "https", "unix", "unixs"):
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {url}")
    if parts.scheme in ("unix", "unixs"):
        return url
    host, colon, port = parts.netloc.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.startswith("[")):
        raise ValueError(f'URL address does not have the form "host:port": {url}')
    if int(port) > 65535:
        raise ValueError(f"URL port must be at most 65535: {url}")
    if parts.path:
        raise ValueError(f"URL must not contain a path: {url}")
    return url


_PARSERS: Final[Mapping[Kind, Callable[[str], Value]]] = {
    Kind.TEXT: str,
    Kind.CHOICE: str,
    Kind.BOOL: parse_bool,
    Kind.UINT: _parse_uint,
    Kind.INT: _parse_integer,
    Kind.DURATION: parse_duration,
    Kind.URLS: _parse_urls,
    Kind.LIST: lambda text: tuple(text.split(",")) if text else (),
}


def read_value(flag: Flag, text: str) -> Value:
    """One value; ``ValueError`` with etcd's reason."""
    value = _PARSERS[flag.kind](text)
    if flag.kind is Kind.CHOICE and value not in flag.choices:
        raise ValueError("invalid value")
    return value
