"""Ports that are kept for members that start later."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from tercet.jepsen_like.ports import HOST, held_ports, hold_port


def test_a_held_port_is_nobody_elses_but_a_servers_and_free_afterwards() -> None:
    with ExitStack() as held:
        ports = held_ports(20, held)
        assert len({*ports, *held_ports(20, held)}) == 40
        with socket.socket() as other, pytest.raises(OSError):
            other.bind((HOST, ports[0]))
        with pytest.raises(OSError):
            hold_port(ports[0])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, ports[0])).close()
        with socket.create_server((HOST, ports[0])):  # sets SO_REUSEADDR
            socket.create_connection((HOST, ports[0])).close()
    with hold_port(ports[1]) as again, socket.create_server((HOST, ports[1])):
        assert again.getsockname() == (HOST, ports[1])
