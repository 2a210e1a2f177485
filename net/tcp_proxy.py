"""A TCP proxy in front of a cluster: what clients send goes to any member that can be reached, as it is.

Members take turns. One that refuses a connection is left out, and asked again after a while; the connection
goes to the next. Nothing of what passes is understood: TLS is between the client and the member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from .dial import Address
from .world import Connection, Listener, World

__all__ = ["TcpProxy"]

PIECE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class _Endpoint:
    address: Address
    active: bool = True


class TcpProxy:
    """One proxy.

    Args:
        world: whose network and clock it is.
        endpoints: members' client addresses, at least one; whether they speak TLS does not matter.
        retry_seconds: how often endpoints that failed are asked again.
        most: connections at once; more are closed.
    """

    def __init__(
        self, world: World, endpoints: Sequence[Address], *, retry_seconds: float = 60.0, most: int = 20_000
    ) -> None:
        if not endpoints:
            raise ValueError("need at least one endpoint")
        self._world = world
        self._endpoints = [_Endpoint(address) for address in endpoints]
        self._retry_seconds = retry_seconds
        self._most = most
        self._turn = 0
        self._open = 0

    async def run(self, listener: Listener) -> None:
        """Serve until cancelled; the listener is closed then."""
        shown = [endpoint.address.authority for endpoint in self._endpoints]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ask_again)
                self._world.probe.log("info", "ready to proxy client requests", endpoints=shown)
                while True:
                    client = await listener.accept()
                    if self._open >= self._most:
                        client.close()
                    else:
                        self._open += 1
                        nursery.start_soon(self._serve, client)
        finally:
            listener.close()

    async def _serve(self, client: Connection) -> None:
        member: Connection | None = None
        try:
            member = await self._connect()
            if member is not None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_copy, client, member, nursery.cancel_scope)
                    nursery.start_soon(_copy, member, client, nursery.cancel_scope)
        finally:
            self._open -= 1
            client.close()
            if member is not None:
                member.close()

    async def _connect(self) -> Connection | None:
        """A connection to the next member that takes one; None when none does."""
        while True:
            endpoint = self._next()
            if endpoint is None:
                return None
            try:
                return await self._dial(endpoint)
            except OSError as problem:
                endpoint.active = False
                self._world.probe.log(
                    "warn", "deactivated endpoint", address=endpoint.address.authority,
                    interval=self._retry_seconds, error=str(problem),
                )  # fmt: skip

    def _next(self) -> _Endpoint | None:
        for _ in self._endpoints:
            endpoint = self._endpoints[self._turn % len(self._endpoints)]
            self._turn += 1
            if endpoint.active:
                return endpoint
        return None

    async def _dial(self, endpoint: _Endpoint) -> Connection:
        address = endpoint.address
        if address.path:
            return await self._world.net.connect_unix(address.path)
        return await self._world.net.connect(address.host, address.port)

    async def _ask_again(self) -> None:
        while True:
            await self._world.clock.sleep(self._retry_seconds)
            for endpoint in self._endpoints:
                if endpoint.active:
                    continue
                try:
                    (await self._dial(endpoint)).close()
                except OSError as problem:
                    self._world.probe.log(
                        "warn", "failed to activate endpoint (stay inactive for another interval)",
                        address=endpoint.address.authority, interval=self._retry_seconds, error=str(problem),
                    )  # fmt: skip
                else:
                    endpoint.active = True
                    self._world.probe.log("info", "activated", address=endpoint.address.authority)


async def _copy(source: Connection, target: Connection, both: trio.CancelScope) -> None:
    """Pass on one direction and its end; when it breaks, the other one ends, too."""
    try:
        while data := await source.receive(PIECE_BYTES):
            await target.send_all(data)
        target.close_sending()
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
