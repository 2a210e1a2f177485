"""A call whose answer the member itself waits for: made by a service of another, or by the gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from tercet.core.rpc_errors import RpcError, Status

__all__ = ["InnerCall"]


class InnerCall:
    """A ``UnaryCall``; ``finished`` is set when it is answered, with ``response`` or ``error``."""

    __slots__ = ("client_common_name", "deadline", "error", "finished", "message", "metadata", "parts")

    def __init__(self, message: bytes, metadata: Mapping[str, str]) -> None:
        self.message = message
        self.metadata = metadata
        self.client_common_name = getattr(metadata, "client_common_name", "")
        self.deadline: float | None = None
        self.parts: Sequence[bytes] = ()  # of the response
        self.error: RpcError | None = None
        self.finished = trio.Event()

    def reply(self, message: bytes) -> None:
        """Answer with a serialised response."""
        self.parts = (message,)
        self.finished.set()

    def reply_in_parts(self, parts: Sequence[bytes]) -> None:
        """Answer with the pieces of a long response."""
        self.parts = parts
        self.finished.set()

    @property
    def response(self) -> bytes:
        """The response in one piece."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    @property
    def answered(self) -> bool:
        """There is an answer."""
        return self.finished.is_set()

    def fail(self, code: int, message: str) -> None:
        """Answer with an error."""
        self.error = RpcError(Status(code), message)
        self.finished.set()
