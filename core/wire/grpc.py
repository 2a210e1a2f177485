"""gRPC over HTTP/2, the parts that know no frames: statuses, timeouts, message prefixes, error texts.

A message is a flag byte (compressed or not), a length in four bytes, and the bytes. A status travels as the
trailers ``grpc-status`` and, percent-encoded, ``grpc-message``. Texts follow grpc-go, since etcd's clients
compare them.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import struct

from ..rpc_errors import RpcRejected, Status

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MessageReader",
    "check_prefix",
    "frame_message",
    "message_prefix",
    "parse_timeout",
    "percent_encode",
]

#: What one request message may have, as etcd sets it for gRPC (its own request check is lower: 1.5 MiB).
MAX_MESSAGE_BYTES = 2 * 1024 * 1024

_PREFIX = struct.Struct(">BI")


def frame_message(message: bytes) -> bytes:
    """The message behind its five-byte prefix, uncompressed."""
    return _PREFIX.pack(0, len(message)) + message


def message_prefix(size: int) -> bytes:
    """What stands before an uncompressed message of so many bytes."""
    return _PREFIX.pack(0, size)


def check_prefix(flag: int, length: int, limit: int, encoding: str) -> None:
    """Refuse a message by its prefix.

    Raises:
        RpcRejected: compressed, of an unknown form, or longer than ``limit`` bytes.
    """
    if flag == 1:
        if encoding in ("", "identity"):
            text = "grpc: compressed flag set with identity or empty encoding"
            raise RpcRejected(Status.INTERNAL, text)
        text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
        raise RpcRejected(Status.UNIMPLEMENTED, text)
    if flag:
        raise RpcRejected(Status.INTERNAL, f"grpc: received unexpected payload format {flag}")
    if length > limit:
        text = f"grpc: received message larger than max ({length} vs. {limit})"
        raise RpcRejected(Status.RESOURCE_EXHAUSTED, text)


class MessageReader:
    """Cuts one stream's DATA into messages; keeps at most one unfinished message (limit + 5 bytes)."""

    __slots__ = ("_buffer", "_checked", "_encoding", "_limit")

    def __init__(self, limit: int, encoding: str) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._encoding = encoding
        self._checked = 0  # bytes that the unfinished message needs in all; 0: prefix not seen

    @property
    def pending(self) -> int:
        """Bytes held of an unfinished message."""
        return len(self._buffer)

    def clear(self) -> None:
        """Forget the unfinished message."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes of the stream, give the messages they complete.

        Raises:
            RpcRejected: a message is refused; the stream cannot be read any further.
        """
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        position = 0
        while True:
            if not self._checked:
                if len(buffer) - position < 5:
                    break
                flag, length = _PREFIX.unpack_from(buffer, position)
                check_prefix(flag, length, self._limit, self._encoding)
                self._checked = length + 5
            if len(buffer) - position < self._checked:
                break
            messages.append(bytes(buffer[position + 5 : position + self._checked]))
            position += self._checked
            self._checked = 0
        if position:
            del buffer[:position]
        return messages


_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def parse_timeout(text: str) -> float:
    """A ``grpc-timeout`` value (one to eight digits and a unit out of ``HMSmun``) in seconds.

    Raises:
        ValueError: malformed.
    """
    digits = text[:-1]
    unit = _UNITS.get(text[-1:])
    if unit is None or not 1 <= len(digits) <= 8 or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"malformed grpc-timeout: {text!r}")
    return int(digits) * unit


def percent_encode(text: str) -> bytes:
    """A status text as ``grpc-message`` carries it: printable ASCII but ``%``, the rest as %XX of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw
    )
