"""From settings to a client: the ports of this machine, and ``Client`` with the settings' credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import trio

from tercet.core.errors import TercetError

from ..client.client import Client, open_client
from ..client.connection import Patience
from ..real import RealClock, RealDisk, RealNetwork, RealRng
from ..world import World
from .calls import login_failed, readable
from .context import Settings
from .failures import ERROR, Failure

__all__ = ["connect", "lookup_services", "world"]


class _QuietProbe:
    """Nobody watches a command line from inside."""

    step = None

    def log(self, level: str, message: str, /, **fields: object) -> None: ...

    def count(self, metric: str, amount: float = 1.0, /, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, /, **labels: str) -> None: ...

    def observe(self, metric: str, value: float, /, **labels: str) -> None: ...

    def point(self, name: str) -> None: ...


@cache
def world() -> World:
    """This machine's ports; nothing is logged or counted."""
    return World(
        name="ctl",
        clock=RealClock(),
        net=RealNetwork(),
        disk=RealDisk(),
        rng=RealRng(),
        probe=_QuietProbe(),
        environment=os.environ,
    )


@asynccontextmanager
async def connect(settings: Settings, endpoints: Sequence[str] = ()) -> AsyncIterator[Client]:
    """A client that is logged in where there is a user, for commands that ``--command-timeout`` does not end.

    ``endpoints``: those instead of the settings' own.

    Raises:
        Failure: The login was refused.
    """
    client = open_client(
        world(),
        readable(endpoints or settings.endpoints),
        request_timeout=max(settings.command_timeout, settings.dial_timeout, 0.0),
        tls=settings.tls,
        login=settings.login,
        patience=Patience(
            max(settings.dial_timeout, 1e-3),
            max(settings.keepalive_time, 1e-3),
            max(settings.keepalive_timeout, 1e-3),
        ),
    )
    async with client:
        try:
            await client.log_in()
        except TercetError as error:
            login_failed(error, world().clock.wall)
        yield client


def lookup_services(name: str) -> tuple[tuple[str, int], ...]:
    """A name's SRV records. Raises ``OSError`` when there are none."""
    try:
        return trio.run(RealNetwork().lookup_services, name)
    except ValueError as error:
        raise Failure(ERROR, str(error)) from None
