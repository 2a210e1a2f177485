"""The guard of one member: who makes a call, and whether they may.

While authentication is off the guard does nothing but refuse tokens that are no good, as etcd 3.4 does, and
hot paths ask ``concerns`` before they call it. While it is on, a call's token (or its client's certificate)
is turned into an identity first; a read is checked in the same breath as it is made; a write is wrapped with
the identity and checked again when its entry is applied, by every member alike (``core.auth``).

A member that has not yet applied the entry that gave a token out takes a read point first: after it, a token
that is still unknown is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, TypeAlias

import trio

from tercet.core import rpc_errors
from tercet.core.auth.commands import AS_USER, wrap
from tercet.core.auth.permits import check_admin, check_keys
from tercet.core.auth.store import AuthStore
from tercet.core.auth.values import NOBODY, READ, Identity
from tercet.core.machine import Machine
from tercet.core.rpc_errors import RpcError, RpcRejected, Status

from .auth_tokens import SWEEP_SECONDS, TokenProvider
from .world import Clock

__all__ = ["Call", "Credentials", "Guard", "GuardedMember", "credentials", "in_auths_words"]

Done: TypeAlias = Callable[[Any], None]
Check: TypeAlias = Callable[[AuthStore, Identity], "RpcError | None"]


class Call(Protocol):
    """The part of a unary call that the guard uses."""

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def deadline(self) -> float | None: ...

    def fail(self, code: int, message: str) -> None: ...


class GuardedMember(Protocol):
    """The part of ``net.node.Node`` that the guard uses."""

    machine: Machine

    @property
    def applied_index(self) -> int: ...

    def propose(
        self, kind: int, payload: bytes, done: Done, deadline: float | None = None
    ) -> None: ...

    def read_index(
        self, done: Callable[[RpcError | None], None], deadline: float | None = None
    ) -> None: ...


class Credentials(dict[str, str]):
    """Metadata together with the common name of the client's certificate, for calls made on its behalf."""

    client_common_name: str = ""


def credentials(call: Any) -> Credentials:
    """What a call shows of its client."""
    found = Credentials(call.metadata)
    found.client_common_name = getattr(call, "client_common_name", "")
    return found


def in_auths_words(error: RpcError) -> RpcError:
    """The error as etcd's Maintenance service words it: unmapped, without a status of its own."""
    return RpcRejected(Status.UNKNOWN, error.message.replace("etcdserver: ", "auth: ", 1))


class Guard:
    """Args: ``client_cert_auth``: a client's certificate names its user when there is no token."""

    def __init__(
        self, member: GuardedMember, tokens: TokenProvider, clock: Clock, *, client_cert_auth: bool
    ) -> None:
        self._member = member
        self._tokens = tokens
        self._clock = clock
        self._client_cert_auth = client_cert_auth

    @property
    def on(self) -> bool:
        """Requests are checked."""
        return self._member.machine.auth.enabled

    def concerns(self, call: Any) -> bool:
        """There is something to look at: authentication is on, or the call names a token."""
        metadata = call.metadata
        return self._member.machine.auth.enabled or "token" in metadata or "authorization" in metadata

    @property
    def stamp(self) -> int:
        """Changes whenever a permission might have; 0 while authentication is off."""
        auth = self._member.machine.auth
        return auth.revision if auth.enabled else 0

    async def run(self) -> None:
        """Forget tokens in time; until cancelled."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self._tokens.sweep()

    # ---- who

    def identify(self, call: Call, then: Callable[[Identity], None]) -> None:
        """Call ``then`` with who makes a call (``NOBODY``: not said), or fail the call.

        At once, unless the token is newer than what this member has applied.
        """
        self._find(call, call.deadline, then, partial(_fail, call))

    async def identity(self, call: Any) -> Identity:
        """As ``identify``, for tasks; raises ``RpcError``."""
        found: list[Identity] = []
        failed: list[RpcError] = []
        finished = trio.Event()

        def identified(who: Identity) -> None:
            found.append(who)
            finished.set()

        def refused(error: RpcError) -> None:
            failed.append(error)
            finished.set()

        self._find(call, None, identified, refused)
        await finished.wait()
        if failed:
            raise failed[0].with_traceback(None)
        return found[0]

    def _find(
        self,
        call: Any,
        deadline: float | None,
        then: Callable[[Identity], None],
        refuse: Callable[[RpcError], None],
    ) -> None:
        auth = self._member.machine.auth
        token = _token_of(call.metadata)
        if token is None:
            certified = auth.enabled and self._client_cert_auth
            name = getattr(call, "client_common_name", "") if certified else ""
            then(Identity(name, auth.revision) if name else NOBODY)
        elif self._tokens.index_of(token) > self._member.applied_index:
            self._member.read_index(partial(self._arrived, token, then, refuse), deadline)
        else:
            self._resolve(token, then, refuse)

    def _arrived(
        self,
        token: str,
        then: Callable[[Identity], None],
        refuse: Callable[[RpcError], None],
        error: RpcError | None,
    ) -> None:
        if error is not None:
            refuse(error)
        else:
            self._resolve(token, then, refuse)

    def _resolve(
        self, token: str, then: Callable[[Identity], None], refuse: Callable[[RpcError], None]
    ) -> None:
        who = self._tokens.look_up(token)
        if who is None:
            refuse(rpc_errors.INVALID_AUTH_TOKEN)
        else:
            then(who if self._member.machine.auth.enabled else NOBODY)

    # ---- whether they may

    def propose(self, call: Call, kind: int, payload: bytes, done: Done) -> None:
        """Propose a command for whoever makes the call."""
        if self.concerns(call):
            self.identify(call, partial(self._propose_for, call, kind, payload, done))
        else:
            self._member.propose(kind, payload, done, call.deadline)

    def _propose_for(self, call: Call, kind: int, payload: bytes, done: Done, who: Identity) -> None:
        if who.revision:
            kind, payload = AS_USER, wrap(who, kind, payload)
        self._member.propose(kind, payload, done, call.deadline)

    def check(
        self, call: Call, check: Check, then: Callable[[], None], *, plain: bool = False
    ) -> None:
        """Call ``then`` if ``check`` finds nothing against whoever makes the call, else fail the call.

        ``check`` and ``then`` run in one breath: nothing is applied in between. ``plain``: errors are worded
        as in the Maintenance service.
        """
        refuse = partial(_fail_plainly if plain else _fail, call)
        self._find(call, call.deadline, partial(self._checked, check, then, refuse), refuse)

    def _checked(
        self, check: Check, then: Callable[[], None], refuse: Callable[[RpcError], None], who: Identity
    ) -> None:
        error = check(self._member.machine.auth, who)
        if error is not None:
            refuse(error)
        else:
            then()

    def require_admin(self, call: Call, then: Callable[[], None], *, plain: bool = False) -> None:
        """``check`` that the caller has the role root."""
        self.check(call, check_admin, then, plain=plain)

    def require_valid(self, call: Call, then: Callable[[], None], *, plain: bool = False) -> None:
        """``check`` no more than that a token, if there is one, is valid."""
        self.check(call, _nothing_against, then, plain=plain)

    async def require_admin_stream(self, call: Any, *, plain: bool = False) -> None:
        """As ``require_admin``, for tasks; raises ``RpcError``."""
        if not self.concerns(call):
            return
        try:
            error = check_admin(self._member.machine.auth, await self.identity(call))
        except RpcError as problem:
            error = problem
        if error is not None:
            raise (in_auths_words(error) if plain else error).with_traceback(None)

    def may_read(self, who: Identity, key: bytes, range_end: bytes) -> RpcError | None:
        """Refuse reading a range to somebody known by name, whatever the auth revision is by now."""
        auth = self._member.machine.auth
        return check_keys(auth, Identity(who.name, auth.revision if who.name else 0), key, range_end, READ)


def _token_of(metadata: Mapping[str, str]) -> str | None:
    token = metadata.get("token")
    return metadata.get("authorization") if token is None else token


def _nothing_against(auth: AuthStore, who: Identity) -> RpcError | None:
    return None


def _fail(call: Call, error: RpcError) -> None:
    call.fail(error.code, error.message)


def _fail_plainly(call: Call, error: RpcError) -> None:
    _fail(call, in_auths_words(error))
