"""What a client's call can end in besides an answer, sorted by what may have happened.

``RpcRejected`` and ``Unreachable`` are definite: nothing happened. ``RpcUnknown``, ``RequestTimedOut``
and ``ConnectionLost`` are not: a write may have been applied, or may still be. A history records the
first as fail and the second as info.
"""

from __future__ import annotations

from typing import Final

from tercet.core import rpc_errors
from tercet.core.errors import OutcomeUnknown, Rejected
from tercet.core.rpc_errors import RpcError, RpcRejected, RpcUnknown, Status

__all__ = [
    "Compacted", "ConnectionLost", "NotProcessed", "RequestTimedOut", "Unreachable", "WatchCancelled",
    "rpc_error",
]


class Unreachable(Rejected):
    """No endpoint could be connected to in time; the request was never sent."""


class NotProcessed(Rejected):
    """The server closed the connection or refused the stream before it looked at the request."""


class RequestTimedOut(OutcomeUnknown):
    """No answer came within the call's timeout."""


class ConnectionLost(OutcomeUnknown):
    """The connection ended after the request had been sent."""


class Compacted(Rejected):
    """A watch asked for revisions that are gone; ``compact_revision`` is the oldest one still there."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__(f"revisions before {compact_revision} have been compacted")
        self.compact_revision = compact_revision


class WatchCancelled(Rejected):
    """The server ended a watch for another reason than compaction."""


_KNOWN: Final = {
    (int(value.code), value.message): value
    for value in vars(rpc_errors).values()
    if isinstance(value, RpcError)
}
#: Codes that a server also sends when it has given up waiting for something that may still happen.
_INDEFINITE: Final = frozenset(
    {
        Status.CANCELLED,
        Status.UNKNOWN,
        Status.DEADLINE_EXCEEDED,
        Status.ABORTED,
        Status.INTERNAL,
        Status.UNAVAILABLE,
    }
)


def rpc_error(code: int, message: str) -> RpcError:
    """The error for a status other than OK; an unknown text of an ambiguous code is indefinite."""
    known = _KNOWN.get((code, message))
    if known is not None:
        return type(known)(known.code, message)
    try:
        status = Status(code)
    except ValueError:
        status = Status.UNKNOWN
    return (RpcUnknown if status in _INDEFINITE else RpcRejected)(status, message)
