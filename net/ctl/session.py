"""From settings to a client: the ports of this machine, and ``Client`` with the settings' credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import trio

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import RpcError

from ..client.client import Client, open_client
from ..client.connection import Patience
from ..dial import read_url
from ..real import RealClock, RealDisk, RealNetwork, RealRng
from ..tls_context import ClientCredentials
from ..tls_settings import ClientTls, TlsError
from ..world import World
from .calls import ask, error_text
from .context import Settings, complain
from .failures import BAD_ARGS, BAD_CONNECTION, ERROR, Failure

__all__ = ["call_once", "check_tls", "connect", "lookup_services", "world"]

#: Stands for an endpoint that nobody can read: it refuses.
NOWHERE = "http://127.0.0.1:0"


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


def check_tls(tls: ClientTls) -> None:
    """Fail at once when certificates cannot be read."""
    try:
        ClientCredentials(world(), tls).context()
    except (OSError, TlsError) as error:
        raise Failure(BAD_ARGS, getattr(error, "strerror", None) or str(error)) from None


@asynccontextmanager
async def connect(settings: Settings, endpoints: Sequence[str] = ()) -> AsyncIterator[Client]:
    """A client that is logged in where there is a user. ``endpoints``: those instead of the settings' own.

    Raises:
        Failure: The login was refused.
    """
    client = open_client(
        world(),
        [_readable(url) for url in endpoints or settings.endpoints] or [NOWHERE],
        request_timeout=max(settings.command_timeout, 1e-3),
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
        except RpcError as error:
            if error.message != "etcdserver: authentication is not enabled":
                raise Failure(BAD_CONNECTION, error_text(error)) from None
            _note("retrying of unary invoker failed", error)
        except TercetError as error:
            raise Failure(BAD_CONNECTION, error_text(error)) from None
        yield client


def _note(message: str, error: RpcError) -> None:
    """What etcd's client says on the way, in its words, as one JSON line on standard error."""
    from ..log import JsonLog  # only here: rarely needed

    JsonLog(complain, world().clock.wall).log("warn", message, {"error": error_text(error)})


def _readable(url: str) -> str:
    try:
        read_url(url)
    except ValueError:
        return NOWHERE
    return url


def lookup_services(name: str) -> tuple[tuple[str, int], ...]:
    """A name's SRV records; none when there is no such name."""
    try:
        return trio.run(RealNetwork().lookup_services, name)
    except OSError:
        return ()
    except ValueError as error:
        raise Failure(ERROR, str(error)) from None


async def call_once(settings: Settings, path: str, request: Any, answer: type[Any]) -> Any:
    """One unary call on a client of its own. Raises ``TercetError``."""
    async with connect(settings) as client:
        return await ask(client, path, request, answer)
