"""The front door's metrics, asked for at each scrape: calls by method and status, bytes, connections.

The counts are kept where the calls end (``Route``), so that a request pays for one addition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tercet.core.rpc_errors import Status
from tercet.core.wire.http2_head import Route
from tercet.core.wire.services import METHODS

from ..metrics import Sample

if TYPE_CHECKING:
    from .front import Front

__all__ = ["CODE_NAMES", "front_samples"]

#: How grpc-go's metrics spell the status codes.
CODE_NAMES = {
    code: "OK" if code == 0 else code.name.title().replace("_", "").replace("Cancelled", "Canceled")
    for code in Status
}

_KINDS = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


def _kind(path: str, route: Route) -> str:
    """What grpc-go's metrics call the shape of a method."""
    method = METHODS.get(path)
    if method is None:  # a service of our own
        return "bidi_stream" if route.streaming else "unary"
    return _KINDS[method.client_streaming, method.server_streaming]


def front_samples(front: Front) -> Iterator[Sample]:
    """Samples for ``Metrics.add_source(lambda: front_samples(front))``.

    Every method is there from the start, so that "never called" is a zero; of the status codes, OK is.
    """
    yield Sample("etcd_network_client_grpc_received_bytes_total", front.received_bytes)
    yield Sample("etcd_network_client_grpc_sent_bytes_total", front.sent_bytes)
    under_way = front.calls_under_way()
    requests: dict[tuple[str, str], int] = {}
    for path, route in front.routes.items():
        service, _, method = path[1:].rpartition("/")
        kind = _kind(path, route)
        labels = (("grpc_method", method), ("grpc_service", service), ("grpc_type", kind))
        started, received, sent = 0, 0, 0
        handled = {0: 0}
        for version, one in (("unknown", route), *route.versions.items()):
            begun = one.ok + sum(one.failed.values()) + under_way.get(one, 0)
            started += begun
            received += one.received if one.streaming else begun
            sent += one.sent if one.streaming else one.ok
            handled[0] += one.ok
            for code, count in one.failed.items():
                handled[code] = handled.get(code, 0) + count
            shape = "unary" if kind == "unary" else "stream"
            requests[version, shape] = requests.get((version, shape), 0) + begun
        yield Sample("grpc_server_started_total", started, labels)
        yield Sample("grpc_server_msg_received_total", received, labels)
        yield Sample("grpc_server_msg_sent_total", sent, labels)
        for code, count in sorted(handled.items()):
            name = CODE_NAMES[Status(code)] if 0 <= code <= 16 else str(code)
            yield Sample("grpc_server_handled_total", count, (("grpc_code", name), *labels))
    for (version, shape), count in requests.items():
        if count:
            who = (("client_api_version", version), ("type", shape))
            yield Sample("etcd_server_client_requests_total", count, who)
