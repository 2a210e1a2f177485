"""The node as services see it: propose, read, subscribe, ask the leader, look at the cluster.

All of it may be called from any task of the member's run. Requests are plain calls with a callback, because
a task per request would cost more than the request; the callbacks run in the node's own task (``net.loop``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from tercet.core import raft, rpc_errors
from tercet.core.machine import Alarm, Machine
from tercet.core.members import MemberCommand, MemberView, conf_change
from tercet.core.raft.types import Role, TransferLeader
from tercet.core.rpc_errors import RpcError

from .apply import Done, Subscriber
from .loop import CoreLoop, Limits
from .loop_ports import COMMAND_HEADER, Outbox
from .persist import LogStorage
from .reads import Done as ReadDone
from .world import World

if TYPE_CHECKING:
    from .keeper import Keeper

__all__ = ["CALL_SECONDS", "Limits", "MemberView", "Node"]

#: How long a call to the leader may take.
CALL_SECONDS: Final = 5.0


def _nothing_on_disk() -> tuple[int, int]:
    return 0, 0


class Node(CoreLoop):
    """One member's core with its drivers. Methods are called from Trio tasks of one run, never threads."""

    def __init__(
        self,
        world: World,
        *,
        member_id: int,
        cluster_id: int,
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
        )
        self.cluster_id = cluster_id
        #: Bytes of the database on the disk, and how many of them are in use; set by who builds the member.
        self.database_size: Callable[[], tuple[int, int]] = _nothing_on_disk
        #: Who keeps the applied state on disk; None: nobody.
        self.keeper: Keeper | None = None
        #: What other members may call here (``call_leader``), by method.
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}

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
    def slow_reads(self) -> int:
        """Rounds of linearizable reads that were not confirmed in time, since the start."""
        return self._reads.slow

    @property
    def failed_reads(self) -> int:
        """Linearizable reads that ran out of time, since the start."""
        return self._reads.failed

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
        """The cluster's members as this member knows them, by id."""
        return self.machine.members.all()

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
        self._proposing.entries.append(COMMAND_HEADER.pack(kind, self.member_id, sequence) + payload)
        if self._bed.task is not None:
            self._bed.wake()

    def _refusal(self, size: int) -> RpcError:
        """Why a proposal of ``size`` bytes is not taken."""
        if size > self.limits.max_request_bytes:
            return rpc_errors.REQUEST_TOO_LARGE
        if self._stopped:
            return rpc_errors.STOPPED
        return rpc_errors.NOT_SUPPORTED_FOR_LEARNER if self.is_learner else rpc_errors.TOO_MANY_REQUESTS

    def propose_change(
        self, command: MemberCommand, payload: bytes, done: Done, deadline: float | None = None
    ) -> None:
        """Replicate a change of who is a member (ADD, REMOVE, PROMOTE); otherwise as ``propose``.

        One change is under way at a time in a cluster; the others wait for it, until their deadline.
        """
        size = len(payload)
        if size > self._room:
            done(self._refusal(size))
            return
        header = self._register(command, size, done, deadline)
        self._proposing.changes.append(conf_change(command, payload, header))
        if self._bed.task is not None:
            self._bed.wake()

    def _register(self, kind: int, size: int, done: Done, deadline: float | None) -> bytes:
        """Remember who waits for a proposal; the header that its entry will carry."""
        self._sequence = sequence = self._sequence + 1
        if deadline is None or deadline > self._latest:
            deadline = self._latest
        self._applier.waiters[sequence] = (done, deadline, size)
        self._applier.waiting_bytes += size
        return COMMAND_HEADER.pack(kind, self.member_id, sequence)

    def transfer_leadership(self, target: int) -> None:
        """Ask to hand leadership to ``target``, 0: to whoever holds most of the log. It may not happen."""
        self.happen(TransferLeader(target))

    def read_index(self, done: ReadDone, deadline: float | None = None) -> None:
        """Call ``done(None)`` once ``machine`` holds everything committed before this call, else an error."""
        if self._stopped or self.is_learner:
            done(rpc_errors.STOPPED if self._stopped else rpc_errors.NOT_SUPPORTED_FOR_LEARNER)
            return
        if deadline is None or deadline > self._latest:
            deadline = self._latest
        self._reads.ask(done, deadline)
        if self._bed.task is not None:
            self._bed.wake()

    async def propose_and_wait(self, kind: int, payload: bytes) -> Any:
        """Replicate a command of the member's own; its outcome. A learner may do so, too.

        Raises:
            RpcError: what ``propose`` would answer, or the error of the outcome itself.
        """
        finished = trio.Event()
        box: list[Any] = []

        def done(outcome: Any) -> None:
            box.append(outcome)
            finished.set()

        if self._stopped:
            raise rpc_errors.STOPPED.with_traceback(None)
        self._proposing.entries.append(self._register(kind, len(payload), done, None) + payload)
        if self._bed.task is not None:
            self._bed.wake()
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

    def match_index(self, member_id: int) -> int | None:
        """The last log index that a member is known to hold; None unless we lead and replicate to it."""
        leadership = self._state.leadership
        if leadership is None:
            return None
        for progress in leadership.progress:
            if progress.node_id == member_id:
                return progress.match_index
        return None

    def connected_since(self, member_id: int) -> float | None:
        """Monotonic seconds since when there has been a connection to a member; None: there is none."""
        return self._outbox.connected_since(member_id)

    async def call_member(self, member_id: int, method: str, payload: bytes, timeout: float) -> bytes:
        """Have another member answer ``method`` within ``timeout`` seconds; raises ``RpcError``."""
        return await self._outbox.call(member_id, method, payload, timeout)

    async def wait_read_point(self) -> None:
        """Wait until ``machine`` holds everything committed before this call; raises ``RpcError``."""
        finished = trio.Event()
        errors: list[RpcError] = []

        def done(error: RpcError | None) -> None:
            if error is not None:
                errors.append(error)
            finished.set()

        self.read_index(done)
        await finished.wait()
        if errors:
            raise errors[0].with_traceback(None)

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
