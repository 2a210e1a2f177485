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
    """Samples for ``Metrics.add_source(lambda: front_samples(front))``."""
    yield Sample("etcd_network_client_grpc_received_bytes_total", front.received_bytes)
    yield Sample("etcd_network_client_grpc_sent_bytes_total", front.sent_bytes)
    under_way = front.calls_under_way()
    for path, route in front.routes.items():
        service, _, method = path[1:].rpartition("/")
        labels = (("grpc_method", method), ("grpc_service", service), ("grpc_type", _kind(path, route)))
        started = route.ok + sum(route.failed.values()) + under_way.get(path, 0)
        if started:
            yield Sample("grpc_server_started_total", started, labels)
        for code, count in [(0, route.ok), *sorted(route.failed.items())]:
            if count:
                name = CODE_NAMES[Status(code)] if 0 <= code <= 16 else str(code)
                yield Sample("grpc_server_handled_total", count, (("grpc_code", name), *labels))
