"""Reading URLs: where a member or a client listens or dials.

``http`` and ``unix`` are plain, ``https`` and ``unixs`` are TLS; an address without a scheme is what the
dialler has credentials for. A Unix URL's host and path together are the file's name, as in etcd.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Address", "read_url"]


class Address(NamedTuple):
    """Where a URL points: ``path`` of a Unix socket, or else ``host`` (no IPv6 brackets) and ``port``."""

    secure: bool | None  # None: the URL does not say
    host: str
    port: int
    path: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """What is bound: equal for URLs that share a port."""
        return (self.path, 0) if self.path else (self.host, self.port)

    @property
    def authority(self) -> str:
        """What HTTP calls it."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_url(url: str) -> Address:
    """Read a URL, or a bare ``host:port``. ``ValueError`` when it is neither.

    A user, a query and a fragment do not matter.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "", url
    secure = {"": None, "http": False, "https": True, "unix": False, "unixs": True}.get(scheme, "?")
    if scheme in ("unix", "unixs") and rest:
        parts = urlsplit(url)
        return Address(secure is True, "", 0, parts.netloc + parts.path)
    place = rest.partition("?")[0].partition("#")[0].rpartition("@")[2]
    host, colon, port = place.rstrip("/").rpartition(":")
    if isinstance(secure, str) or not colon or not port.isdigit() or "/" in host:
        raise ValueError(f"need http://host:port, got {url!r}")
    return Address(secure, host.strip("[]"), int(port))
