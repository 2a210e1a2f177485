"""The client: calls to a cluster over one connection at a time, which moves on when an endpoint fails.

A call that has not been sent yet tries the next endpoint until its timeout. A read that failed without an
answer is tried again elsewhere, because reading twice is harmless; a write never is (bug zoo B35): it
ends in ``OutcomeUnknown``, and its caller decides. Everything goes through the ``World`` ports, so the
same client drives a real cluster and a simulated one.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from tercet.core import rpc_errors
from tercet.core.errors import OutcomeUnknown
from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..dial import Dialer, read_url
from ..tls_settings import ClientTls
from ..world import Connection, World
from .attempts import RETRY_SECONDS, Attempts
from .connection import DEFAULT_PATIENCE, GrpcConnection, Patience
from .errors import NotProcessed, Unreachable
from .lease import KeepAlive, LeaseCalls
from .values import (
    Compare,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Member,
    Operation,
    Put,
    PutResult,
    Status,
    Txn,
    TxnResult,
    header_of,
    read_delete,
    read_get,
    read_put,
    read_txn,
)
from .watch import Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Client", "open_client"]

Answer = TypeVar("Answer")


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...


def open_client(
    world: World,
    endpoints: Sequence[str],
    *,
    request_timeout: float = 5.0,
    tls: ClientTls | None = None,
    login: tuple[str, str] | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> Client:
    """A client for ``async with``.

    Args:
        world: The machine the client runs on.
        endpoints: Client URLs such as ``http://127.0.0.1:2379``; the first is tried first.
        request_timeout: Seconds a call may take unless it says otherwise; >= 0, with 0 all are too late.
        tls: For ``https`` endpoints, and for those without a scheme; None: those are plain, and ``https``
            ones are verified by the system's authorities.
        login: User name and password, for a cluster with authentication; see ``Client.log_in``.
        patience: How long a silent endpoint is borne with, whatever a call's own timeout is.
    """
    return Client(world, endpoints, request_timeout=request_timeout, tls=tls, login=login, patience=patience)


class Client(LeaseCalls):
    """Talks to a cluster; entered as an async context manager. Any number of tasks may call it at once."""

    def __init__(
        self,
        world: World,
        endpoints: Sequence[str],
        *,
        request_timeout: float = 5.0,
        tls: ClientTls | None = None,
        login: tuple[str, str] | None = None,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        if not endpoints or request_timeout < 0:
            raise ValueError(f"need endpoints and a timeout >= 0, got {endpoints!r} and {request_timeout}")
        self.world = world
        self.request_timeout = request_timeout
        self._endpoints = [(url, read_url(url).authority) for url in endpoints]
        self._dialer = Dialer(world, tls, protocols=("h2",))
        self._login = login
        self._patience = patience
        #: What goes with every call: the token that ``log_in`` got.
        self.metadata: tuple[tuple[str, str], ...] = ()
        self._next = 0
        self._current: GrpcConnection | None = None
        self._connecting = trio.Lock()
        self._nurseries = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> Client:
        self._nursery = await self._nurseries.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()
        # The body's own error goes on as it is, not in a group.
        await self._nurseries.__aexit__(None, None, None)
        return False

    # Key-value.

    async def put(
        self, key: bytes, value: bytes, *, lease: int = 0, prev_kv: bool = False, timeout: float | None = None
    ) -> PutResult:
        """Set a key. Raises ``Rejected`` or ``OutcomeUnknown``, like every write here."""
        request = Put(key, value, lease, prev_kv).request()
        return read_put(await self.call("/etcdserverpb.KV/Put", request, rpc.PutResponse.FromString, timeout))

    async def get(
        self,
        key: bytes,
        *,
        range_end: bytes = b"",
        serializable: bool = False,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        count_only: bool = False,
        sort_order: str = "",
        sort_target: str = "key",
        timeout: float | None = None,
    ) -> GetResult:
        """Read keys; linearizable unless ``serializable``. See ``Get`` for the arguments."""
        request = Get(
            key, range_end, serializable, revision, limit, keys_only, count_only, sort_order, sort_target
        ).request()
        answer = await self.call(
            "/etcdserverpb.KV/Range", request, rpc.RangeResponse.FromString, timeout, repeatable=True
        )
        return read_get(answer)

    async def delete(
        self, key: bytes, *, range_end: bytes = b"", prev_kv: bool = False, timeout: float | None = None
    ) -> DeleteResult:
        """Delete a key or a range."""
        request = Delete(key, range_end, prev_kv).request()
        answer = await self.call(
            "/etcdserverpb.KV/DeleteRange", request, rpc.DeleteRangeResponse.FromString, timeout
        )
        return read_delete(answer)

    async def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """Do ``success`` if all compares hold, else ``failure``, at one revision."""
        request = Txn(tuple(compares), tuple(success), tuple(failure)).request()
        return read_txn(await self.call("/etcdserverpb.KV/Txn", request, rpc.TxnResponse.FromString, timeout))

    async def compact(self, revision: int, *, physical: bool = False, timeout: float | None = None) -> None:
        """Forget what was before ``revision``."""
        request = rpc.CompactionRequest(revision=revision, physical=physical)
        await self.call("/etcdserverpb.KV/Compact", request, rpc.CompactionResponse.FromString, timeout)

    # Watch; the lease calls are in the base class.

    def watch(
        self,
        key: bytes,
        *,
        range_end: bytes = b"",
        start_revision: int = 0,
        prev_kv: bool = False,
        progress_notify: bool = False,
    ) -> Watch:
        """A watch for ``async with``; ``start_revision`` 0: from now on."""
        return Watch(self, key, range_end, start_revision, prev_kv, progress_notify)

    def keep_alive(self, lease_id: int) -> KeepAlive:
        """Keep a lease alive for the time of an ``async with``."""
        return KeepAlive(self, lease_id)

    # The cluster.

    async def status(self, *, timeout: float | None = None) -> Status:
        """The state of the member that answers."""
        answer = await self.call(
            "/etcdserverpb.Maintenance/Status",
            rpc.StatusRequest(),
            rpc.StatusResponse.FromString,
            timeout,
            repeatable=True,
        )
        return Status(
            header_of(answer.header),
            answer.version,
            answer.leader,
            answer.raftIndex,
            answer.raftTerm,
            answer.raftAppliedIndex,
            tuple(answer.errors),
        )

    async def members(
        self, *, linearizable: bool = False, timeout: float | None = None
    ) -> tuple[Member, ...]:
        """The cluster's members.

        Args:
            linearizable: After every change that was answered before. Otherwise as the answering member
                knows them, which may have heard less, but needs no majority.
            timeout: In seconds; None: the client's.
        """
        answer = await self.call(
            "/etcdserverpb.Cluster/MemberList",
            rpc.MemberListRequest(linearizable=linearizable),
            rpc.MemberListResponse.FromString,
            timeout,
            repeatable=True,
        )
        return tuple(
            Member(m.ID, m.name, tuple(m.peerURLs), tuple(m.clientURLs), m.isLearner) for m in answer.members
        )

    # Calls and connections.

    async def log_in(self) -> None:
        """Get a token for the calls to come. Does nothing without a user name.

        Raises:
            RpcError: The name or password is wrong, or authentication is not enabled.
        """
        if self._login is None:
            return
        self.metadata = ()
        request = rpc.AuthenticateRequest(name=self._login[0], password=self._login[1])
        answer = await self.call(
            "/etcdserverpb.Auth/Authenticate", request, rpc.AuthenticateResponse.FromString, repeatable=True
        )
        self.metadata = (("token", answer.token),)

    async def _renew_token(self) -> None:
        """Go on with another token, or with none when authentication has been turned off."""
        try:
            await self.log_in()
        except RpcError as error:
            if error.message != rpc_errors.AUTH_NOT_ENABLED.message:
                raise

    async def call(
        self,
        path: str,
        request: _Message,
        read: Callable[[bytes], Answer],
        timeout: float | None = None,
        *,
        repeatable: bool = False,
    ) -> Answer:
        """Make one unary call.

        Args:
            path: Service and method.
            request: The protobuf request.
            read: Makes the answer of its bytes.
            timeout: Seconds; None: the client's.
            repeatable: Doing it twice is harmless: try again when the outcome is unknown.
        """
        attempts = Attempts(path, request.SerializeToString(), repeatable)
        with self.world.clock.timeout(self.request_timeout if timeout is None else timeout) as scope:
            answer = await self._answer(attempts)
        if scope.cancelled_caught:
            self.rotate()
            raise attempts.last or Unreachable("no endpoint could be connected to in time")
        return read(answer)

    async def _answer(self, attempts: Attempts) -> bytes:
        """Try until there is an answer, or an error that ends the call; its timeout is the caller's."""
        while True:
            connection = await self.connection()
            attempts.begin()
            try:
                return await connection.unary(attempts.path, attempts.message, self.metadata)
            except (RpcError, NotProcessed, OutcomeUnknown) as error:
                verdict = attempts.judge(error, bool(self.metadata))
                if verdict.leave:
                    self.leave(connection)
                if verdict.give_up:
                    raise
            if verdict.log_in:
                await self._renew_token()
                continue
            await self.world.clock.sleep(RETRY_SECONDS)

    async def connection(self) -> GrpcConnection:
        """The present connection, or a new one; tries the endpoints in turn for as long as it takes."""
        current = self._current
        if current is not None and current.usable:
            return current
        async with self._connecting:
            while self._current is None or not self._current.usable:
                url, authority = self._endpoints[self._next % len(self._endpoints)]
                connection: Connection | None = None
                try:
                    with self.world.clock.timeout(self._patience.dial):
                        connection = await self._dialer.dial(url)
                except OSError:
                    pass
                if connection is None:
                    self._next += 1
                    await self.world.clock.sleep(RETRY_SECONDS)
                    continue
                assert self._nursery is not None, "the client must be entered first"
                self._current = GrpcConnection(self.world, connection, authority, self._patience)
                self._nursery.start_soon(self._current.run)
            return self._current

    def rotate(self) -> None:
        """Use another endpoint for what comes next; open calls go on where they are."""
        if self._current is not None:
            self.leave(self._current)

    def leave(self, connection: GrpcConnection) -> None:
        """As ``rotate``, if that connection is still the present one."""
        if connection is self._current:
            self._current = None
            self._next += 1
            connection.retire()
