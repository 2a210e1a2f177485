"""Which URLs of peers are sent to a cluster, and what is said of the others: as etcd's client library has it.

That library lets Go take a URL apart and then asks for a scheme, a host with a port, and no path.
"""

from __future__ import annotations

import re
from typing import Final

from .failures import ERROR, Failure
from .text import quoted

__all__ = ["check_peer_urls"]

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_BARE_WORD: Final = re.compile(r"[^/?#]*:")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOST: Final = re.compile(r"[\w.~!$&'()*+,;=:\[\]<>\"%\x80-\U0010ffff-]*")
_ESCAPE: Final = re.compile(r"%(?!25|[89a-fA-F][0-9a-fA-F]).{0,2}")
_ADDRESS: Final = re.compile(r"(?:[^:\[\]]*|\[[^\[\]]*\]):[0-9]*")


def check_peer_urls(urls: list[str]) -> None:
    """Fail unless each is the URL of a peer."""
    for url in urls:
        problem = _problem(url.strip())
        if problem:
            raise Failure(ERROR, problem)


def _problem(url: str) -> str:
    """What is wrong with a URL, "" for nothing."""
    wrong = _misspelt(url)
    if wrong:
        return f"parse {quoted(url)}: {wrong}"
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[0].lower() not in ("http:", "https:", "unix:", "unixs:"):
        return f"URL scheme must be http, https, unix, or unixs: {url}"
    host, path = _authority(url)
    if not _ADDRESS.fullmatch(host):
        return f'URL address does not have the form "host:port": {url}'
    return f"URL must not contain a path: {url}" if path else ""


def _misspelt(url: str) -> str:
    """Why it is no URL at all, "" when it is one."""
    if _CONTROL.search(url):
        return "net/url: invalid control character in URL"
    if url.startswith(":"):
        return "missing protocol scheme"
    if not _SCHEME.match(url) and _BARE_WORD.match(url):
        return "first path segment in URL cannot contain colon"
    host, _ = _authority(url)
    _, colon, port = host.rpartition(":")
    if colon and "]" not in port and not re.fullmatch("[0-9]*", port):
        return f"invalid port {quoted(':' + port)} after host"
    escape = _ESCAPE.search(host)
    if escape:
        return f"invalid URL escape {quoted(escape[0])}"
    valid = _HOST.match(host)
    if valid and valid.end() < len(host):
        return f"invalid character {quoted(host[valid.end()])} in host name"
    return ""


def _authority(url: str) -> tuple[str, str]:
    """Host with port, and path; the user is left out."""
    rest = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme = _SCHEME.match(rest)
    rest = rest[scheme.end() :] if scheme else rest
    if not rest.startswith("//"):
        return "", rest
    authority, slash, path = rest[2:].partition("/")
    return authority.rpartition("@")[2], slash + path
