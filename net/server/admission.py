"""Who may talk HTTP to us from a browser: origins (CORS), and host names against DNS rebinding.

A page of a stranger may make a browser that can reach us send requests here, under a host name that the
stranger made point to us. So ``--host-whitelist`` says which names plain requests may use; over TLS the
certificate has settled that. ``*`` in either list allows all, as does an empty list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["allowed_host", "cors_headers", "host_name", "host_refusal"]

_METHODS: Final = [
    ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
    ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
]
_EVERYBODY: Final = [*_METHODS, ("Access-Control-Allow-Origin", "*")]


def cors_headers(origins: Sequence[str], origin: str) -> list[tuple[str, str]]:
    """The headers that let a page of ``origin`` ("" for no page) read the answer; none when it may not."""
    if not origins or "*" in origins:
        return _EVERYBODY
    if origin and origin in origins:
        return [*_METHODS, ("Access-Control-Allow-Origin", origin)]
    return []


def host_name(header: str) -> str:
    """The name in a Host header, without its port and brackets."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdigit() else header).strip("[]")


def allowed_host(hosts: Sequence[str], header: str) -> bool:
    """Whether plain requests may name this host."""
    return not hosts or "*" in hosts or host_name(header) in hosts


def host_refusal(header: str) -> str:
    """What etcd answers to a request that names another host."""
    return f"""
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist "{host_name(header)}"

This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).
"""
