"""The node as services see it: propose, read, subscribe, ask the leader, look at the cluster.

All of it may be called from any task of the member's run. Requests are plain calls with a callback, because
a task per request would cost more than the request; the callbacks run in the node's own task (``net.loop``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

from tercet.core import raft, rpc_errors
from tercet.core.machine import Alarm, Machine, MemberAttributes
from tercet.core.raft.types import Role
from tercet.core.rpc_errors import RpcError

from .apply import Done, Subscriber
from .loop import COMMAND_HEADER, CoreLoop, Limits, Outbox
from .persist import LogStorage
from .reads import Done as ReadDone
from .world import World

__all__ = ["CALL_SECONDS", "Limits", "MemberView", "Node"]

#: How long a call to the leader may take.
CALL_SECONDS: Final = 5.0


class MemberView(msgspec.Struct, frozen=True):
    """A member as others see it."""

    id: int
    name: str  # "": not published yet
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool = False


class Node(CoreLoop):
    """One member's core with its drivers. All methods are called from Trio tasks of one run, never threads.

    ``roster`` lists the cluster's members as (id, name, peer URLs).
    """

    def __init__(
        self,
        world: World,
        *,
        member_id: int,
        cluster_id: int,
        roster: tuple[tuple[int, str, tuple[str, ...]], ...],
        state: raft.RaftState,
        machine: Machine,
        storage: LogStorage,
        outbox: Outbox,
        limits: Limits,
        tick_seconds: float,
        incarnation: int,
    ) -> None:
        super().__init__(
            world,
            member_id=member_id,
            state=state,
            machine=machine,
            storage=storage,
            outbox=outbox,
            limits=limits,
            tick_seconds=tick_seconds,
            incarnation=incarnation,
            sole_voter=len(roster) == 1,
        )
        self.cluster_id = cluster_id
        #: What other members may call here (``call_leader``), by method.
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self._roster = roster

    @property
    def applied_index(self) -> int:
        """The last log index that the state machine has applied."""
        return self._applier.applied_index

    @property
    def commit_index(self) -> int:
        """The last log index known to be committed."""
        return self._state.commit_index

    @property
    def pending_proposals(self) -> int:
        """Proposals of this member's clients that have no answer yet."""
        return len(self._applier.waiters)

    @property
    def is_leader(self) -> bool:
        """This member believes to lead; only a quorum makes it so."""
        return self.role == Role.LEADER

    @property
    def state(self) -> raft.RaftState:
        """The core's present state, a value."""
        return self._state

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that are raised, sorted."""
        return self.machine.alarms

    def members(self) -> tuple[MemberView, ...]:
        """The cluster's members, by id; name and client URLs are empty until a member has published them."""
        attributes = self.machine.attributes
        nothing = MemberAttributes("", ())
        return tuple(
            MemberView(i, attributes.get(i, nothing).name, urls, attributes.get(i, nothing).client_urls)
            for i, _, urls in self._roster
        )

    def propose(self, kind: int, payload: bytes, done: Done, deadline: float | None = None) -> None:
        """Replicate a command; ``done`` is called exactly once, with its outcome or with an error.

        Args:
            kind: A ``core.machine.Command``.
            payload: The serialised request.
            done: Called in the node's task, or at once when the proposal is refused.
            deadline: Monotonic seconds; None or a later one: the member's own request timeout. An error
                at the deadline says nothing about the outcome.
        """
        size = len(payload)
        applier = self._applier
        if size > self._room or applier.waiting_bytes + size > self.limits.waiting_bytes:
            done(self._refusal(size))
            return
        self._sequence = sequence = self._sequence + 1
        if deadline is None or deadline > self._latest:
            deadline = self._latest
        applier.waiters[sequence] = (done, deadline, size)
        applier.waiting_bytes += size
        self._proposals.append(COMMAND_HEADER.pack(kind, self.member_id, sequence) + payload)
        if self._parked is not None:
            self._wake()

    def _refusal(self, size: int) -> RpcError:
        """Why a proposal of ``size`` bytes is not taken."""
        if size > self.limits.max_request_bytes:
            return rpc_errors.REQUEST_TOO_LARGE
        return rpc_errors.STOPPED if self._stopped else rpc_errors.TOO_MANY_REQUESTS

    def read_index(self, done: ReadDone, deadline: float | None = None) -> None:
        """Call ``done(None)`` once ``machine`` holds everything committed before this call, else an error."""
        if self._stopped:
            done(rpc_errors.STOPPED)
            return
        if deadline is None or deadline > self._latest:
            deadline = self._latest
        self._reads.ask(done, deadline)
        if self._parked is not None:
            self._wake()

    async def propose_and_wait(self, kind: int, payload: bytes) -> Any:
        """Replicate a command; its outcome. Raises ``RpcError``, also the one of the outcome itself."""
        finished = trio.Event()
        box: list[Any] = []

        def done(outcome: Any) -> None:
            box.append(outcome)
            finished.set()

        self.propose(kind, payload, done)
        await finished.wait()
        outcome = box[0]
        error = outcome if isinstance(outcome, RpcError) else outcome.error
        if error is not None:
            raise error.with_traceback(None)
        return outcome

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber(events, revision)`` after each applied batch with events; returns the way out."""
        self._applier.subscribers = [*self._applier.subscribers, subscriber]

        def unsubscribe() -> None:
            self._applier.subscribers = [s for s in self._applier.subscribers if s is not subscriber]

        return unsubscribe

    async def call_leader(self, method: str, payload: bytes) -> bytes:
        """Have the leader answer ``method``, itself when this member leads; raises ``RpcError``."""
        leader_id = self.leader_id
        if leader_id == 0:
            raise rpc_errors.NO_LEADER.with_traceback(None)
        if leader_id == self.member_id:
            return await self.answer_call(method, payload)
        return await self._outbox.call(leader_id, method, payload, CALL_SECONDS)

    async def answer_call(self, method: str, payload: bytes) -> bytes:
        """Answer a call, another member's or our own; raises ``RpcError``."""
        handler = self.calls.get(method)
        if handler is None:
            raise rpc_errors.unimplemented("tercet.Peer", method)
        return await handler(payload)
