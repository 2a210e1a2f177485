"""The Cluster service: who the members are, and changing them.

What a change is refused for by the list of members is decided when its entry is applied (``core.members``).
Before it is proposed, unless ``--strict-reconfig-check=false``, this member asks whether the cluster can
bear it: enough members must have started, and they must have been connected to us for a while, so that
adding a member that never starts, or removing one too many, does not cost the quorum.

Promoting a learner is the leader's business, since only the leader knows how far the learner has come.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from tercet.core import rpc_errors
from tercet.core.machine import Command, Outcome
from tercet.core.members import MemberCommand, MemberView, added_member, added_member_id, list_body
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...address import read_url
from ...config import MemberConfig
from ...flag_values import check_url
from ...world import World
from ..call import UnaryCall, UnaryHandler
from .leader_calls import LeaderCalls
from .member import Answers, Member

__all__ = ["ClusterService", "member_list"]

_SERVICE = "etcdserverpb.Cluster"
#: How long members must have been connected before the cluster counts as healthy, in seconds.
HEALTHY_SECONDS: Final = 5.0
#: How much of the leader's log a learner must hold to be promoted.
READY_SHARE: Final = 0.9

#: How long a leader that is to be removed waits for another one.
STEP_ASIDE_SECONDS: Final = 1.0
STEP_ASIDE_POLL_SECONDS: Final = 0.005
STEPPED_ASIDE: Final = rpc_errors.NOT_LEADER

#: What the leader refuses for good; anything else is tried again, perhaps at another leader.
_FINAL: Final = (
    rpc_errors.LEARNER_NOT_READY, rpc_errors.MEMBER_NOT_LEARNER, rpc_errors.MEMBER_NOT_FOUND,
    rpc_errors.NOT_ENOUGH_STARTED,
)  # fmt: skip


def member_list(member: Member) -> list[rpc.Member]:
    """The members by id, as this member knows them."""
    return [one.message() for one in member.machine.members.all()]


class ClusterService:
    """``etcdserverpb.Cluster`` of one member. To be made once per node: the leader's half is registered."""

    def __init__(
        self, world: World, member: Member, answers: Answers, leader: LeaderCalls, config: MemberConfig
    ) -> None:
        self._clock = world.clock
        self._probe = world.probe
        self._member = member
        self._answers = answers
        self._leader = leader
        self._strict = config.strict_reconfig_check
        self._max_learners = config.max_learners
        member.calls["member/promote"] = self._promote_as_leader
        member.calls["member/step-aside"] = self._step_aside

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {
            f"/{_SERVICE}/MemberList": self.list,
            f"/{_SERVICE}/MemberAdd": self.add,
            f"/{_SERVICE}/MemberRemove": self.remove,
            f"/{_SERVICE}/MemberUpdate": self.update,
            f"/{_SERVICE}/MemberPromote": self.promote,
        }

    def list(self, call: UnaryCall) -> None:
        """Answer from this member's own state, unless a linearizable answer is asked for."""
        if rpc.MemberListRequest.FromString(call.message).linearizable:
            self._member.read_index(partial(self._list, call), call.deadline)
        else:
            self._list(call, None)

    def _list(self, call: UnaryCall, error: RpcError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
        else:
            call.reply(self._answers.header(0) + list_body(self._member.machine.members))

    def add(self, call: UnaryCall) -> None:
        """Add a voter or a learner; it counts from the moment the change is applied, started or not."""
        request = rpc.MemberAddRequest.FromString(call.message)
        urls = sorted(url.strip() for url in request.peerURLs)
        if not urls or not all(map(_is_url, urls)):
            raise rpc_errors.MEMBER_BAD_URLS.with_traceback(None)
        if request.isLearner and self._max_learners <= 0:
            raise rpc_errors.TOO_MANY_LEARNERS.with_traceback(None)
        self._check_adding(request.isLearner)
        added = rpc.Member(
            ID=added_member_id(urls, int(self._clock.wall())), peerURLs=urls, isLearner=request.isLearner
        )
        self._change(MemberCommand.ADD, added_member(added, self._max_learners), call)

    def remove(self, call: UnaryCall) -> None:
        """Remove a member for ever; it stops by itself when it hears of it."""
        request = rpc.MemberRemoveRequest.FromString(call.message)
        if not request.ID:  # nobody's, and Raft takes no change that names it
            raise rpc_errors.MEMBER_NOT_FOUND.with_traceback(None)
        self._check_removing(request.ID)
        if self._member.leader_id == request.ID and self._others(request.ID):
            done = partial(self._remove_after_stepping_aside, call)
            self._leader.ask("member/step-aside", call.message, done, call.deadline, final=(STEPPED_ASIDE,))
        else:
            self._change(MemberCommand.REMOVE, call.message, call)

    def _remove_after_stepping_aside(self, call: UnaryCall, _: bytes | RpcError) -> None:
        """Whether or not another member leads by now: it would only take longer until one does."""
        self._change(MemberCommand.REMOVE, call.message, call)

    async def _step_aside(self, payload: bytes) -> bytes:
        """The leader is to be removed: another member leads first, so that nobody waits for an election."""
        member = self._member
        if member.member_id != rpc.MemberRemoveRequest.FromString(payload).ID or not member.is_leader:
            raise STEPPED_ASIDE.with_traceback(None)
        member.transfer_leadership(0)
        with self._clock.timeout(STEP_ASIDE_SECONDS):
            while member.leader_id in (0, member.member_id):
                await self._clock.sleep(STEP_ASIDE_POLL_SECONDS)
        return b""

    def update(self, call: UnaryCall) -> None:
        """Change where a member is dialled: at URLs that can be (etcd dies of others)."""
        request = rpc.MemberUpdateRequest.FromString(call.message)
        known = self._member.machine.members.get(request.ID) is not None
        if known and not (request.peerURLs and all(map(_is_url, request.peerURLs))):
            raise rpc_errors.MEMBER_BAD_URLS.with_traceback(None)
        self._member.propose(
            Command.MEMBER_UPDATE, call.message, partial(self._finish, call), call.deadline
        )

    def promote(self, call: UnaryCall) -> None:
        """Make a learner a voter, through the leader."""
        if not rpc.MemberPromoteRequest.FromString(call.message).ID:
            raise rpc_errors.MEMBER_NOT_FOUND.with_traceback(None)
        done = partial(self._finish_promotion, call)
        self._leader.ask("member/promote", call.message, done, call.deadline, final=_FINAL)

    def _change(self, command: MemberCommand, payload: bytes, call: UnaryCall) -> None:
        self._member.propose_change(command, payload, partial(self._finish, call), call.deadline)

    def _finish(self, call: UnaryCall, outcome: Outcome | RpcError) -> None:
        error = outcome.error if isinstance(outcome, Outcome) else outcome
        if error is not None:
            call.fail(error.code, error.message)
        elif isinstance(outcome, Outcome):
            call.reply(self._answers.header(0) + outcome.body)

    def _finish_promotion(self, call: UnaryCall, answer: bytes | RpcError) -> None:
        if isinstance(answer, RpcError):
            self._probe.count("etcd_server_learner_promote_failures", Reason=answer.message)
            call.fail(answer.code, answer.message)
        else:
            self._probe.count("etcd_server_learner_promote_successes")
            call.reply(self._answers.header(0) + answer)

    async def _promote_as_leader(self, payload: bytes) -> bytes:
        """The leader's half: the learner must be nearly up to date."""
        member_id = rpc.MemberPromoteRequest.FromString(payload).ID
        member = self._member
        if not member.is_leader:
            raise rpc_errors.NOT_LEADER.with_traceback(None)
        there, here = member.match_index(member_id), member.match_index(member.member_id)
        if there is not None and here is not None and there < here * READY_SHARE:
            raise rpc_errors.LEARNER_NOT_READY.with_traceback(None)
        others = self._others(member_id)  # the learner counts as one more that has started
        if self._strict and not _enough(1 + _started(others), 1 + len(others)):
            raise rpc_errors.NOT_ENOUGH_STARTED.with_traceback(None)
        finished = trio.Event()
        box: list[Outcome | RpcError] = []

        def done(outcome: Outcome | RpcError) -> None:
            box.append(outcome)
            finished.set()

        member.propose_change(MemberCommand.PROMOTE, payload, done)
        await finished.wait()
        outcome = box[0]
        error = outcome.error if isinstance(outcome, Outcome) else outcome
        if error is not None or not isinstance(outcome, Outcome):
            raise (error or rpc_errors.STOPPED).with_traceback(None)
        return outcome.body

    # What the cluster can bear.

    def _others(self, member_id: int) -> tuple[MemberView, ...]:
        """The voters but one."""
        return tuple(one for one in self._member.machine.members.voters() if one.id != member_id)

    def _check_adding(self, is_learner: bool) -> None:
        if not self._strict:
            return
        voters = self._member.machine.members.voters()
        started = _started(voters)
        alone = len(voters) == 1 and started == 1  # a second member may always come
        if not is_learner and not alone and not _enough(started, len(voters) + 1):
            raise rpc_errors.NOT_ENOUGH_STARTED.with_traceback(None)
        if self._connected(voters) < len(voters):
            raise rpc_errors.UNHEALTHY.with_traceback(None)

    def _check_removing(self, member_id: int) -> None:
        members = self._member.machine.members
        leaving = members.get(member_id)
        if not self._strict or (leaving is not None and leaving.is_learner):
            return
        others = self._others(member_id)
        if not _enough(_started(others), len(others)):
            raise rpc_errors.NOT_ENOUGH_STARTED.with_traceback(None)
        own_id = self._member.member_id
        if member_id != own_id and self._member.connected_since(member_id) is None:
            return  # it is down, and no part of the present quorum
        voters = members.voters()
        if self._connected(voters) - 1 < 1 + (len(voters) - 1) // 2:
            raise rpc_errors.UNHEALTHY.with_traceback(None)

    def _connected(self, voters: tuple[MemberView, ...]) -> int:
        """How many of them have been connected for long enough, ourselves included."""
        latest = self._clock.monotonic() - HEALTHY_SECONDS
        return sum(one.id == self._member.member_id or self._is_since(one.id, latest) for one in voters)

    def _is_since(self, member_id: int, latest: float) -> bool:
        since = self._member.connected_since(member_id)
        return since is not None and since <= latest


def _started(members: tuple[MemberView, ...]) -> int:
    return sum(member.is_started for member in members)


def _enough(started: int, voters: int) -> bool:
    """Whether a quorum of so many voters has started."""
    return started >= voters // 2 + 1


def _is_url(text: str) -> bool:
    """Whether the members could dial it."""
    try:
        read_url(check_url(text))
    except ValueError:
        return False
    return True
