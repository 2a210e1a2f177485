"""What the services need of the member they run in, and the two things each of them does with it.

``Member`` is the part of ``net.node.Node`` that services use. ``Answers`` puts the response header in front
of bodies and turns outcomes into replies; a waiting call costs one ``functools.partial``, no closure and no
task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from tercet.core import rpc_errors
from tercet.core.machine import Machine, Outcome
from tercet.core.members import MemberCommand
from tercet.core.raft.types import SoftState
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.header import HeaderPrefix

from ..call import UnaryCall

if TYPE_CHECKING:
    from ...keeper import Keeper

__all__ = ["Answers", "Member", "ProposalDone", "ReadDone"]

ProposalDone: TypeAlias = Callable[["Outcome | RpcError"], None]
ReadDone: TypeAlias = Callable[["RpcError | None"], None]

_LONG_BYTES = 256 << 10  # an answer that is not copied into one piece


class Member(Protocol):
    """The node as services see it; see ``net.node.Node`` for the duties of each method."""

    member_id: int
    cluster_id: int
    machine: Machine
    term: int
    leader_id: int  # 0: none known
    is_learner: bool
    keeper: Keeper | None  # None: the state is in memory only
    database_size: Callable[[], tuple[int, int]]  # bytes on the disk, and how many of them are in use
    on_installed: list[Callable[[int], None]]
    on_soft_state: list[Callable[[SoftState], None]]
    calls: dict[str, Callable[[bytes], Awaitable[bytes]]]

    @property
    def applied_index(self) -> int: ...

    @property
    def commit_index(self) -> int: ...

    @property
    def is_leader(self) -> bool: ...

    def propose(
        self, kind: int, payload: bytes, done: ProposalDone, deadline: float | None = None
    ) -> None: ...

    def propose_change(
        self, command: MemberCommand, payload: bytes, done: ProposalDone, deadline: float | None = None
    ) -> None: ...

    def transfer_leadership(self, target: int) -> None: ...

    def match_index(self, member_id: int) -> int | None: ...

    def connected_since(self, member_id: int) -> float | None: ...

    def read_index(self, done: ReadDone, deadline: float | None = None) -> None: ...

    def subscribe(self, subscriber: Callable[[Sequence[Any], int], None]) -> Callable[[], None]: ...

    async def call_leader(self, method: str, payload: bytes) -> bytes: ...


class Answers:
    """Replies of one member."""

    __slots__ = ("_bare", "_member", "_prefix")

    def __init__(self, member: Member) -> None:
        self._member = member
        self._prefix = HeaderPrefix(member.cluster_id, member.member_id)
        self._bare = HeaderPrefix(member.cluster_id, member.member_id)

    def header(self, revision: int) -> bytes:
        """The encoded response header at ``revision``; 0 leaves the revision out."""
        prefix = self._prefix if revision else self._bare
        return prefix.encode(revision, self._member.term)

    def reply(self, call: UnaryCall, revision: int, body: bytes) -> None:
        """Answer with a header and a body without one."""
        call.reply(self._prefix.encode(revision, self._member.term) + body)

    def reply_in_parts(self, call: UnaryCall, revision: int, parts: Sequence[bytes]) -> None:
        """As ``reply`` with a body that may be long."""
        header = self._prefix.encode(revision, self._member.term)
        if sum(map(len, parts)) < _LONG_BYTES:
            call.reply(b"".join((header, *parts)))
        else:
            call.reply_in_parts((header, *parts))

    def finish(self, call: UnaryCall, outcome: Outcome | RpcError) -> None:
        """Answer a call with what became of its proposal."""
        if isinstance(outcome, Outcome):
            error = outcome.error
            if error is None:
                if outcome.parts:
                    self.reply_in_parts(call, outcome.revision, outcome.parts)
                    return
                call.reply(self._prefix.encode(outcome.revision, self._member.term) + outcome.body)
                return
        else:
            error = outcome
        call.fail(error.code, error.message)

    def refuse_without_leader(self, call: UnaryCall) -> bool:
        """Fail a call that insists on a leader (metadata ``hasleader``) while there is none."""
        if self._member.leader_id or call.metadata.get("hasleader") != "true":
            return False
        call.fail(rpc_errors.NO_LEADER.code, rpc_errors.NO_LEADER.message)
        return True
