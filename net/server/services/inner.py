"""Calls that the member makes to its own services, for services that are built from others.

A lock is a put, a range and a wait. Made through the same handlers as a client's, such calls are checked,
replicated and worded alike, and carry the client's metadata.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from google.protobuf.message import Message

from tercet.core import rpc_errors
from tercet.core.rpc_errors import RpcError, Status

from ...auth import credentials
from ..call import StreamCall, UnaryHandler
from ..inner_call import InnerCall

__all__ = ["begin", "perform", "serve_one"]

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound=Message)


def begin(handler: UnaryHandler, request: Message, metadata: Mapping[str, str]) -> InnerCall:
    """Make a call and do not wait for it; raises ``RpcError`` when the handler does."""
    call = InnerCall(request.SerializeToString(), metadata)
    handler(call)
    return call


async def perform(
    handler: UnaryHandler, request: Message, response: type[M], metadata: Mapping[str, str]
) -> M:
    """Make a call and wait for its answer; raises ``RpcError``."""
    call = begin(handler, request, metadata)
    await call.finished.wait()
    if call.error is not None:
        raise call.error
    return response.FromString(call.response)


async def serve_one(
    call: StreamCall, request: type[R], answer: Callable[[R, Mapping[str, str]], Awaitable[Message]]
) -> None:
    """Serve a unary method that waits: as a stream of one message each way, so it ends with its client.

    Every failure gets status UNKNOWN, as etcd answers in services that it builds from its own client.
    """
    message = await call.receive()
    if message is None:
        raise rpc_errors.undecodable(request.DESCRIPTOR.full_name)
    try:
        response = await answer(request.FromString(message), credentials(call))
    except RpcError as error:
        raise RpcError(Status.UNKNOWN, error.message) from None
    await call.send(response.SerializeToString())
