"""``lease keep-alive``: once, or until the lease is gone."""

from __future__ import annotations

from tercet.core.errors import TercetError
from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.client import Client
from ..client.lease import KEEP_ALIVE_PATH
from .calls import DEADLINE, error_text
from .context import Context, Settings, write
from .do_lease import lease_argument
from .failures import BAD_CONNECTION, ERROR, Failure
from .session import connect, world

__all__ = ["keep_alive"]

#: How long the first answer may take once there is a connection.
FIRST_SECONDS = 1.0
GONE = "etcdserver: requested lease not found"


def keep_alive(context: Context) -> None:
    """``lease keep-alive``: once, or until the lease is gone."""
    context.need(len(context.arguments) == 1, "lease keep-alive command needs lease ID as argument")
    lease = lease_argument(context)
    settings = context.settings()
    if context.yes("once"):
        try:
            answer = context.run(_keep_alive_once, settings, lease)
        except Failure as failure:
            raise Failure(BAD_CONNECTION, failure.text) from None
        context.show("keep_alive", answer)
        return
    context.run(_keep_alive, context, settings, lease)
    if context.printer.format == "simple":
        write(f"lease {lease & (1 << 64) - 1:016x} expired or revoked.\n")


async def _keep_alive_once(settings: Settings, lease: int) -> rpc.LeaseKeepAliveResponse:
    async with connect(settings) as client:
        answer = await _renewed(client, lease)
    if answer is None:
        raise Failure(ERROR, DEADLINE)
    if answer.TTL <= 0:
        raise Failure(ERROR, GONE)
    return answer


async def _renewed(client: Client, lease: int) -> rpc.LeaseKeepAliveResponse | None:
    """Renew once; None when there was no answer in time."""
    answer = None
    with world().clock.timeout(client.request_timeout):
        connection = await client.connection()
        call = connection.start(KEEP_ALIVE_PATH, client.metadata)
        try:
            call.send(rpc.LeaseKeepAliveRequest(ID=lease).SerializeToString(), end=True)
            answer = await call.receive()
        finally:
            call.cancel()
    return None if answer is None else rpc.LeaseKeepAliveResponse.FromString(answer)


async def _keep_alive(context: Context, settings: Settings, lease: int) -> None:
    """Renew at every third of the lease's life, and print each answer, until it is gone for all we know."""
    clock = world().clock
    async with connect(settings) as client:
        lives_until = clock.monotonic() + settings.dial_timeout + FIRST_SECONDS
        while True:
            asked_at = clock.monotonic()
            try:
                answer = await _renewed(client, lease)
            except TercetError as error:
                if error_text(error) == GONE:
                    return
                answer = None
            if answer is None:
                if clock.monotonic() > lives_until:
                    return
                client.rotate()
                await clock.sleep(0.5)
                continue
            if answer.TTL <= 0:
                return
            lives_until = asked_at + answer.TTL
            context.show("keep_alive", answer)
            await clock.sleep(answer.TTL / 3)
