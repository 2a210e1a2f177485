"""What to do after a call failed: try again, elsewhere, with another token, or give up. No I/O.

Whatever drives a call asks here after each failure, so that the client on Trio and the blocking one of the
command line decide alike. A call that never reached a server is tried elsewhere; so is a read whose outcome
is unknown, because reading twice is harmless; a write never is (bug zoo B35).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tercet.core.errors import OutcomeUnknown, TercetError
from tercet.core.rpc_errors import RpcError
from tercet.core.rpc_errors import Status as Code

from .errors import NotProcessed, RequestTimedOut

__all__ = ["RETRY_SECONDS", "Attempts", "Verdict"]

#: The pause before another attempt that needs no new token.
RETRY_SECONDS: Final = 0.05
INVALID_TOKEN: Final = "etcdserver: invalid auth token"
OLD_REVISION: Final = "etcdserver: revision of auth store is old"
OVERTAKEN_MAX: Final = 100


class Verdict(NamedTuple):
    """What follows from a failure. ``leave``: this connection is no good; then raise it, or try again."""

    leave: bool = False
    give_up: bool = False
    log_in: bool = False  # again, and then at once


class Attempts:
    """One call's request, and how its last attempt failed; None: it was never sent.

    Args:
        path: Service and method.
        message: The request's bytes.
        repeatable: Doing it twice is harmless.
    """

    __slots__ = ("_before", "_overtaken", "_renewed", "_repeatable", "last", "message", "path")

    def __init__(self, path: str, message: bytes, repeatable: bool) -> None:
        self.path = path
        self.message = message
        self.last: TercetError | None = None
        self._repeatable = repeatable
        self._before: TercetError | None = None
        self._renewed = False  # the token was, once
        self._overtaken = 0  # times that a change of users or roles came between asking and doing

    def begin(self) -> None:
        """It is about to be sent: from now on its outcome is unknown."""
        self._before, self.last = self.last, RequestTimedOut(f"no answer to {self.path} in time")

    def judge(self, error: TercetError, has_token: bool) -> Verdict:
        """What follows from ``error``; ``has_token`` when one went with the call."""
        if isinstance(error, NotProcessed):
            self.last = self._before or error
            return Verdict(leave=True)
        if isinstance(error, RpcError):
            if error.message == INVALID_TOKEN and has_token and not self._renewed:
                self._renewed = True
                return Verdict(log_in=True)
            if error.message == OLD_REVISION and self._overtaken < OVERTAKEN_MAX:
                self._overtaken += 1
                return Verdict(log_in=True)
        self.last = error
        lost = not isinstance(error, RpcError) or error.code == Code.UNAVAILABLE
        return Verdict(
            leave=lost, give_up=not (lost and self._repeatable and isinstance(error, OutcomeUnknown))
        )
