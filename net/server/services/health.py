"""gRPC's health service: a member that answers serves. The finer questions have HTTP pages of their own."""

from __future__ import annotations

import trio

from tercet.core import rpc_errors
from tercet.core.rpc_errors import RpcRejected, Status
from tercet.core.wire.proto import health_pb2 as healthpb

from ..call import StreamCall, StreamHandler, UnaryCall, UnaryHandler

__all__ = ["HealthService"]

_SERVICE = "/grpc.health.v1.Health"
_UNKNOWN = RpcRejected(Status.NOT_FOUND, "unknown service")


class HealthService:
    """``grpc.health.v1.Health``: the server as a whole is the only service it knows, as in etcd."""

    def __init__(self) -> None:
        self._stopped = False
        self._pauses = 0
        self._changed = trio.Event()

    def unary(self) -> dict[str, UnaryHandler]:
        """The handlers by path."""
        return {f"{_SERVICE}/Check": self.check}

    def stream(self) -> dict[str, StreamHandler]:
        """The streaming handlers by path."""
        return {f"{_SERVICE}/Watch": self.watch}

    def stop(self) -> None:
        """The member stops: watchers are told so."""
        self._stopped = True
        self._tell()

    def pause(self, on: bool) -> None:
        """Something begins, or ends, during which clients should go to another member."""
        self._pauses += 1 if on else -1
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def check(self, call: UnaryCall) -> None:
        """The status now."""
        if healthpb.HealthCheckRequest.FromString(call.message).service:
            call.fail(_UNKNOWN.code, _UNKNOWN.message)
        else:
            call.reply(_status(self._now()))

    async def watch(self, call: StreamCall) -> None:
        """The status now and whenever it changes; a service that is not known stays so."""
        message = await call.receive()
        if message is None:
            raise rpc_errors.undecodable("grpc.health.v1.HealthCheckRequest")
        known = not healthpb.HealthCheckRequest.FromString(message).service
        told: int | None = None
        while True:
            changed, stopped = self._changed, self._stopped
            now = self._now() if known else healthpb.HealthCheckResponse.SERVICE_UNKNOWN
            if now != told:
                told = now
                await call.send(_status(now))
            if stopped:
                return
            await changed.wait()

    def _now(self) -> healthpb.HealthCheckResponse.ServingStatus.ValueType:
        if self._stopped or self._pauses:
            return healthpb.HealthCheckResponse.NOT_SERVING
        return healthpb.HealthCheckResponse.SERVING


def _status(status: healthpb.HealthCheckResponse.ServingStatus.ValueType) -> bytes:
    return healthpb.HealthCheckResponse(status=status).SerializeToString()
