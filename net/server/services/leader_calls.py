"""Asking the leader on behalf of a client, patiently: leaders change, and a new one may not know yet.

A unary handler is no task, so its question is queued here and a task of the service asks it; a question that
finds no leader, or a member that is none, is asked again until the request's time is up. Only questions
whose repetition does no harm are asked so (renewals, times to live).
"""

from __future__ import annotations

from collections.abc import Callable

from tercet.core import rpc_errors
from tercet.core.rpc_errors import RpcError, Status

from ...tasks import Tasks
from ...world import World
from .member import Member

__all__ = ["LeaderCalls"]

_RETRY_SECONDS = 0.05
_MAX_WAITING = 10_000


class LeaderCalls:
    """The questions of one member's services to the leader. ``timeout``: seconds, the longest wait."""

    def __init__(self, world: World, member: Member, *, timeout: float) -> None:
        self._clock = world.clock
        self._member = member
        self._timeout = timeout
        self._tasks = Tasks()
        self._waiting = 0

    async def run(self) -> None:
        """Serve ``ask``; until cancelled. What is under way then is not answered."""
        await self._tasks.run()

    def ask(
        self,
        method: str,
        payload: bytes,
        done: Callable[[bytes | RpcError], None],
        deadline: float | None,
        *,
        final: tuple[RpcError, ...] = (),
    ) -> None:
        """Ask from a plain function; ``done`` is called once, later or at once.

        Args:
            deadline: monotonic seconds; None: after this object's own timeout.
            final: answers that asking again would not change.
        """
        nursery = self._tasks.nursery
        if nursery is None:
            done(rpc_errors.STOPPED)
        elif self._waiting >= _MAX_WAITING:
            done(rpc_errors.TOO_MANY_REQUESTS)
        else:
            self._waiting += 1
            nursery.start_soon(self._answer, method, payload, done, deadline, final)

    async def wait(
        self,
        method: str,
        payload: bytes,
        deadline: float | None = None,
        final: tuple[RpcError, ...] = (),
    ) -> bytes:
        """Ask from a task. Raises ``RpcError``; TIMEOUT when no leader answered in time."""
        latest = self._clock.monotonic() + self._timeout
        deadline = latest if deadline is None else min(deadline, latest)
        while (left := deadline - self._clock.monotonic()) > 0:
            try:
                with self._clock.timeout(left):
                    return await self._member.call_leader(method, payload)
            except RpcError as error:
                if error in final or error.code not in (Status.UNAVAILABLE, Status.FAILED_PRECONDITION):
                    raise
            await self._clock.sleep(min(_RETRY_SECONDS, max(0.0, deadline - self._clock.monotonic())))
        raise rpc_errors.TIMEOUT.with_traceback(None)

    async def _answer(
        self,
        method: str,
        payload: bytes,
        done: Callable[[bytes | RpcError], None],
        deadline: float | None,
        final: tuple[RpcError, ...],
    ) -> None:
        answer: bytes | RpcError
        try:
            answer = await self.wait(method, payload, deadline, final)
        except RpcError as error:
            answer = error
        finally:
            self._waiting -= 1
        done(answer)
