"""The pages of the client port, the peer port and the port for metrics: version, health, metrics, members.

A page is a function of the request and the member; ``http`` brings requests and takes the answers away.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import parse_qs, unquote

import h11

from ..config import UNBOUNDED_STREAMS, MemberConfig
from ..metrics import CONTENT_TYPE, Metrics
from ..world import World
from .call import Methods
from .debug_pages import LogLevelRefused, set_log_level, variables
from .gateway import SINCE_3_5, Gateway
from .gateway_json import dumps
from .health import CHECKS, HealthChecks, health_body
from .node_metrics import node_samples

__all__ = [
    "CHUNKED", "JSON", "TEXT", "Answer", "Headers", "Pages", "Request", "ScrapePages", "Site", "plain_error",
]

Headers: TypeAlias = list[tuple[str, str]]

TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
JSON: Final = ("Content-Type", "application/json")
CHUNKED: Final = ("Transfer-Encoding", "chunked")
_NO_SNIFF: Final = ("X-Content-Type-Options", "nosniff")


class Answer(Exception):
    """A whole response, raised from wherever it is known."""

    def __init__(self, status: int, headers: Headers, body: bytes = b"") -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


def plain_error(status: int, text: str, extra: Headers | None = None) -> Answer:
    """A page of text alone; ``extra``: headers before its own."""
    return Answer(status, [*(extra or []), TEXT, _NO_SNIFF], f"{text}\n".encode())


class Request:
    """A request with its body, as the pages want it."""

    __slots__ = ("body", "headers", "method", "path", "query", "remote", "search")

    def __init__(self, event: h11.Request, remote: str) -> None:
        target = event.target.decode("ascii", "replace")
        path, _, self.search = target.partition("?")
        self.method = event.method.decode("ascii", "replace")
        self.path = unquote(path)
        self.query = parse_qs(self.search, keep_blank_values=True)
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        self.remote = remote
        self.body = b""


class Site(Protocol):
    """What is served on a port: pages, and perhaps a gateway."""

    @property
    def gateway(self) -> Gateway | None: ...

    @property
    def config(self) -> MemberConfig: ...

    async def answer(self, world: World, request: Request) -> Answer:
        """The response to anything but a gateway call."""


class Pages:
    """What there is to see, and the gateway."""

    def __init__(self, node: Any, config: MemberConfig, methods: Methods | None) -> None:
        self._node = node
        self.config = config
        self._health = HealthChecks(node)
        self._metrics: Metrics | None = None
        self._scrapes = 0  # under way
        streams = config.max_concurrent_streams
        bound = streams if 0 < streams < UNBOUNDED_STREAMS else None
        newer = SINCE_3_5 if config.reported_version.startswith("3.4.") else ()
        self.gateway = Gateway(methods, max_calls=bound, left_out=newer) if methods is not None else None

    async def answer(self, world: World, request: Request) -> Answer:
        """The response to anything but a gateway call."""
        path = request.path
        if self.gateway is None:
            return self._peer_page(request)
        if request.method == "OPTIONS":
            return Answer(200, [])
        if path == "/version":
            return self._version(request)
        if path == "/health":
            return await self._health_page(world, request)
        if path == "/metrics":
            return await self._metrics_page(world)
        if path == "/debug/vars":
            headers = [("Content-Type", "application/json; charset=utf-8"), CHUNKED]
            return Answer(200, headers, variables(self._node))
        if path == "/config/local/log":
            return self._log_level_page(world, request)
        head, _, check = path[1:].partition("/")
        if head in CHECKS:
            return await self._checks_page(world, request, head, check)
        return plain_error(404, "404 page not found")

    def _peer_page(self, request: Request) -> Answer:
        if request.path == "/version":
            return self._version(request)
        if request.path == "/members":
            if request.method != "GET":
                return plain_error(405, "Method Not Allowed", [("Allow", "GET")])
            rows = [
                {"id": row.id, "peerURLs": list(row.peer_urls)}
                | ({"isLearner": True} if row.is_learner else {})
                | ({"name": row.name} if row.name else {})
                | ({"clientURLs": list(row.client_urls)} if row.client_urls else {})
                for row in self._node.members()
            ]
            cluster = ("X-Etcd-Cluster-Id", f"{self._node.cluster_id:x}")
            return Answer(200, [JSON, cluster], dumps(rows).encode() + b"\n")
        return plain_error(404, "404 page not found")

    def _version(self, request: Request) -> Answer:
        if request.method != "GET":
            return plain_error(405, "Method Not Allowed", [("Allow", "GET")])
        cluster = self._node.machine.cluster_version or "not_decided"
        body = {"etcdserver": self.config.reported_version, "etcdcluster": cluster}
        return Answer(200, [JSON], dumps(body).encode())

    async def _health_page(self, world: World, request: Request) -> Answer:
        if request.method != "GET":
            return plain_error(405, "Method Not Allowed", [("Allow", "GET")])
        serializable = request.query.get("serializable", [""])[0] == "true"
        exclude = [name for name in request.query.get("exclude", []) if name]
        reason = await self._health.health(world, serializable=serializable, exclude=exclude)
        world.probe.count("etcd_server_health_failures" if reason else "etcd_server_health_success")
        body = health_body(self.config, reason)
        if reason:
            return plain_error(503, body)
        return Answer(200, [TEXT], body.encode())

    async def _checks_page(self, world: World, request: Request, question: str, only: str) -> Answer:
        if request.method != "GET":
            return plain_error(405, "Method Not Allowed", [("Allow", "GET")])
        names = [name for name in CHECKS[question] if name not in request.query.get("exclude", [])]
        if only:
            if only not in CHECKS[question]:
                return plain_error(404, "404 page not found")
            names = [only]
        lines: list[str] = []
        failed = False
        for name in names:
            reason = await self._health.run(world, name)
            failed = failed or bool(reason)
            self._count_check(world, question, name, well=not reason)
            lines.append(f"[-]{name} failed: {reason}" if reason else f"[+]{name} ok")
        if failed:
            return plain_error(503, "\n".join([*lines, ""]))
        if "verbose" in request.query:
            lines.append("ok")
            return Answer(200, [TEXT, _NO_SNIFF], "\n".join(lines).encode() + b"\n")
        return Answer(200, [TEXT, _NO_SNIFF], b"ok\n")

    @staticmethod
    def _count_check(world: World, question: str, name: str, *, well: bool) -> None:
        of = {"name": name, "type": question}
        world.probe.gauge("etcd_server_healthcheck", float(well), **of)
        status = "success" if well else "error"
        world.probe.count("etcd_server_healthchecks_total", status=status, **of)

    def _log_level_page(self, world: World, request: Request) -> Answer:
        if request.method != "PUT":
            return plain_error(405, "Method Not Allowed", [("Allow", "PUT")])
        try:
            set_log_level(world.probe, request.body)
        except LogLevelRefused as problem:
            return Answer(400, [JSON], dumps({"message": str(problem)}).encode())
        return Answer(204, [])

    async def _metrics_page(self, world: World) -> Answer:
        metrics = getattr(world.probe, "metrics", None)
        if not isinstance(metrics, Metrics):  # a simulated member keeps its numbers elsewhere
            return plain_error(404, "404 page not found")
        if self._metrics is not metrics:
            self._metrics = metrics
            metrics.add_source(lambda: node_samples(self._node, self.config))
        metrics.count("promhttp_metric_handler_requests_total", labels={"code": "200"})
        metrics.gauge("promhttp_metric_handler_requests_in_flight", self._scrapes + 1.0)
        self._scrapes += 1
        try:
            text = await world.compute.run(partial(metrics.render, metrics.gather()))
        finally:
            self._scrapes -= 1
        return Answer(200, [("Content-Type", CONTENT_TYPE), CHUNKED], text)


class ScrapePages(Pages):
    """The pages of ``--listen-metrics-urls``."""

    async def answer(self, world: World, request: Request) -> Answer:
        if request.path == "/metrics":
            return await self._metrics_page(world)
        if request.path == "/health":
            return await self._health_page(world, request)
        head, _, check = request.path[1:].partition("/")
        if head in CHECKS:
            return await self._checks_page(world, request, head, check)
        return plain_error(404, "404 page not found")
