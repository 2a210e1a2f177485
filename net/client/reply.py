"""What a server answers to one gRPC call: messages out of bytes, a status out of header fields. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from urllib.parse import unquote

from tercet.core.errors import TercetError
from tercet.core.wire.hpack_decode import Field

from .errors import ConnectionLost, rpc_error

__all__ = ["Reply", "framed"]


def framed(message: bytes) -> bytes:
    """A message as it goes over the wire: not compressed, and how long it is."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class Reply:
    """The receiving half of a call; ``code`` is negative until the server has told one."""

    __slots__ = ("buffer", "code", "messages", "text")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.messages: deque[bytes] = deque()
        self.code = -1
        self.text = ""

    def feed(self, data: bytes) -> None:
        """Take bytes of the answer."""
        buffer = self.buffer
        buffer += data
        while len(buffer) >= 5:
            end = 5 + int.from_bytes(buffer[1:5], "big")
            if len(buffer) < end:
                break
            self.messages.append(bytes(buffer[5:end]))
            del buffer[:end]

    def read_fields(self, fields: Iterable[Field]) -> None:
        """Take what header fields or trailers say about the status."""
        for name, value in fields:
            if name == b"grpc-status":
                self.code = int(value) if value.isdigit() else 2
            elif name == b"grpc-message":
                self.text = unquote(value.decode("ascii", "replace"))
            elif name == b":status" and value != b"200":
                self.code, self.text = 2, f"unexpected HTTP status {value.decode('ascii', 'replace')}"

    def outcome(self) -> TercetError | None:
        """How the call ended, once the server has ended it; None: well."""
        if self.code == 0:
            return None
        if self.code < 0:
            return ConnectionLost("the answer ended without a status")
        return rpc_error(self.code, self.text)
