"""Methods of known services that this server does not offer yet: an honest answer instead of silence."""

from __future__ import annotations

from tercet.core.rpc_errors import unimplemented

from ..call import StreamCall, StreamHandler, UnaryCall, UnaryHandler

__all__ = ["not_offered", "stream_not_offered"]


def not_offered(service: str, method: str) -> UnaryHandler:
    """A unary handler that answers UNIMPLEMENTED."""
    error = unimplemented(service, method)

    def handler(call: UnaryCall) -> None:
        call.fail(error.code, error.message)

    return handler


def stream_not_offered(service: str, method: str) -> StreamHandler:
    """A streaming handler that answers UNIMPLEMENTED."""
    error = unimplemented(service, method)

    async def handler(call: StreamCall) -> None:
        raise error.with_traceback(None)

    return handler
