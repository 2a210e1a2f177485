"""The front door: one client port for gRPC over HTTP/2 and for HTTP/1.1, told apart by the first bytes.

A ``Front`` owns what the connections of a server share: the routes, the flusher, the sweep for deadlines, the
limits. The parts have one idea each: ``grpc_connection`` runs a connection, ``grpc_flush`` writes once per
turn, ``core.wire.http2`` is the protocol.

A request costs no task: the reader of its connection calls the handler; ``reply`` only appends bytes;
``flusher.flush()`` writes them. The node's loop calls ``front.flusher.flush()`` after each batch it applied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import trio
from msgspec import structs

from tercet.core.wire.http2_frames import PREFACE
from tercet.core.wire.http2_head import Route
from tercet.core.wire.http2_limits import Http2Limits
from tercet.core.wire.http2_streams import Stream, UnaryRequest

from ..config import UNBOUNDED_STREAMS, MemberConfig
from ..metrics import Metrics
from ..world import Connection, Listener, World
from .call import Methods
from .grpc_connection import GrpcConnection
from .grpc_flush import Flusher
from .grpc_metrics import front_samples

__all__ = ["Front", "FrontLimits", "Http1Handler", "front_limits", "serve_client_connection"]

Http1Handler: TypeAlias = Callable[[World, Connection, bytes], Awaitable[None]]

_MAGIC = PREFACE[:14]  # "PRI * HTTP/2.0": no HTTP/1.1 request begins so
_SWEEP_SECONDS = 0.1
_KEEPALIVE_CHECK_SECONDS = 10.0
_KEEPALIVE_SECONDS_MIN = 1.0  # gRPC raises lower intervals to this
_GRPC_PING_MIN_SECONDS = 300.0  # gRPC's default
#: What etcd allows a gRPC message beyond --max-request-bytes.
_GRPC_OVERHEAD_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """What clients may cost the server. Bytes and seconds."""

    http2: Http2Limits = field(default_factory=Http2Limits)
    max_connections: int = 20_000  # more are closed at once
    first_bytes_seconds: float = 30.0  # a connection that says nothing for so long is closed
    stream_queue_bytes: int = 256 * 1024  # a stream's sender waits above this
    pause_bytes: int = 1024 * 1024  # a connection's reader pauses while so much is unwritten
    max_backlog_bytes: int = 512 * 1024 * 1024  # a connection with more unwritten is cut
    stall_seconds: float = 60.0  # ... and one whose backlog does not move for so long
    linger_seconds: float = 1.0  # for the last bytes of a connection that we end
    keepalive_seconds: float = 7200.0  # silence after which a client is asked for a sign of life
    keepalive_timeout: float = 20.0  # ... and how long it may take; 0 or less: never asked


def front_limits(config: MemberConfig) -> FrontLimits:
    """The limits that a member's flags ask for; what gRPC replaces by its own defaults is replaced here, too.

    ``--max-concurrent-streams`` at its default (or 0) means "no bound" to etcd; here it means the default of
    ``Http2Limits``, since what one client may cost is always bounded.
    """
    usual = FrontLimits()
    streams = config.max_concurrent_streams
    keepalive, timeout = config.grpc_keepalive_interval, config.grpc_keepalive_timeout
    if keepalive <= 0 or timeout <= 0:
        keepalive, timeout = usual.keepalive_seconds, usual.keepalive_timeout
    return FrontLimits(
        http2=structs.replace(
            usual.http2,
            max_message_bytes=config.max_request_bytes + _GRPC_OVERHEAD_BYTES,
            max_streams=streams if 0 < streams < UNBOUNDED_STREAMS else usual.http2.max_streams,
            ping_min_seconds=(
                config.grpc_keepalive_min_time
                if config.grpc_keepalive_min_time > 0
                else _GRPC_PING_MIN_SECONDS
            ),
        ),
        keepalive_seconds=max(keepalive, _KEEPALIVE_SECONDS_MIN),
        keepalive_timeout=timeout,
    )


class Front:
    """The client side of one member.

    Args:
        world: the member's ports.
        methods: the services.
        http1_handler: serves a connection that does not speak HTTP/2; gets the bytes read so far. None:
            such connections are closed.
        limits: see ``FrontLimits``.
    """

    def __init__(
        self,
        world: World,
        methods: Methods,
        http1_handler: Http1Handler | None = None,
        *,
        limits: FrontLimits | None = None,
    ) -> None:
        self.world = world
        self.limits = limits or FrontLimits()
        self.flusher = Flusher()
        self.routes: dict[str, Route] = {}
        for path, unary in methods.unary.items():
            self.routes[path] = Route(streaming=False, handler=unary)
        for path, stream in methods.stream.items():
            self.routes[path] = Route(streaming=True, handler=stream)
        #: Bytes of all HTTP/2 connections so far.
        self.received_bytes = 0
        self.sent_bytes = 0
        metrics = getattr(world.probe, "metrics", None)
        if isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            metrics.add_source(lambda: front_samples(self))
        self._http1 = http1_handler
        self._connections: dict[GrpcConnection, None] = {}
        self._open = 0
        self._draining = False
        self._sweep_wanted = trio.lowlevel.ParkingLot()
        self._left = trio.lowlevel.ParkingLot()

    @property
    def open_connections(self) -> int:
        """Connections of either protocol."""
        return self._open

    def calls_under_way(self) -> dict[Route, int]:
        """By route, the gRPC calls that a handler has and that have no status yet."""
        found: dict[Route, int] = {}
        for connection in self._connections:
            for stream in connection.protocol.streams.values():
                if (isinstance(stream, UnaryRequest) and not stream.answered) or (
                    isinstance(stream, Stream) and not stream.finished
                ):
                    route = stream.head.route
                    found[route] = found.get(route, 0) + 1
        return found

    async def run(self) -> None:
        """Flushes on request, deadlines, keep-alive: until cancelled. Must run while connections do."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.flusher.run)
            nursery.start_soon(self._sweep)
            if self.limits.keepalive_timeout > 0:
                nursery.start_soon(self._keep_alive)

    async def serve_listener(self, listener: Listener) -> None:
        """Accept and serve until cancelled, or until the listener is closed and all its connections ended."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    transport = await listener.accept()
                except trio.ClosedResourceError:
                    return
                if self._open >= self.limits.max_connections:
                    self.world.probe.log("warn", "too many client connections", remote=transport.remote)
                    transport.close()
                else:
                    nursery.start_soon(self.serve, transport)

    async def serve(self, transport: Connection) -> None:
        """Serve one connection until it ends; always closes it."""
        self._open += 1
        try:
            first = await self._first_bytes(transport)
            if first.startswith(_MAGIC):
                await self._serve_http2(transport, first)
            elif first and self._http1 is not None:
                await self._http1(self.world, transport, first)
        finally:
            self._open -= 1
            transport.close()
            self._left.unpark_all()

    async def drain(self, seconds: float) -> None:
        """End gracefully: no new streams, those under way may finish within ``seconds``; then all are cut.

        Call it when the listeners are closed. Streaming calls should be finished by their services.
        """
        self._draining = True
        for connection in list(self._connections):
            connection.protocol.drain()
            self._close_if_drained(connection)
        self.flusher.flush()
        clock = self.world.clock
        with clock.timeout(seconds):
            await clock.sleep(min(0.1, seconds / 2))
            while self._connections:
                self._finish_drain()
                await clock.sleep(0.02)
        self._finish_drain()  # late or not: who is cut off is told which of its calls were taken
        for connection in list(self._connections):
            connection.break_off()

    def _finish_drain(self) -> None:
        for connection in list(self._connections):
            connection.protocol.finish_drain()
        self.flusher.flush()
        for connection in list(self._connections):
            self._close_if_drained(connection)

    def want_sweep(self) -> None:
        """Some request has a deadline: the sweep must be awake."""
        self._sweep_wanted.unpark_all()

    # ------------------------------------------------------------------------------------------------

    async def _first_bytes(self, transport: Connection) -> bytes:
        """Enough bytes to know the protocol; b"" when the client left or took too long."""
        data = b""
        complete = False
        with self.world.clock.timeout(self.limits.first_bytes_seconds):
            while not complete:
                try:
                    more = await transport.receive(65536)
                except (OSError, trio.ClosedResourceError):
                    break
                data += more
                complete = not more or len(data) >= len(_MAGIC) or not _MAGIC.startswith(data)
        return data if complete else b""

    async def _serve_http2(self, transport: Connection, first: bytes) -> None:
        connection = GrpcConnection(self, transport)
        self._connections[connection] = None
        try:
            if self._draining:
                connection.protocol.drain()
            await connection.run(first)
        finally:
            del self._connections[connection]
            if connection.protocol.reason:
                self.world.probe.log(
                    "debug",
                    "ended a client connection",
                    remote=connection.remote,
                    reason=connection.protocol.reason,
                )

    def _close_if_drained(self, connection: GrpcConnection) -> None:
        if connection.protocol.drained:
            connection.depart()

    async def _sweep(self) -> None:
        clock = self.world.clock
        while True:
            waiting = [c for c in self._connections if c.protocol.next_deadline is not None]
            if not waiting:
                await self._sweep_wanted.park()
            await clock.sleep(_SWEEP_SECONDS)
            now = clock.monotonic()
            for connection in waiting:
                connection.protocol.expire(now)
                connection.dispatch(connection.protocol.take_events())
            self.flusher.flush()

    async def _keep_alive(self) -> None:
        clock = self.world.clock
        silence = self.limits.keepalive_seconds
        patience = self.limits.keepalive_timeout
        while True:
            await clock.sleep(min(_KEEPALIVE_CHECK_SECONDS, silence, patience))
            now = clock.monotonic()
            for connection in list(self._connections):
                silent = now - connection.last_heard
                if silent > silence + patience:
                    connection.break_off()
                elif silent > silence:
                    connection.protocol.ping()
            self.flusher.flush()


async def serve_client_connection(
    world: World,
    transport: Connection,
    methods: Methods,
    http1_handler: Http1Handler | None = None,
    *,
    limits: FrontLimits | None = None,
) -> None:
    """Serve a single connection with a ``Front`` of its own, until it ends."""
    front = Front(world, methods, http1_handler, limits=limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.run)
        await front.serve(transport)
        nursery.cancel_scope.cancel()
