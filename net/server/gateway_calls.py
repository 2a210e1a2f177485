"""The calls that the gateway makes of HTTP requests, besides plain ones (``inner_call``).

A streaming method runs in the connection's task, with the body's JSON values as its incoming messages and a
line for each answer. A unary method that may wait for long (a lock) has a streaming handler, too: its one
message is the answer, and it ends with its client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio
from google.protobuf.message import DecodeError, Message

from tercet.core.rpc_errors import RpcError, Status
from tercet.core.wire.services import Method

from .call import StreamHandler
from .gateway_errors import GatewayFailure, stream_error_body
from .gateway_json import to_json

__all__ = ["StreamingCall", "WaitingCall", "decode"]

_WATCH: Final = "/etcdserverpb.Watch/Watch"


class StreamingCall:
    """A ``StreamCall`` that reads the body's values and writes one JSON object a line.

    A watch goes on when its body has ended; any other stream learns of the half-close.
    """

    client_common_name = ""  # the gateway shows tokens only, as etcd's does

    def __init__(
        self,
        method: Method,
        messages: list[bytes],
        metadata: Mapping[str, str],
        remote: str,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self.metadata = metadata
        self.path = method.path
        self.remote = remote
        self.deadline: float | None = None
        self.status: tuple[int, str] | None = None
        self.sent = 0
        self._method = method
        self._messages = messages
        self._write = write
        self._ended = trio.CancelScope()

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        if self._messages:
            return self._messages.pop(0)
        if self._method.path == _WATCH:
            await trio.sleep_forever()
        return None

    async def send(self, message: bytes) -> None:
        text = to_json(decode(self._method.response, message))
        self.sent += 1
        await self._write(f'{{"result":{text}}}\n'.encode())

    def finish(self, code: int = 0, message: str = "") -> None:
        if self.status is None:
            self.status = (int(code), message)
            self._ended.cancel()

    async def run(self, handler: StreamHandler) -> None:
        """Run the handler until it returns or finishes; a failure after the first answer is a last line."""
        with self._ended:
            try:
                await handler(self)
            except RpcError as error:
                self.status = (int(error.code), error.message)
            except DecodeError:
                self.status = (int(Status.INTERNAL), "grpc: failed to unmarshal the received message")
        code, message = self.status or (0, "")
        if code == 0:
            return
        if not self.sent:
            raise GatewayFailure(code, message, streaming=True)
        await self._write(stream_error_body(code, message))


class WaitingCall:
    """A ``StreamCall`` for a unary method whose handler runs as a task: one message each way."""

    client_common_name = ""  # the gateway shows tokens only, as etcd's does

    def __init__(self, path: str, message: bytes, metadata: Mapping[str, str]) -> None:
        self.path = path
        self.metadata = metadata
        self.deadline: float | None = None
        self._message: bytes | None = message
        self._response: bytes | None = None
        self._status = (int(Status.INTERNAL), "no answer")

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        message, self._message = self._message, None
        return message

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._response = message

    def finish(self, code: int = 0, message: str = "") -> None:
        self._status = (int(code), message)

    async def run(self, handler: StreamHandler) -> bytes:
        """The serialised response; raises ``GatewayFailure``."""
        try:
            await handler(self)
        except RpcError as error:
            raise GatewayFailure(int(error.code), error.message) from None
        if self._response is None:
            raise GatewayFailure(*self._status)
        return self._response


def decode(message_class: type[Message], data: bytes) -> Message:
    """A message from its bytes; raises ``DecodeError``."""
    message = message_class()
    message.ParseFromString(data)
    return message
