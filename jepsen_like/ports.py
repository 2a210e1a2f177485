"""Ports of loopback that are kept from others until the members that shall listen there have ended.

A socket that is bound and does not listen keeps a port from everybody who asks the system for any. A server
that sets SO_REUSEADDR, as ours and etcd do, may listen there nevertheless; who dials before is refused.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack

__all__ = ["HOST", "held_ports", "hold_port"]

HOST = "127.0.0.1"


def hold_port(port: int = 0) -> socket.socket:
    """Keep a port, 0 for any free one, from others until the socket is closed.

    Raises:
        OSError: somebody has it.
    """
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if port == 0 else 0)
        held.bind((HOST, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        held.close()
        raise
    return held


def held_ports(count: int, held: ExitStack) -> list[int]:
    """So many free ports, nobody else's until ``held`` ends."""
    return [held.enter_context(hold_port()).getsockname()[1] for _ in range(count)]
