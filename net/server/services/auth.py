"""The Auth service: the switch, users, roles, and tokens in exchange for passwords.

All of it goes through the log, questions too, as in etcd. What needs a password hashed or compared runs as a
task, because that takes long; the log sees hashes and digests alone. A password that was right may have been
changed before its token is given out; the entry carries the auth revision at which it was compared, and is
made again when that is no longer the present one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from tercet.core import rpc_errors
from tercet.core.auth.commands import AUTH_COMMANDS, AUTHENTICATE, encode_authenticate
from tercet.core.machine import Outcome
from tercet.core.rpc_errors import RpcError, RpcRejected, Status
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.core.wire.services import METHODS

from ...auth import Guard
from ...auth_passwords import Passwords
from ...auth_tokens import TokenProvider
from ...tasks import Tasks
from ...world import Probe
from ..call import UnaryCall, UnaryHandler
from .member import Answers, Member

__all__ = ["AuthService"]

_SERVICE = "/etcdserverpb.Auth/"
_MAX_WAITING = 1000  # calls whose passwords wait to be hashed or compared
_ATTEMPTS = 10  # users and roles change faster than passwords are compared
_NO_PASSWORD_USER = RpcRejected(
    Status.UNKNOWN, "auth: authentication failed, password was given for no password user"
)


class AuthService:
    """``etcdserverpb.Auth`` of one member."""

    def __init__(
        self,
        member: Member,
        answers: Answers,
        guard: Guard,
        passwords: Passwords,
        tokens: TokenProvider,
        probe: Probe,
    ) -> None:
        self._member = member
        self._answers = answers
        self._guard = guard
        self._passwords = passwords
        self._tokens = tokens
        self._probe = probe
        self._tasks = Tasks()
        self._waiting = 0

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        handlers: dict[str, UnaryHandler] = {
            _SERVICE + name: partial(self._forward, name, command) for name, command in AUTH_COMMANDS.items()
        }
        handlers[_SERVICE + "Authenticate"] = self.authenticate
        handlers[_SERVICE + "UserAdd"] = self.user_add
        handlers[_SERVICE + "UserChangePassword"] = self.user_change_password
        return handlers

    async def run(self) -> None:
        """Hash and compare; until cancelled."""
        await self._tasks.run()

    def _forward(self, name: str, command: int, call: UnaryCall) -> None:
        METHODS[_SERVICE + name].request.FromString(call.message)  # what cannot be read is not proposed
        if not self._answers.refuse_without_leader(call):
            self._guard.propose(call, command, call.message, partial(self._answers.finish, call))

    def user_add(self, call: UnaryCall) -> None:
        """The password is hashed here; the log does not see it."""
        request = rpc.AuthUserAddRequest.FromString(call.message)
        if request.options.no_password:
            request.ClearField("password")
            request.ClearField("hashedPassword")
            self._propose_user(call, "UserAdd", request)
        else:
            self._start(call, partial(self._hash_and_propose, call, "UserAdd", request))

    def user_change_password(self, call: UnaryCall) -> None:
        """As ``user_add``."""
        request = rpc.AuthUserChangePasswordRequest.FromString(call.message)
        self._start(call, partial(self._hash_and_propose, call, "UserChangePassword", request))

    async def _hash_and_propose(self, call: UnaryCall, name: str, request: Any) -> None:
        request.hashedPassword = await self._passwords.hash(request.password)
        request.ClearField("password")
        self._propose_user(call, name, request)

    def _propose_user(self, call: UnaryCall, name: str, request: Any) -> None:
        if not self._answers.refuse_without_leader(call):
            done = partial(self._answers.finish, call)
            self._guard.propose(call, AUTH_COMMANDS[name], request.SerializeToString(), done)

    def authenticate(self, call: UnaryCall) -> None:
        """A token for a name and its password, by the newest state."""
        request = rpc.AuthenticateRequest.FromString(call.message)
        if not self._answers.refuse_without_leader(call):
            self._member.read_index(partial(self._up_to_date, call, request), call.deadline)

    def _up_to_date(self, call: UnaryCall, request: rpc.AuthenticateRequest, error: RpcError | None) -> None:
        if error is not None:
            call.fail(error.code, error.message)
        else:
            self._start(call, partial(self._authenticate, call, request))

    async def _authenticate(self, call: UnaryCall, request: rpc.AuthenticateRequest) -> None:
        for _ in range(_ATTEMPTS):
            revision = await self._compare(request)
            await self._guard.identity(call)  # as in etcd, no token is had with one that is no good
            self._tokens.require_signing()
            letters, digest = self._tokens.draw()
            outcome = await self._replicate(call, encode_authenticate(request.name, revision, digest))
            if outcome.error is not None:
                if outcome.error == rpc_errors.AUTH_OLD_REVISION:
                    continue
                raise outcome.error.with_traceback(None)
            index = rpc.AuthenticateResponse.FromString(outcome.body).token
            token = self._tokens.issue(letters, index, request.name, revision)
            body = rpc.AuthenticateResponse(token=token).SerializeToString()
            self._answers.reply(call, outcome.revision, body)
            return
        raise rpc_errors.AUTH_OLD_REVISION.with_traceback(None)

    async def _compare(self, request: rpc.AuthenticateRequest) -> int:
        """The auth revision at which the password was right; raises ``RpcError``."""
        auth = self._member.machine.auth
        if not auth.enabled:
            raise rpc_errors.AUTH_NOT_ENABLED.with_traceback(None)
        revision = auth.revision
        user = auth.users.get(request.name)
        if user is not None and user.no_password:
            raise _NO_PASSWORD_USER.with_traceback(None)
        if user is None or not await self._passwords.matches(request.password, user.password):
            self._probe.log("warn", "invalid authentication request", user=request.name)
            raise rpc_errors.AUTH_FAILED.with_traceback(None)
        return revision

    async def _replicate(self, call: UnaryCall, payload: bytes) -> Outcome:
        finished = trio.Event()
        found: list[Outcome | RpcError] = []

        def done(outcome: Outcome | RpcError) -> None:
            found.append(outcome)
            finished.set()

        self._member.propose(AUTHENTICATE, payload, done, call.deadline)
        await finished.wait()
        outcome = found[0]
        if isinstance(outcome, RpcError):
            raise outcome.with_traceback(None)
        return outcome

    def _start(self, call: UnaryCall, work: Callable[[], Awaitable[None]]) -> None:
        nursery = self._tasks.nursery
        if nursery is None:
            raise rpc_errors.STOPPED.with_traceback(None)
        if self._waiting >= _MAX_WAITING:
            raise rpc_errors.TOO_MANY_REQUESTS.with_traceback(None)
        self._waiting += 1
        nursery.start_soon(self._work, call, work)

    async def _work(self, call: UnaryCall, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except RpcError as error:
            call.fail(error.code, error.message)
        finally:
            self._waiting -= 1
