"""What one HTTP/2 connection may cost a server."""

from __future__ import annotations

import msgspec

from .grpc import MAX_MESSAGE_BYTES

__all__ = ["Http2Limits"]


class Http2Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one connection may cost. Sizes in bytes, rates in events per second."""

    max_streams: int = 4096  # open at once; more are refused, one by one
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_frame_bytes: int = 16384  # announced; 16384 .. 2**24 - 1
    stream_window: int = 1 << 20  # receive window of a stream
    connection_window: int = 16 << 20
    max_header_list_bytes: int = 64 << 10
    max_header_block_bytes: int = 64 << 10  # compressed, over all CONTINUATION frames
    max_continuations: int = 32
    max_buffered_bytes: int = 64 << 20  # received, not yet given to a handler
    max_queued_bytes: int = 64 << 20  # answers waiting for the client's windows before one more is refused
    nuisance_burst: int = 2000  # frames without use: empty DATA, PING, SETTINGS, PRIORITY, stray ones
    nuisance_rate: float = 500.0
    reset_burst: int = 500  # cancelled or refused streams (rapid reset)
    reset_rate: float = 200.0
    ping_min_seconds: float = 5.0  # etcd's --grpc-keepalive-min-time
    ping_idle_seconds: float = 7200.0  # the same without an open stream, as grpc-go has it
    ping_strikes: int = 2  # pings too early that are forgiven
