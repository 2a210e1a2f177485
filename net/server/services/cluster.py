"""The Cluster service: who the members are. Changing them is not offered yet.

What etcd refuses by the list of members alone is refused with its words, and an update that changes nothing
succeeds; only a change that could happen is answered with UNIMPLEMENTED.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from tercet.core import rpc_errors
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...config import MemberConfig
from ...flag_values import check_url
from ..call import UnaryCall, UnaryHandler
from .member import Answers, Member
from .missing import not_offered

__all__ = ["ClusterService", "member_list"]

_SERVICE = "etcdserverpb.Cluster"
_ADD, _REMOVE, _UPDATE = (not_offered(_SERVICE, f"Member{change}") for change in ("Add", "Remove", "Update"))


def member_list(member: Member, config: MemberConfig) -> list[rpc.Member]:
    """The members by id. A member that has not published itself yet has neither name nor client URLs."""
    found: list[rpc.Member] = []
    for member_id, _, peer_urls in config.members():
        published = member.machine.attributes.get(member_id)
        found.append(rpc.Member(
            ID=member_id,
            name=published.name if published else "",
            peerURLs=peer_urls,
            clientURLs=published.client_urls if published else (),
        ))
    return found


class ClusterService:
    """``etcdserverpb.Cluster`` of one member."""

    def __init__(self, member: Member, answers: Answers, config: MemberConfig) -> None:
        self._member = member
        self._answers = answers
        self._config = config

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
            return
        members = member_list(self._member, self._config)
        call.reply(self._answers.header(0) + rpc.MemberListResponse(members=members).SerializeToString())

    def add(self, call: UnaryCall) -> None:
        """Refuses URLs that are none, or another member's."""
        request = rpc.MemberAddRequest.FromString(call.message)
        if not request.peerURLs or not all(map(_is_url, request.peerURLs)):
            raise rpc_errors.MEMBER_BAD_URLS.with_traceback(None)
        self._refuse_known_urls(request.peerURLs, except_of=0)
        _ADD(call)

    def remove(self, call: UnaryCall) -> None:
        """Refuses unknown members."""
        self._peer_urls(rpc.MemberRemoveRequest.FromString(call.message).ID)
        _REMOVE(call)

    def update(self, call: UnaryCall) -> None:
        """Refuses unknown members and other members' URLs; a member's own URLs are no change."""
        request = rpc.MemberUpdateRequest.FromString(call.message)
        present = self._peer_urls(request.ID)
        self._refuse_known_urls(request.peerURLs, except_of=request.ID)
        if set(request.peerURLs) != set(present):
            _UPDATE(call)
            return
        response = rpc.MemberUpdateResponse(members=member_list(self._member, self._config))
        call.reply(self._answers.header(0) + response.SerializeToString())

    def promote(self, call: UnaryCall) -> None:
        """There are no learners: every member is unknown, or votes already."""
        self._peer_urls(rpc.MemberPromoteRequest.FromString(call.message).ID)
        raise rpc_errors.MEMBER_NOT_LEARNER.with_traceback(None)

    def _peer_urls(self, member_id: int) -> tuple[str, ...]:
        for known, _, urls in self._config.members():
            if known == member_id:
                return urls
        raise rpc_errors.MEMBER_NOT_FOUND.with_traceback(None)

    def _refuse_known_urls(self, urls: Iterable[str], *, except_of: int) -> None:
        taken = [url for known, _, theirs in self._config.members() if known != except_of for url in theirs]
        if any(url in taken for url in urls):
            raise rpc_errors.PEER_URL_EXISTS.with_traceback(None)


def _is_url(text: str) -> bool:
    try:
        check_url(text.strip())
    except ValueError:
        return False
    return True
