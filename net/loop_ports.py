"""What the node's loop needs of the drivers around it, and the header that commands carry in the log."""

from __future__ import annotations

import struct
from typing import Final, Protocol

from tercet.core.machine import Machine
from tercet.core.raft.types import HardState, Message, SnapshotMeta, SnapshotRequest

__all__ = ["COMMAND_HEADER", "Outbox", "Snapshots"]

#: What stands before the request in an entry: command, proposing member, its sequence.
COMMAND_HEADER: Final = struct.Struct(">BQQ")


class Outbox(Protocol):
    """What the loop needs of ``net.peers.Peers``."""

    def send(self, messages: list[Message]) -> list[Message]:
        """Best effort, as Raft repeats what is lost. Returns what has certainly not left."""

    async def call(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        """Ask another member; raises ``RpcError``."""

    def connected_since(self, member_id: int) -> float | None:
        """Monotonic seconds since when there has been a connection to a member; None: there is none."""


class Snapshots(Protocol):
    """What the loop needs of the drivers that send, receive and install snapshots."""

    def send(self, request: SnapshotRequest) -> None:
        """Send a snapshot to a member, and let ``SnapshotSent`` happen at the end."""

    async def install(self, meta: SnapshotMeta, hard_state: HardState) -> Machine:
        """Put the snapshot that was received in place of state and log, durably; the machine it makes."""

    def forget(self) -> None:
        """The snapshot that was received is not wanted."""
