"""Paths with empty segments or dots: the client is sent to the same path without them, as by Go's servers.

A client that joins its endpoint ``http://host:2379/`` and ``/version`` asks for ``//version``.
"""

from __future__ import annotations

from html import escape
from urllib.parse import quote

from .http_pages import Answer, Headers, Request

__all__ = ["redirect", "tidied"]

_SAFE = "/$&+,:;=@"


def tidied(path: str) -> str:
    """The path without empty segments, ``.`` and ``..``; a slash at its end stays."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def redirect(request: Request) -> Answer | None:
    """Where to ask instead; None: the path is tidy, or no path (of a whole URL, or ``*``)."""
    path = tidied(request.path)
    if path == request.path or not request.path.startswith("/"):
        return None
    target = quote(path, safe=_SAFE) + (f"?{request.search}" if request.search else "")
    headers: Headers = [("Location", target)]
    if request.method not in ("GET", "HEAD"):
        return Answer(301, headers)
    page = f'<a href="{escape(target)}">Moved Permanently</a>.\n\n'
    return Answer(301, [("Content-Type", "text/html; charset=utf-8"), *headers], page.encode())
