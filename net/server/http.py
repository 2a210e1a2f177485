"""HTTP/1.1 on the client and the peer port: version, health, metrics, and the door to the JSON gateway.

One connection is one ``h11`` state machine. Requests are served one after the other, keep-alive as the
client wants it; heads and bodies are bounded, a silent client is let go, and nothing that arrives can do
more than end its own connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, unquote

import h11
import trio

from ..config import UNBOUNDED_STREAMS, MemberConfig
from ..metrics import CONTENT_TYPE, Metrics
from ..world import Connection, World
from .admission import allowed_host, cors_headers, host_name, host_refusal
from .call import Methods
from .debug_pages import LogLevelRefused, set_log_level, variables
from .gateway import HTTP_STATUS, SINCE_3_5, Gateway, GatewayFailure, error_body, stream_error_body
from .gateway_json import dumps
from .health import CHECKS, HealthChecks, health_body
from .node_metrics import node_samples

__all__ = [
    "BODY_BYTES_MAX",
    "HEAD_BYTES_MAX",
    "IDLE_SECONDS",
    "Http1Handler",
    "make_http1_handler",
    "make_metrics_handler",
]

Http1Handler: TypeAlias = Callable[[World, Connection, bytes], Awaitable[None]]
Headers: TypeAlias = list[tuple[str, str]]

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 4 * 1024 * 1024  # a request of 1.5 MiB in base64, and room
#: How long a client may take to send a request, or leave the connection unused.
IDLE_SECONDS: Final = 120.0
READ_BYTES: Final = 64 * 1024

_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_JSON: Final = ("Content-Type", "application/json")
_CHUNKED: Final = ("Transfer-Encoding", "chunked")
_NO_SNIFF: Final = ("X-Content-Type-Options", "nosniff")
_FROM_GRPC: Final = ("Grpc-Metadata-Content-Type", "application/grpc")


def make_http1_handler(node: Any, config: MemberConfig, methods: Methods | None) -> Http1Handler:
    """Make the handler of connections that speak HTTP/1.1.

    Args:
        node: the member's ``net.node.Node``.
        config: for the version it reports.
        methods: the services behind the gateway; None makes the handler of the peer port, which tells
            only the version and the members.
    """
    pages = _Pages(node, config, methods)

    async def handler(world: World, connection: Connection, first_bytes: bytes) -> None:
        await _Exchange(world, connection, pages).serve(first_bytes)

    return handler


def make_metrics_handler(node: Any, config: MemberConfig) -> Http1Handler:
    """As ``make_http1_handler``, for an address that tells nothing but metrics and health."""
    pages = _ScrapePages(node, config, None)

    async def handler(world: World, connection: Connection, first_bytes: bytes) -> None:
        await _Exchange(world, connection, pages).serve(first_bytes)

    return handler


class _Answer(Exception):
    """A whole response, raised from wherever it is known."""

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


def _plain_error(status: int, text: str, extra: Headers | None = None) -> _Answer:
    return _Answer(status, [*(extra or []), _TEXT, _NO_SNIFF], f"{text}\n".encode())


class _Request:
    """A request with its body, as the pages want it."""

    __slots__ = ("body", "headers", "method", "path", "query", "remote")

    def __init__(self, event: h11.Request, remote: str) -> None:
        target = event.target.decode("ascii", "replace")
        path, _, query = target.partition("?")
        self.method = event.method.decode("ascii", "replace")
        self.path = unquote(path)
        self.query = parse_qs(query, keep_blank_values=True)
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        self.remote = remote
        self.body = b""


class _Pages:
    """What there is to see, and the gateway."""

    def __init__(self, node: Any, config: MemberConfig, methods: Methods | None) -> None:
        self._node = node
        self.config = config
        self._health = HealthChecks(node)
        self._metrics: Metrics | None = None
        streams = config.max_concurrent_streams
        bound = streams if 0 < streams < UNBOUNDED_STREAMS else None
        newer = SINCE_3_5 if config.reported_version.startswith("3.4.") else ()
        self.gateway = Gateway(methods, max_calls=bound, left_out=newer) if methods is not None else None

    async def answer(self, world: World, request: _Request) -> _Answer:
        """The response to anything but a gateway call."""
        path = request.path
        if self.gateway is None:
            return self._peer_page(request)
        if request.method == "OPTIONS":
            return _Answer(200, [])
        if path == "/version":
            return self._version(request)
        if path == "/health":
            return await self._health_page(world, request)
        if path == "/metrics":
            return self._metrics_page(world)
        if path == "/debug/vars":
            headers = [("Content-Type", "application/json; charset=utf-8"), _CHUNKED]
            return _Answer(200, headers, variables(self._node))
        if path == "/config/local/log":
            return self._log_level_page(world, request)
        head, _, check = path[1:].partition("/")
        if head in CHECKS:
            return await self._checks_page(world, request, head, check)
        return _plain_error(404, "404 page not found")

    def _peer_page(self, request: _Request) -> _Answer:
        if request.path == "/version":
            return self._version(request)
        if request.path == "/members":
            if request.method != "GET":
                return _plain_error(405, "Method Not Allowed", [("Allow", "GET")])
            rows = [
                {"id": row.id, "peerURLs": list(row.peer_urls)}
                | ({"isLearner": True} if row.is_learner else {})
                | ({"name": row.name} if row.name else {})
                | ({"clientURLs": list(row.client_urls)} if row.client_urls else {})
                for row in self._node.members()
            ]
            cluster = ("X-Etcd-Cluster-Id", f"{self._node.cluster_id:x}")
            return _Answer(200, [_JSON, cluster], dumps(rows).encode() + b"\n")
        return _plain_error(404, "404 page not found")

    def _version(self, request: _Request) -> _Answer:
        if request.method != "GET":
            return _plain_error(405, "Method Not Allowed", [("Allow", "GET")])
        cluster = self._node.machine.cluster_version or "not_decided"
        body = {"etcdserver": self.config.reported_version, "etcdcluster": cluster}
        return _Answer(200, [_JSON], dumps(body).encode())

    async def _health_page(self, world: World, request: _Request) -> _Answer:
        if request.method != "GET":
            return _plain_error(405, "Method Not Allowed", [("Allow", "GET")])
        serializable = request.query.get("serializable", [""])[0] == "true"
        exclude = [name for name in request.query.get("exclude", []) if name]
        reason = await self._health.health(world, serializable=serializable, exclude=exclude)
        world.probe.count("etcd_server_health_failures" if reason else "etcd_server_health_success")
        body = health_body(self.config, reason)
        if reason:
            return _plain_error(503, body)
        return _Answer(200, [_TEXT], body.encode())

    async def _checks_page(self, world: World, request: _Request, question: str, only: str) -> _Answer:
        if request.method != "GET":
            return _plain_error(405, "Method Not Allowed", [("Allow", "GET")])
        names = [name for name in CHECKS[question] if name not in request.query.get("exclude", [])]
        if only:
            if only not in CHECKS[question]:
                return _plain_error(404, "404 page not found")
            names = [only]
        lines: list[str] = []
        failed = False
        for name in names:
            reason = await self._health.run(world, name)
            failed = failed or bool(reason)
            lines.append(f"[-]{name} failed: {reason}" if reason else f"[+]{name} ok")
        if failed:
            return _plain_error(503, "\n".join(lines))
        if "verbose" in request.query:
            lines.append("ok")
            return _Answer(200, [_TEXT, _NO_SNIFF], "\n".join(lines).encode() + b"\n")
        return _Answer(200, [_TEXT, _NO_SNIFF], b"ok\n")

    def _log_level_page(self, world: World, request: _Request) -> _Answer:
        if request.method != "PUT":
            return _plain_error(405, "Method Not Allowed", [("Allow", "PUT")])
        try:
            set_log_level(world.probe, request.body)
        except LogLevelRefused as problem:
            return _Answer(400, [_JSON], dumps({"message": str(problem)}).encode())
        return _Answer(204, [])

    def _metrics_page(self, world: World) -> _Answer:
        metrics = getattr(world.probe, "metrics", None)
        if not isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            return _plain_error(404, "404 page not found")
        if self._metrics is not metrics:
            self._metrics = metrics
            metrics.add_source(lambda: node_samples(self._node, self.config))
        return _Answer(200, [("Content-Type", CONTENT_TYPE), _CHUNKED], metrics.render())


class _ScrapePages(_Pages):
    """The pages of ``--listen-metrics-urls``."""

    async def answer(self, world: World, request: _Request) -> _Answer:
        if request.path == "/metrics":
            return self._metrics_page(world)
        if request.path == "/health":
            return await self._health_page(world, request)
        head, _, check = request.path[1:].partition("/")
        if head in CHECKS:
            return await self._checks_page(world, request, head, check)
        return _plain_error(404, "404 page not found")


class _Exchange:
    """One connection."""

    def __init__(self, world: World, connection: Connection, pages: _Pages) -> None:
        self._world = world
        self._connection = connection
        self._pages = pages
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._left = False  # the client has ended its side while a stream ran
        self._method = ""  # of the request under way; "" before its head is known
        self._origin = ""  # the page it comes from; "" when it comes from none

    async def serve(self, first_bytes: bytes) -> None:
        """Serve requests until either side ends the connection."""
        try:
            if first_bytes:
                self._http.receive_data(first_bytes)
            while await self._one_request():
                self._http.start_next_cycle()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client has gone
        except h11.LocalProtocolError as problem:  # our own answer: wrong, but no reason to stop the member
            self._world.probe.log(
                "error", "cannot answer an HTTP request", remote=self._connection.remote, error=str(problem)
            )

    async def _one_request(self) -> bool:
        """Serve one request; whether the connection may be used again."""
        self._method = ""
        try:
            with self._world.clock.timeout(IDLE_SECONDS) as patience:
                request = await self._receive_request()
            if patience.cancelled_caught or request is None:
                return False
            await self._respond(request)
        except h11.RemoteProtocolError as problem:
            await self._refuse(_plain_error(problem.error_status_hint or 400, f"400 Bad Request: {problem}"))
        except _Answer as answer:
            await self._refuse(answer)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _receive_request(self) -> _Request | None:
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        request = _Request(event, self._connection.remote)
        self._method = request.method
        self._origin = request.headers.get("origin", "")
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        parts: list[bytes] = []
        size = 0
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                size += len(event.data)
                if size > BODY_BYTES_MAX:
                    raise _plain_error(413, "http: request body too large", [("Connection", "close")])
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                request.body = b"".join(parts)
                return request
            else:
                return None

    async def _next_event(self) -> Any:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._connection.receive(READ_BYTES))

    async def _respond(self, request: _Request) -> None:
        gateway = self._pages.gateway
        self._admit(request)
        if request.method == "CONNECT":  # a 200 would turn the connection into a tunnel
            raise _plain_error(405, "Method Not Allowed")
        served = gateway is not None and self._pages.config.enable_grpc_gateway
        if gateway is None or not (served and gateway.owns(request.path)) or request.method == "OPTIONS":
            await self._send_whole(await self._pages.answer(self._world, request), request)
        elif not gateway.knows(request.path):
            raise _plain_error(404, "Not Found")
        elif request.method != "POST":
            raise _plain_error(405, "Method Not Allowed")
        elif gateway.is_stream(request.path):
            await self._stream(gateway, request)
        else:
            await self._call(gateway, request)

    def _admit(self, request: _Request) -> None:
        """Refuse a plain request to a client's page under a host name that nobody allowed."""
        if self._pages.gateway is None or getattr(self._connection, "secure", False):
            return
        host = request.headers.get("host", "")
        if not allowed_host(self._pages.config.host_whitelist, host):
            self._world.probe.log(
                "warn", "rejecting HTTP request to prevent DNS rebinding attacks", host=host_name(host)
            )
            raise _plain_error(421, host_refusal(host))

    async def _call(self, gateway: Gateway, request: _Request) -> None:
        answer = gateway.call(request.path, request.body, _metadata(request))
        try:
            body = await (self._unless_gone(answer) if gateway.may_wait(request.path) else answer)
        except GatewayFailure as failure:
            await self._fail(failure, request)
            return
        if body is not None:
            await self._send_whole(_Answer(200, [_JSON, _FROM_GRPC], body), request)

    async def _unless_gone(self, answer: Awaitable[bytes]) -> bytes | None:
        """Wait for an answer that may take long; None when the client ends its side first."""
        body: bytes | None = None
        failure: GatewayFailure | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_the_end, nursery.cancel_scope)
            try:
                body = await answer
            except GatewayFailure as problem:
                failure = problem  # raised below: inside the nursery it would become a group
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return body

    async def _fail(self, failure: GatewayFailure, request: _Request) -> None:
        status = HTTP_STATUS.get(failure.code, 500)
        if failure.streaming and (self._http.their_http_version or b"") >= b"1.1":
            await self._send(self._response(status, [_JSON, _CHUNKED]))
            await self._send(h11.Data(data=stream_error_body(failure.code, failure.message)))
            await self._send(h11.EndOfMessage())
            return
        body = error_body(failure.code, failure.message)
        if not failure.from_service or (self._http.their_http_version or b"") < b"1.1":
            await self._send_whole(_Answer(status, [_JSON], body), request)
            return
        # The gateway announces a trailer here, which makes the body chunked.
        headers = [_JSON, ("Trailer", "Grpc-Trailer-Content-Type"), _CHUNKED]
        await self._send(self._response(status, headers))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage(headers=[("Grpc-Trailer-Content-Type", "application/grpc")]))

    async def _stream(self, gateway: Gateway, request: _Request) -> None:
        """A stream of lines; it ends when the service or the client does."""
        started = False

        async def write(line: bytes) -> None:
            nonlocal started
            try:
                if not started:
                    started = True
                    headers = [_JSON, _FROM_GRPC, _CHUNKED]
                    await self._send(self._response(200, headers))
                await self._send(h11.Data(data=line))
            except (OSError, trio.ClosedResourceError):
                # Not raised through the service: out of a nursery of its own it would come as a group.
                self._left = True
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()

        failure: GatewayFailure | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_the_end, nursery.cancel_scope)
            try:
                await gateway.stream(request.path, request.body, _metadata(request), request.remote, write)
            except GatewayFailure as problem:
                failure = problem
            nursery.cancel_scope.cancel()
        if self._left:
            return  # perhaps in the middle of a line: whatever followed could not be read
        if failure is not None and not started:
            await self._fail(failure, request)
        elif started:
            await self._send(h11.EndOfMessage())

    async def _watch_for_the_end(self, scope: trio.CancelScope) -> None:
        """Cancel the stream when the client ends its side; early bytes of a next request are kept."""
        early = 0
        try:
            while early <= HEAD_BYTES_MAX:
                data = await self._connection.receive(READ_BYTES)
                self._http.receive_data(data)
                if not data:
                    break
                early += len(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._left = True
        scope.cancel()

    async def _send_whole(self, answer: _Answer, request: _Request) -> None:
        headers = answer.headers
        if answer.status != 204 and _CHUNKED not in headers:
            headers = [*headers, ("Content-Length", str(len(answer.body)))]
        data = self._http.send(self._response(answer.status, headers)) or b""
        if answer.body and request.method != "HEAD":
            data += self._http.send(h11.Data(data=answer.body)) or b""
        if request.method == "HEAD" and answer.body:
            self._http.send(h11.EndOfMessage())
        else:
            data += self._http.send(h11.EndOfMessage()) or b""
        await self._connection.send_all(data)

    async def _refuse(self, answer: _Answer) -> None:
        """Answer a request that is not served; the connection ends when its body was not read."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        if self._http.their_state is not h11.DONE and ("Connection", "close") not in headers:
            headers.append(("Connection", "close"))
        await self._send(self._response(answer.status, headers))
        if self._method != "HEAD":
            await self._send(h11.Data(data=answer.body))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            await self._connection.send_all(data)

    def _response(self, status: int, headers: Headers) -> h11.Response:
        cors: Headers = []
        if self._pages.gateway is not None:
            cors = cors_headers(self._pages.config.cors, self._origin)
        date = ("Date", formatdate(self._world.clock.wall(), usegmt=True))
        return h11.Response(
            status_code=status, headers=[*cors, *headers, date], reason=HTTPStatus(status).phrase.encode()
        )


def _metadata(request: _Request) -> dict[str, str]:
    """gRPC metadata of a gateway call: the token, and headers that ask to be passed on."""
    metadata = {
        name.removeprefix("grpc-metadata-"): value
        for name, value in request.headers.items()
        if name.startswith("grpc-metadata-")
    }
    token = request.headers.get("authorization")
    if token:
        metadata["token"] = metadata["authorization"] = token
    return metadata
