"""Leases: grant, revoke, look at, and keep alive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .errors import RequestTimedOut
from .values import Lease, LeaseState

if TYPE_CHECKING:
    from ..world import World
    from .client import Client
    from .connection import GrpcConnection

__all__ = ["KeepAlive", "LeaseCalls"]

KEEP_ALIVE_PATH: Final = "/etcdserverpb.Lease/LeaseKeepAlive"


class LeaseCalls:
    """The lease calls of ``Client``."""

    world: World
    request_timeout: float
    metadata: tuple[tuple[str, str], ...]

    async def call(
        self,
        path: str,
        request: Any,
        read: Callable[[bytes], Any],
        timeout: float | None = None,
        *,
        repeatable: bool = False,
    ) -> Any:
        raise NotImplementedError

    async def connection(self) -> GrpcConnection:
        raise NotImplementedError

    def rotate(self) -> None:
        raise NotImplementedError

    async def lease_grant(self, ttl: int, *, lease_id: int = 0, timeout: float | None = None) -> Lease:
        """Grant a lease of ``ttl`` seconds (the server may give more); id 0: the server chooses."""
        request = rpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        answer = await self.call(
            "/etcdserverpb.Lease/LeaseGrant", request, rpc.LeaseGrantResponse.FromString, timeout
        )
        return Lease(answer.ID, answer.TTL)

    async def lease_revoke(self, lease_id: int, *, timeout: float | None = None) -> None:
        """End a lease now; its keys are deleted."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        await self.call(
            "/etcdserverpb.Lease/LeaseRevoke", request, rpc.LeaseRevokeResponse.FromString, timeout
        )

    async def lease_time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout: float | None = None
    ) -> LeaseState:
        """How long a lease still lives, and which keys hang on it."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        answer = await self.call(
            "/etcdserverpb.Lease/LeaseTimeToLive",
            request,
            rpc.LeaseTimeToLiveResponse.FromString,
            timeout,
            repeatable=True,
        )
        return LeaseState(answer.ID, answer.TTL, answer.grantedTTL, tuple(answer.keys))

    async def leases(self, *, timeout: float | None = None) -> tuple[int, ...]:
        """The ids of all leases."""
        answer = await self.call(
            "/etcdserverpb.Lease/LeaseLeases",
            rpc.LeaseLeasesRequest(),
            rpc.LeaseLeasesResponse.FromString,
            timeout,
            repeatable=True,
        )
        return tuple(lease.ID for lease in answer.leases)

    async def lease_keep_alive_once(self, lease_id: int, *, timeout: float | None = None) -> int:
        """Renew a lease; the seconds it now lives, 0 when there is no such lease."""
        answer: bytes | None = None
        with self.world.clock.timeout(self.request_timeout if timeout is None else timeout):
            connection = await self.connection()
            call = connection.start(KEEP_ALIVE_PATH, self.metadata)
            try:
                call.send(rpc.LeaseKeepAliveRequest(ID=lease_id).SerializeToString(), end=True)
                answer = await call.receive()
            finally:
                call.cancel()
        if answer is None:
            self.rotate()
            raise RequestTimedOut(f"lease {lease_id:x} was not renewed in time")
        return rpc.LeaseKeepAliveResponse.FromString(answer).TTL


class KeepAlive:
    """Renews a lease at every third of its life while the body of ``async with`` runs.

    ``lost`` is set once the server says that the lease is gone, or when it cannot have survived.
    """

    def __init__(self, client: Client, lease_id: int) -> None:
        self._client = client
        self._nurseries = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        self.lease_id = lease_id
        self.lost = trio.Event()

    async def __aenter__(self) -> KeepAlive:
        self._nursery = await self._nurseries.__aenter__()
        self._nursery.start_soon(self._renew)
        return self

    async def __aexit__(self, *error: Any) -> bool:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        # The body's own error goes on as it is, not in a group.
        await self._nurseries.__aexit__(None, None, None)
        return False

    async def _renew(self) -> None:
        clock = self._client.world.clock
        ttl = 1.0
        renewed_at: float | None = None
        while True:
            asked_at = clock.monotonic()
            try:
                patience = max(0.5, ttl / 3)
                ttl = float(await self._client.lease_keep_alive_once(self.lease_id, timeout=patience))
                renewed_at = asked_at
            except TercetError:
                if renewed_at is not None and clock.monotonic() >= renewed_at + ttl:
                    ttl = 0.0
            if ttl <= 0:
                self.lost.set()
                return
            await clock.sleep(ttl / 3 if renewed_at == asked_at else min(0.5, ttl / 6))
