"""The Cluster service: who the members are. Changing them is not offered yet."""

from __future__ import annotations

from functools import partial

from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...config import MemberConfig
from ..call import UnaryCall, UnaryHandler
from .member import Answers, Member
from .missing import not_offered

__all__ = ["ClusterService", "member_list"]


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
        handlers: dict[str, UnaryHandler] = {"/etcdserverpb.Cluster/MemberList": self.list}
        for method in ("MemberAdd", "MemberRemove", "MemberUpdate", "MemberPromote"):
            handlers[f"/etcdserverpb.Cluster/{method}"] = not_offered("etcdserverpb.Cluster", method)
        return handlers

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
