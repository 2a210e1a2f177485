"""A watch whose answers are kept as the server sent them, and that goes on over lost connections.

The client library's ``Watch`` tells events; here headers, progress and the way a watch ends are printed, too.
"""

from __future__ import annotations

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from ..client.connection import Call

__all__ = ["AnswerWatch"]

PATH = "/etcdserverpb.Watch/Watch"
RETRY_SECONDS = 0.1
_PROGRESS = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()).SerializeToString()


class AnswerWatch:
    """One watch on a stream of its own. ``receive`` must be called by one task at a time.

    Args:
        client: Entered and logged in.
        create: What is watched; its ``start_revision`` moves on with what was received.
    """

    def __init__(self, client: Client, create: rpc.WatchCreateRequest) -> None:
        self._client = client
        self._create = create
        self._call: Call | None = None
        self._progress_wanted = 0  # asked for before there was a stream

    async def receive(self) -> rpc.WatchResponse:
        """The next answer that has something to tell; waits as long as it takes.

        Raises:
            RpcError: The server refuses to be watched, for a reason that will not pass.
        """
        while True:
            try:
                if self._call is None:
                    connection = await self._client.connection()
                    self._call = connection.start(PATH, self._client.metadata)
                    request = rpc.WatchRequest(create_request=self._create)
                    self._call.send(request.SerializeToString())
                    for _ in range(self._progress_wanted):
                        self._call.send(_PROGRESS)
                    self._progress_wanted = 0
                message = await self._call.receive()
            except RpcError as error:
                if error.code not in (Status.UNAVAILABLE, Status.CANCELLED, Status.UNKNOWN):
                    raise
                message = None
            except TercetError:
                message = None
            if message is None:
                await self._again()
                continue
            answer = rpc.WatchResponse.FromString(message)
            self._move_on(answer)
            if not answer.created or answer.canceled:
                return answer

    def request_progress(self) -> None:
        """Ask how far the watch has come; the answer has no events."""
        if self._call is None or self._call.ended:
            self._progress_wanted += 1
        else:
            self._call.send(_PROGRESS)

    def close(self) -> None:
        """Give the stream up."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def _again(self) -> None:
        self.close()
        self._client.rotate()
        await self._client.world.clock.sleep(RETRY_SECONDS)

    def _move_on(self, answer: rpc.WatchResponse) -> None:
        start = self._create.start_revision
        if answer.events:
            self._create.start_revision = answer.events[-1].kv.mod_revision + 1
        elif not start:
            self._create.start_revision = answer.header.revision + 1
