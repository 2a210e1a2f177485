"""Ports of loopback that are kept from others until the members that shall listen there have ended.

A socket that is bound and does not listen keeps a port from everybody who asks the system for any. A server
that sets SO_REUSEADDR, as ours and etcd do, may listen there nevertheless; who dials before is refused.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack

__all__ = ["HOST", "held_ports"]

HOST = "127.0.0.1"


def held_ports(count: int, held: ExitStack) -> list[int]:
    """So many free ports, nobody else's until ``held`` ends."""
    sockets = [held.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind((HOST, 0))
    return [each.getsockname()[1] for each in sockets]
