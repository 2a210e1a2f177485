"""One peer connection's sending half: synchronous, bounded, one write per batch while the kernel keeps up.

``send`` hands bytes to the kernel at once; what it does not take waits for ``write_rest``, the task of
the connection that sends the remainder. What exceeds the bound is refused, and the caller drops it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from .world import Connection

if TYPE_CHECKING:  # clients use channels, too, and need not load the members' protocol
    from tercet.core.wire.peer import Frame, FrameDecoder

__all__ = ["PENDING_BYTES_MAX", "Channel", "Identity", "read_frames", "until_error"]

RECEIVE_BYTES: Final = 256 << 10
#: Bytes that may wait on one connection before messages for it are dropped.
PENDING_BYTES_MAX: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a member is towards its peers."""

    cluster_id: int
    member_id: int


class Channel:
    """Bytes out over one connection; at most ``pending_max`` bytes wait."""

    def __init__(self, connection: Connection, pending_max: int) -> None:
        self.connection = connection
        self._pending_max = pending_max
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._sending = False
        self._more = trio.Event()

    def send(self, data: bytes) -> bool:
        """Send all of ``data`` or, when too much waits already, nothing (False). Never waits.

        An error of the connection is left for its reader and writer to find.
        """
        if self._sending or self._pending:
            if self._pending_bytes + len(data) > self._pending_max:
                return False
        else:
            try:
                taken = self.connection.try_send(data)
            except (OSError, trio.ClosedResourceError):
                return False
            if taken == len(data):
                return True
            data = data[taken:]
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._more.set()
        return True

    async def write_rest(self) -> None:
        """Send what the kernel did not take at once, until cancelled; raises ``OSError``."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            self._sending = True
            while self._pending:
                data = b"".join(self._pending)
                self._pending.clear()
                await self.connection.send_all(data)
                self._pending_bytes -= len(data)
            self._sending = False


async def read_frames(connection: Connection, decoder: FrameDecoder) -> list[Frame]:
    """At least one frame; none at the end of the stream. Raises ``PeerProtocolError``, ``OSError``."""
    while data := await connection.receive(RECEIVE_BYTES):
        frames = decoder.feed(data)
        if frames:
            return frames
    return []


async def until_error(write: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    """Run the writer of a connection; when the connection fails, end the connection's nursery."""
    try:
        await write()
    except (OSError, trio.ClosedResourceError):
        scope.cancel()
