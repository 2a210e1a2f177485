"""Snapshots between members, as the node's loop sees them: sent, received, installed.

The sending and the receiving half know rows and connections; the keeper knows what rows mean. This puts them
together for one member.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from tercet.core.machine import Machine
from tercet.core.raft.types import Event, HardState, Receive, SnapshotMeta, SnapshotRequest
from tercet.core.wire.peer import FrameDecoder

from .snapshot_receive import SnapshotReceiver
from .snapshot_send import Dialling, SnapshotSender
from .world import Backend, BackendView, Connection, World

__all__ = ["SnapshotDriver"]


class _Keeper(Protocol):
    """What is needed of ``net.keeper.Keeper``."""

    def view(self) -> tuple[SnapshotMeta, BackendView]: ...

    async def receive(self) -> Backend: ...

    def discard(self, received: Backend) -> None: ...

    async def install(self, received: Backend, hard_state: HardState) -> Machine: ...


class SnapshotDriver:
    """The snapshots of one member (``net.loop_ports.Snapshots``).

    Args:
        happen: lets an event happen to the member's core.
        connections: opens connections to members.
    """

    def __init__(
        self,
        world: World,
        member_id: int,
        happen: Callable[[Event], None],
        connections: Dialling,
        keeper: _Keeper,
    ) -> None:
        self._probe = world.probe
        self._keeper = keeper
        self._sender = SnapshotSender(world, connections, keeper.view, happen)
        self._receiver = SnapshotReceiver(
            world, member_id, keeper.receive, keeper.discard, lambda request: happen(Receive(request))
        )
        #: Serves a connection that another member has opened for a snapshot.
        self.serve: Callable[[int, Connection, FrameDecoder], Awaitable[None]] = self._receiver.serve

    async def run(self) -> None:
        """Must run while the member does; until cancelled."""
        await self._sender.run()

    def send(self, request: SnapshotRequest) -> None:
        """Send a snapshot to a member; ``SnapshotSent`` happens at the end."""
        self._sender.send(request)

    async def install(self, meta: SnapshotMeta, hard_state: HardState) -> Machine:
        """Put the snapshot that was received in place of state and log, durably; the machine it makes."""
        self._probe.gauge("etcd_server_snapshot_apply_in_progress_total", 1.0)
        machine = await self._keeper.install(self._receiver.take(meta), hard_state)
        self._probe.gauge("etcd_server_snapshot_apply_in_progress_total", 0.0)
        self._receiver.forget(taken=True)
        self._probe.log("info", "applied snapshot", index=meta.index, term=meta.term)
        return machine

    def forget(self) -> None:
        """The snapshot that was received is not wanted."""
        self._receiver.forget()
