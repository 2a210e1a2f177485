"""What a proxy tells over HTTP: its metrics, and whether the cluster behind it answers."""

from __future__ import annotations

from functools import partial
from typing import Final

from tercet.core.errors import TercetError
from tercet.core.rpc_errors import PERMISSION_DENIED, RpcError

from ..client.client import Client
from ..config import MemberConfig
from ..metrics import CONTENT_TYPE, Metrics
from ..server.http_pages import CHUNKED, TEXT, Answer, Request, plain_error
from ..world import World

__all__ = ["ProxyPages"]

HEALTH_SECONDS: Final = 5.0
_HEALTH_KEY: Final = b"a"


class ProxyPages:
    """The pages of a proxy (``net.server.http_pages.Site``)."""

    gateway: Final = None

    def __init__(self, client: Client, config: MemberConfig) -> None:
        self._client = client
        self.config = config

    async def answer(self, world: World, request: Request) -> Answer:
        """The response to a request; etcd 3.5 has the same pages under ``/proxy``, too."""
        path = request.path.removeprefix("/proxy")
        if path == "/metrics":
            metrics = getattr(world.probe, "metrics", None)
            if isinstance(metrics, Metrics):
                text = await world.compute.run(partial(metrics.render, metrics.gather()))
                return Answer(200, [("Content-Type", CONTENT_TYPE), CHUNKED], text)
        if path == "/health":
            if request.method != "GET":
                return plain_error(405, "Method Not Allowed", [("Allow", "GET")])
            if await self._is_healthy():
                return Answer(200, [TEXT], b'{"health":"true"}')
            return plain_error(503, '{"health":"false"}')
        return plain_error(404, "404 page not found")

    async def _is_healthy(self) -> bool:
        """A linearizable read goes through; one that is refused for want of rights went through, too."""
        try:
            await self._client.get(_HEALTH_KEY, timeout=HEALTH_SECONDS)
        except RpcError as error:
            return error.message == PERMISSION_DENIED.message
        except TercetError:
            return False
        return True
