"""The Lock service (``v3lockpb.Lock``): one owner at a time, for as long as its lease lives."""

from __future__ import annotations

from collections.abc import Mapping

from tercet.core import rpc_errors
from tercet.core.wire.proto import lock_pb2 as lockpb
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..call import StreamCall, StreamHandler
from .contest import Contest
from .inner import perform, serve_one

__all__ = ["LockService"]


class LockService:
    """``v3lockpb.Lock`` of one member. A call that waits withdraws when its client goes."""

    def __init__(self, contest: Contest) -> None:
        self._contest = contest

    def stream(self) -> dict[str, StreamHandler]:
        """The handlers by path."""
        return {"/v3lockpb.Lock/Lock": self.lock, "/v3lockpb.Lock/Unlock": self.unlock}

    async def lock(self, call: StreamCall) -> None:
        """Answer once the caller owns the lock; its key tells who does."""
        await serve_one(call, lockpb.LockRequest, self._lock)

    async def unlock(self, call: StreamCall) -> None:
        """Delete the owner's key; a key that is gone is no error."""
        await serve_one(call, lockpb.UnlockRequest, self._unlock)

    async def _lock(self, request: lockpb.LockRequest, metadata: Mapping[str, str]) -> lockpb.LockResponse:
        contest = self._contest
        lease = await contest.session(request.lease, metadata)
        entrant = await contest.enter(request.name, lease, b"", metadata)
        try:
            header = await contest.wait_for_turn(entrant, metadata)
        except LookupError:
            raise rpc_errors.MUTEX_SESSION_EXPIRED.with_traceback(None) from None
        return lockpb.LockResponse(header=header or entrant.header, key=entrant.key)

    async def _unlock(
        self, request: lockpb.UnlockRequest, metadata: Mapping[str, str]
    ) -> lockpb.UnlockResponse:
        deletion = rpc.DeleteRangeRequest(key=request.key)
        handler = self._contest.calls.delete_range
        response = await perform(handler, deletion, rpc.DeleteRangeResponse, metadata)
        return lockpb.UnlockResponse(header=response.header)
