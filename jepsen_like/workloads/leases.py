"""Clients that hold leases: a key hangs on each, which must live as long as the lease and not much longer.

Each client grants a lease, puts a key of its own under it, keeps it alive for a while, then revokes it or
lets it go. After healing everybody lets go, waits, and looks: what is still there lived too long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tercet.sim.operator import logged_in

from ..history import Answer, Operation
from .calls import perform
from .recorder import Recorder

if TYPE_CHECKING:
    from tercet.net.client import Client
    from tercet.sim.run import Setting

__all__ = ["LINGER_SECONDS", "hold_leases"]

#: How long clients wait after letting go before they look.
LINGER_SECONDS: Final = 6.5


async def hold_leases(
    recorder: Recorder,
    setting: Setting,
    client: Client,
    prefix: str,
    prefix_end: str,
    ttls: tuple[int, int],
) -> None:
    """Be one client until ``setting.stop``, and look once more afterwards.

    Args:
        ttls: seconds; a lease's time to live is drawn from the first on, below the second.
    """
    holder = _Holder(recorder, setting, client, prefix, ttls)
    while not setting.stop.is_set():
        await holder.one_lease()
        await holder.pause(300)
    await setting.world.clock.sleep(LINGER_SECONDS)
    last = Operation(setting.number, "get", 0, key=prefix, range_end=prefix_end)
    await recorder.call(last, partial(perform, client, last), setting.now)


class _Holder:
    def __init__(
        self, recorder: Recorder, setting: Setting, client: Client, prefix: str, ttls: tuple[int, int]
    ) -> None:
        self.recorder, self.setting, self.client, self.prefix = recorder, setting, client, prefix
        self.ttls = ttls
        self.draw = setting.world.rng.stream("leases")
        self.serial = 0

    async def pause(self, most_ms: int) -> None:
        await self.setting.world.clock.sleep(self.draw.randrange(1, most_ms) / 1000)

    async def one_lease(self) -> None:
        """The life of one lease, from its grant to where this client loses interest."""
        number, now = self.setting.number, self.setting.now
        self.serial += 1
        asked = Operation(number, "grant", 0, value=self.draw.randrange(*self.ttls))
        granted = await self.recorder.call(asked, self._as_user(partial(self._grant, asked)), now)
        if not isinstance(granted, tuple) or not isinstance(granted[0], int):
            return
        lease = granted[0]
        # It may expire from now on, whoever does or does not do anything.
        self.recorder.note(Operation(number, "revoke", self.recorder.time(now()), lease=lease))
        key = f"{self.prefix}{number}.{self.serial}"
        put = Operation(number, "put", 0, key=key, value=f"{number}.{self.serial}", lease=lease)
        await self.recorder.call(put, self._as_user(partial(perform, self.client, put)), now)
        for _ in range(self.draw.randrange(8)):
            if not self.setting.stop.is_set():
                await self.pause(1200)
            if self.setting.stop.is_set() or not await self._renew(lease):
                return
        if self.draw.random() < 0.4:
            revoke = Operation(number, "revoke", 0, lease=lease)
            await self.recorder.call(revoke, self._as_user(partial(self._revoke, lease)), now)

    def _as_user(self, call: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
        return partial(logged_in, self.client, call)

    async def _grant(self, asked: Operation) -> tuple[int, int]:
        assert isinstance(asked.value, int)
        lease = await self.client.lease_grant(asked.value)
        return lease.id, lease.ttl

    async def _renew(self, lease: int) -> bool:
        renew = Operation(self.setting.number, "keepalive", 0, lease=lease)
        left = await self.recorder.call(
            renew, self._as_user(partial(self._keep_alive, lease)), self.setting.now
        )
        return not isinstance(left, int) or left > 0

    async def _keep_alive(self, lease: int) -> int:
        return await self.client.lease_keep_alive_once(lease)

    async def _revoke(self, lease: int) -> Answer:
        await self.client.lease_revoke(lease)
        return Answer()
