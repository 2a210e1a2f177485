"""The Election service (``v3electionpb.Election``): a leader with a value, and whoever wants to know it."""

from __future__ import annotations

from collections.abc import Mapping

from tercet.core import rpc_errors
from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.proto import election_pb2 as electionpb
from tercet.core.wire.proto import kv_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

from ...auth import credentials
from ..call import StreamCall, StreamHandler
from .contest import Contest, Entrant, created_at, prefix_of
from .inner import perform, serve_one
from .member import Answers

__all__ = ["ElectionService"]

_SERVICE = "/v3electionpb.Election"


class ElectionService:
    """``v3electionpb.Election`` of one member. A campaign withdraws when its client goes."""

    def __init__(self, answers: Answers, contest: Contest) -> None:
        self._answers = answers
        self._contest = contest

    def stream(self) -> dict[str, StreamHandler]:
        """The handlers by path."""
        return {
            f"{_SERVICE}/Campaign": self.campaign,
            f"{_SERVICE}/Proclaim": self.proclaim,
            f"{_SERVICE}/Leader": self.leader,
            f"{_SERVICE}/Observe": self.observe,
            f"{_SERVICE}/Resign": self.resign,
        }

    async def campaign(self, call: StreamCall) -> None:
        """Answer once the caller leads."""
        await serve_one(call, electionpb.CampaignRequest, self._campaign)

    async def proclaim(self, call: StreamCall) -> None:
        """Change the leader's value; the key must still be the one that was elected."""
        await serve_one(call, electionpb.ProclaimRequest, self._proclaim)

    async def leader(self, call: StreamCall) -> None:
        """Who leads now."""
        await serve_one(call, electionpb.LeaderRequest, self._leader)

    async def resign(self, call: StreamCall) -> None:
        """Delete the leader's key; one that is gone, or another's by now, is no error."""
        await serve_one(call, electionpb.ResignRequest, self._resign)

    async def observe(self, call: StreamCall) -> None:
        """Every leader in turn, and each of its proclamations, until the client goes."""
        message = await call.receive()
        if message is None:
            raise rpc_errors.undecodable("v3electionpb.LeaderRequest")
        request = electionpb.LeaderRequest.FromString(message)
        try:
            while True:
                await self._observe_one(call, request)
        except RpcError:
            raise RpcError(Status.UNKNOWN, "election: observe closed early") from None

    async def _observe_one(self, call: StreamCall, request: electionpb.LeaderRequest) -> None:
        """Tell of one leader until its key goes; waits for one when there is none."""
        events, data_of = self._contest.changes.events, self._contest.changes.data_of
        current = await self._first(request.name, credentials(call))
        revision = current.header.revision
        if current.kvs:
            leader = current.kvs[0]
        else:
            leader = await self._next_leader(request.name, revision + 1)
            revision = leader.mod_revision
        await self._tell(call, revision, leader)
        after = revision + 1
        while True:
            found, after = await events(leader.key, leader.key + b"\0", after)
            for event in found:
                if not event.record.version:
                    return
                proclaimed = kv_pb2.KeyValue.FromString(data_of(event.record))
                await self._tell(call, proclaimed.mod_revision, proclaimed)

    async def _next_leader(self, name: bytes, revision: int) -> kv_pb2.KeyValue:
        """The first key put below the name from ``revision`` on."""
        start, end = prefix_of(name)
        data_of = self._contest.changes.data_of
        while True:
            found, revision = await self._contest.changes.events(start, end, revision)
            for event in found:
                if event.record.version:
                    return kv_pb2.KeyValue.FromString(data_of(event.record))

    async def _tell(self, call: StreamCall, revision: int, leader: kv_pb2.KeyValue) -> None:
        body = electionpb.LeaderResponse(kv=leader).SerializeToString()
        await call.send(self._answers.header(revision) + body)

    async def _first(self, name: bytes, metadata: Mapping[str, str]) -> rpc.RangeResponse:
        start, end = prefix_of(name)
        request = rpc.RangeRequest(
            key=start, range_end=end, limit=1,
            sort_target=rpc.RangeRequest.CREATE, sort_order=rpc.RangeRequest.ASCEND,
        )  # fmt: skip
        return await perform(self._contest.calls.range, request, rpc.RangeResponse, metadata)

    async def _leader(
        self, request: electionpb.LeaderRequest, metadata: Mapping[str, str]
    ) -> electionpb.LeaderResponse:
        found = await self._first(request.name, metadata)
        if not found.kvs:
            raise rpc_errors.ELECTION_NO_LEADER.with_traceback(None)
        return electionpb.LeaderResponse(header=found.header, kv=found.kvs[0])

    async def _campaign(
        self, request: electionpb.CampaignRequest, metadata: Mapping[str, str]
    ) -> electionpb.CampaignResponse:
        contest = self._contest
        lease = await contest.session(request.lease, metadata)
        entrant = await contest.enter(request.name, lease, request.value, metadata)
        if entrant.value is not None and entrant.value != request.value:
            await self._replace_value(entrant, lease, request.value, metadata)
        try:
            await contest.wait_for_turn(entrant, metadata)
        except LookupError:
            raise rpc_errors.ELECTION_NOT_LEADER.with_traceback(None) from None
        leader = electionpb.LeaderKey(
            name=request.name, key=entrant.key, rev=entrant.revision, lease=lease
        )
        return electionpb.CampaignResponse(header=entrant.header, leader=leader)

    async def _replace_value(
        self, entrant: Entrant, lease: int, value: bytes, metadata: Mapping[str, str]
    ) -> None:
        """A contender that came back with another value."""
        leader = electionpb.LeaderKey(key=entrant.key, rev=entrant.revision, lease=lease)
        request = electionpb.ProclaimRequest(leader=leader, value=value)
        await self._proclaim(request, metadata)

    async def _proclaim(
        self, request: electionpb.ProclaimRequest, metadata: Mapping[str, str]
    ) -> electionpb.ProclaimResponse:
        if not request.HasField("leader"):
            raise rpc_errors.MISSING_LEADER_KEY.with_traceback(None)
        leader = request.leader
        lease = await self._contest.session(leader.lease, metadata)
        put = rpc.PutRequest(key=leader.key, value=request.value, lease=lease)
        txn = rpc.TxnRequest(
            compare=[created_at(leader.key, leader.rev)], success=[rpc.RequestOp(request_put=put)]
        )
        response = await self._contest.txn(txn, metadata)
        if not response.succeeded:
            raise rpc_errors.ELECTION_NOT_LEADER.with_traceback(None)
        return electionpb.ProclaimResponse(header=response.header)

    async def _resign(
        self, request: electionpb.ResignRequest, metadata: Mapping[str, str]
    ) -> electionpb.ResignResponse:
        if not request.HasField("leader"):
            raise rpc_errors.MISSING_LEADER_KEY.with_traceback(None)
        leader = request.leader
        deletion = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=leader.key))
        txn = rpc.TxnRequest(compare=[created_at(leader.key, leader.rev)], success=[deletion])
        response = await self._contest.txn(txn, metadata)
        return electionpb.ResignResponse(header=response.header)
