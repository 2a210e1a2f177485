"""HTTP/1.1 on the client and the peer port: the way to the pages (``http_pages``) and to the JSON gateway.

One connection is one ``h11`` state machine. Requests are served one after the other, keep-alive as the
client wants it; heads and bodies are bounded, a silent client is let go, and nothing that arrives can do
more than end its own connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import h11
import trio

from ..config import MemberConfig
from ..world import Connection, World
from .admission import allowed_host, cors_headers, host_name, host_refusal
from .call import Methods
from .gateway import Gateway
from .gateway_errors import HTTP_STATUS, GatewayFailure, error_body, stream_error_body
from .http_pages import CHUNKED, JSON, Answer, Headers, Pages, Request, ScrapePages, Site, plain_error
from .tidy_path import redirect

__all__ = [
    "BODY_BYTES_MAX",
    "HEAD_BYTES_MAX",
    "IDLE_SECONDS",
    "Http1Handler",
    "make_http1_handler",
    "make_metrics_handler",
    "make_site_handler",
]

Http1Handler: TypeAlias = Callable[[World, Connection, bytes], Awaitable[None]]

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 4 * 1024 * 1024  # a request of 1.5 MiB in base64, and room
#: How long a client may take to send a request, or leave the connection unused.
IDLE_SECONDS: Final = 120.0
READ_BYTES: Final = 64 * 1024

_FROM_GRPC: Final = ("Grpc-Metadata-Content-Type", "application/grpc")


def make_http1_handler(node: Any, config: MemberConfig, methods: Methods | None) -> Http1Handler:
    """Make the handler of connections that speak HTTP/1.1.

    Args:
        node: the member's ``net.node.Node``.
        config: for the version it reports.
        methods: the services behind the gateway; None makes the handler of the peer port, which tells
            only the version and the members.
    """
    return make_site_handler(Pages(node, config, methods))


def make_metrics_handler(node: Any, config: MemberConfig) -> Http1Handler:
    """As ``make_http1_handler``, for an address that tells nothing but metrics and health."""
    return make_site_handler(ScrapePages(node, config, None))


def make_site_handler(site: Site) -> Http1Handler:
    """The handler of connections that ask for the pages of a site."""

    async def handler(world: World, connection: Connection, first_bytes: bytes) -> None:
        await _Exchange(world, connection, site).serve(first_bytes)

    return handler


class _Exchange:
    """One connection."""

    def __init__(self, world: World, connection: Connection, pages: Site) -> None:
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
            await self._refuse(plain_error(problem.error_status_hint or 400, f"400 Bad Request: {problem}"))
        except Answer as answer:
            await self._refuse(answer)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _receive_request(self) -> Request | None:
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        request = Request(event, self._connection.remote)
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
                    raise plain_error(413, "http: request body too large", [("Connection", "close")])
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

    async def _respond(self, request: Request) -> None:
        gateway = self._pages.gateway
        self._admit(request)
        if request.method == "CONNECT":  # a 200 would turn the connection into a tunnel
            raise plain_error(405, "Method Not Allowed")
        moved = redirect(request) if request.method != "OPTIONS" else None
        if moved is not None:
            raise moved
        served = gateway is not None and self._pages.config.enable_grpc_gateway
        if gateway is None or not (served and gateway.owns(request.path)) or request.method == "OPTIONS":
            await self._send_whole(await self._pages.answer(self._world, request), request)
        elif not gateway.knows(request.path):
            raise plain_error(404, "Not Found")
        elif request.method != "POST":
            raise plain_error(405, "Method Not Allowed")
        elif gateway.is_stream(request.path):
            await self._stream(gateway, request)
        else:
            await self._call(gateway, request)

    def _admit(self, request: Request) -> None:
        """Refuse a plain request to a client's page under a host name that nobody allowed."""
        if self._pages.gateway is None or getattr(self._connection, "secure", False):
            return
        host = request.headers.get("host", "")
        if not allowed_host(self._pages.config.host_whitelist, host):
            self._world.probe.log(
                "warn", "rejecting HTTP request to prevent DNS rebinding attacks", host=host_name(host)
            )
            raise plain_error(421, host_refusal(host))

    async def _call(self, gateway: Gateway, request: Request) -> None:
        answer = gateway.call(request.path, request.body, _metadata(request))
        try:
            body = await (self._unless_gone(answer) if gateway.may_wait(request.path) else answer)
        except GatewayFailure as failure:
            await self._fail(failure, request)
            return
        if body is None:
            return
        if len(body) == 1:
            await self._send_whole(Answer(200, [JSON, _FROM_GRPC], body[0]), request)
            return
        size = ("Content-Length", str(sum(map(len, body))))
        await self._send(self._response(200, [JSON, _FROM_GRPC, size]))
        for piece in body:
            await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def _unless_gone(self, answer: Awaitable[list[bytes]]) -> list[bytes] | None:
        """Wait for an answer that may take long; None when the client ends its side first."""
        body: list[bytes] | None = None
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

    async def _fail(self, failure: GatewayFailure, request: Request) -> None:
        status = HTTP_STATUS.get(failure.code, 500)
        if failure.streaming and (self._http.their_http_version or b"") >= b"1.1":
            await self._send(self._response(status, [JSON, CHUNKED]))
            await self._send(h11.Data(data=stream_error_body(failure.code, failure.message)))
            await self._send(h11.EndOfMessage())
            return
        body = error_body(failure.code, failure.message)
        if not failure.from_service or (self._http.their_http_version or b"") < b"1.1":
            await self._send_whole(Answer(status, [JSON], body), request)
            return
        # The gateway announces a trailer here, which makes the body chunked.
        headers = [JSON, ("Trailer", "Grpc-Trailer-Content-Type"), CHUNKED]
        await self._send(self._response(status, headers))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage(headers=[("Grpc-Trailer-Content-Type", "application/grpc")]))

    async def _stream(self, gateway: Gateway, request: Request) -> None:
        """A stream of lines; it ends when the service or the client does."""
        started = False

        async def write(line: bytes) -> None:
            nonlocal started
            try:
                if not started:
                    started = True
                    headers = [JSON, _FROM_GRPC, CHUNKED]
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

    async def _send_whole(self, answer: Answer, request: Request) -> None:
        headers = answer.headers
        if answer.status != 204 and CHUNKED not in headers:
            headers = [*headers, ("Content-Length", str(len(answer.body)))]
        data = self._http.send(self._response(answer.status, headers)) or b""
        if answer.body and request.method != "HEAD":
            data += self._http.send(h11.Data(data=answer.body)) or b""
        if request.method == "HEAD" and answer.body:
            self._http.send(h11.EndOfMessage())
        else:
            data += self._http.send(h11.EndOfMessage()) or b""
        await self._connection.send_all(data)

    async def _refuse(self, answer: Answer) -> None:
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


def _metadata(request: Request) -> dict[str, str]:
    """gRPC metadata of a gateway call: the token, and headers that ask to be passed on."""
    metadata = {
        name.removeprefix("grpc-metadata-"): value
        for name, value in request.headers.items()
        if name.startswith("grpc-metadata-")
    }
    token = request.headers.get("authorization")
    if token is not None:
        metadata["token"] = metadata["authorization"] = token
    return metadata
