"""The accepting side of TLS: a ``Listener`` whose connections shake hands when they are first read.

So a slow or hostile client holds up nobody but its own task, and whoever serves the connection already
bounds the time until the first bytes. Where ``http`` and ``https`` URLs share a port, the first byte tells:
22 opens every TLS handshake and no request of another kind. A connection that is refused is logged with
the reason and closed, as etcd does.
"""

from __future__ import annotations

import errno
import ssl
from typing import Final

import trio

from .tls_checks import CertificateRefused, check_allowed, check_remote, check_revoked
from .tls_connection import TlsConnection
from .tls_context import ServerCredentials
from .tls_settings import TlsError
from .world import Connection, Listener, World

__all__ = ["TlsListener"]

HANDSHAKE_SECONDS: Final = 10.0
FIRST_BYTES: Final = 65_536
_HANDSHAKE_RECORD: Final = 0x16

#: OpenSSL's reasons in etcd's words.
_REASONS: Final = {
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
    "HTTPS_PROXY_REQUEST": "tls: first record does not look like a TLS handshake",
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "remote error: tls: expired certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
}


class TlsListener:
    """Accepts TLS, and with ``plain_too`` also connections without it.

    Args:
        world: the member's.
        listener: the one below; owned from now on.
        credentials: of this port.
        plain_too: the port is shared with plain URLs.
    """

    def __init__(
        self, world: World, listener: Listener, credentials: ServerCredentials, *, plain_too: bool = False
    ) -> None:
        self._world = world
        self._listener = listener
        self._credentials = credentials
        self._plain_too = plain_too

    @property
    def address(self) -> str:
        return self._listener.address

    async def accept(self) -> _Accepted:
        return _Accepted(
            self._world, await self._listener.accept(), self._credentials, plain_too=self._plain_too
        )

    def close(self) -> None:
        self._listener.close()


class _Accepted:
    """An accepted connection: undecided until the first ``receive``, then TLS or plain."""

    def __init__(
        self, world: World, transport: Connection, credentials: ServerCredentials, *, plain_too: bool
    ) -> None:
        self._world = world
        self._transport = transport
        self._credentials = credentials
        self._plain_too = plain_too
        self._inner: Connection | None = None
        self._early = b""  # received before it was clear that the connection is plain
        self.client_common_name = ""

    @property
    def remote(self) -> str:
        return self._transport.remote

    def try_send(self, data: bytes) -> int:
        return 0 if self._inner is None else self._inner.try_send(data)

    async def send_all(self, data: bytes) -> None:
        inner = self._inner or await self._decide()
        await inner.send_all(data)

    async def receive(self, max_bytes: int) -> bytes:
        inner = self._inner or await self._decide()
        if self._early:
            data, self._early = self._early[:max_bytes], self._early[max_bytes:]
            await trio.lowlevel.checkpoint()
            return data
        return await inner.receive(max_bytes)

    @property
    def secure(self) -> bool:
        """Whether hands were shaken."""
        return self._inner is not None and self._inner is not self._transport

    def close_sending(self) -> None:
        (self._inner or self._transport).close_sending()

    def close(self) -> None:
        (self._inner or self._transport).close()

    async def _decide(self) -> Connection:
        """See what the client speaks and shake hands; raises ``OSError`` for a refused client."""
        reason = "EOF"
        tls: TlsConnection | None = None
        with self._world.clock.timeout(HANDSHAKE_SECONDS) as patience:
            try:
                first = await self._transport.receive(FIRST_BYTES)
                if first and first[0] != _HANDSHAKE_RECORD and self._plain_too:
                    self._early, self._inner = first, self._transport
                    return self._transport
                if first:
                    context = self._credentials.context()
                    tls = TlsConnection(self._transport, context, server_side=True, early=first)
                    await tls.handshake()
                    await self._check(tls)
                    self.client_common_name = tls.client_common_name
                    self._inner = tls
                    return tls
            except (OSError, TlsError) as problem:
                reason = _reason(problem)
        if patience.cancelled_caught:
            reason = "tls: handshake took too long"
        self._transport.close()
        self._world.probe.log(
            "warn",
            "rejected connection",
            **{"remote-addr": self.remote, "server-name": tls.server_name if tls is not None else ""},
            error=reason,
        )
        raise ConnectionAbortedError(errno.ECONNABORTED, reason)

    async def _check(self, tls: TlsConnection) -> None:
        """What etcd asks beyond the chain of certificates."""
        settings = self._credentials.settings
        certificate = tls.certificate()
        if not certificate:
            return
        check_allowed(certificate, tls.client_common_name, settings.allowed_cn, settings.allowed_hostname)
        if not settings.skip_san_check:
            await check_remote(certificate, tls.remote, self._world.net)
        check_revoked(self._credentials.revoked(), tls.raw_certificates())


def _reason(problem: Exception) -> str:
    """Why a client is refused, in etcd's words where they are known."""
    if isinstance(problem, ssl.SSLEOFError):
        return "EOF"
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"tls: failed to verify client's certificate: x509: {problem.verify_message}"
    if isinstance(problem, ssl.SSLError):
        return _REASONS.get(problem.reason or "", f"tls: {problem.reason or problem}")
    if isinstance(problem, CertificateRefused):
        return str(problem)
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
