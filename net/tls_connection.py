"""TLS on a ``Connection``: OpenSSL between memory and memory, our own ports below and above.

``try_send`` must tell at once how much has left. What was encrypted cannot be taken back, so bytes whose
record the kernel did not take entirely are not counted as taken: the caller offers them again, as it must,
and then they are recognised by their number (``_owed``) and not encrypted twice.

What the other end does wrong is an ``OSError`` (``ssl.SSLError`` is one), as on a plain connection.
"""

from __future__ import annotations

import contextlib
import errno
import ssl
from collections.abc import Callable
from typing import Any, Final

import trio

from .tls_checks import CertificateRefused
from .world import Connection

__all__ = ["TlsConnection", "client_common_name"]

RECEIVE_BYTES: Final = 256 * 1024
ANSWERS_BYTES_MAX: Final = 1 << 20  # of unread answers to what the protocol itself asks (new keys)
PIECE_BYTES: Final = 64 * 1024  # encrypted at once, and then offered to the kernel
BAD_CERTIFICATE_ALERT: Final = bytes.fromhex("15 0303 0002 02 2a")  # a record: alert, fatal, number 42


class TlsConnection:
    """One end of a TLS connection; ``handshake`` comes first. See ``net.world.Connection``.

    Args:
        transport: the connection below; owned from now on.
        context: of the matching side.
        server_side: we accepted.
        server_name: whom we dial: for SNI, and for the certificate's check.
        early: bytes that were received already.
    """

    def __init__(
        self,
        transport: Connection,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_name: str | None = None,
        early: bytes = b"",
    ) -> None:
        self._transport = transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        if early:
            self._incoming.write(early)
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._unsent = b""  # encrypted, and not taken by the kernel
        self._owed = 0  # bytes that are encrypted, but not counted as taken
        self._sending = False
        self._established = False
        self._closed = False
        #: The common name of the other end's verified certificate; "" without one.
        self.client_common_name = ""

    @property
    def remote(self) -> str:
        return self._transport.remote

    @property
    def version(self) -> str:
        """``TLSv1.2`` or ``TLSv1.3``; "" before the handshake."""
        return self._tls.version() or ""

    @property
    def server_name(self) -> str:
        """Whom the client asked for; "" when it did not say, or has not yet."""
        return str(getattr(self._tls, "asked_for", ""))

    def certificate(self) -> dict[str, Any]:
        """The other end's verified certificate as ``ssl`` shows it; empty without one."""
        return self._tls.getpeercert() or {}

    def raw_certificates(self) -> list[bytes]:
        """What the other end has shown, as DER, its own certificate first."""
        chain = getattr(self._tls, "get_unverified_chain", None)  # Python 3.13
        found = [bytes(der) for der in chain()] if chain is not None else []
        own = self._tls.getpeercert(binary_form=True)
        return found or ([own] if own else [])

    async def handshake(self, accept: Callable[[TlsConnection], None] | None = None) -> None:
        """Agree on keys, and verify certificates. Raises ``OSError``; the caller closes.

        Args:
            accept: what a client asks of the server beyond a valid certificate: raises
                ``CertificateRefused``, and the server is told.
        """
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._push()
                self._feed(await self._transport.receive(RECEIVE_BYTES))
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._push()  # the alert that tells the other end why
                raise
        subject = self.certificate().get("subject", ())
        names = [value for part in subject for key, value in part if key == "commonName"]
        self.client_common_name = names[-1] if names else ""
        if accept is not None:
            try:
                accept(self)
            except CertificateRefused:
                await self._tell_refusal()
                raise
        await self._push()
        self._established = True

    async def _tell_refusal(self) -> None:
        """Say why, in the place of our last flight.

        TLS 1.3 alone lets a client judge before that, and a server read an alert without encryption there
        (OpenSSL does); with 1.2 the server will see the connection end.
        """
        if self.version == "TLSv1.3":
            with contextlib.suppress(OSError):
                await self._transport.send_all(BAD_CERTIFICATE_ALERT)

    # Sending.

    def try_send(self, data: bytes | memoryview) -> int:
        self._check()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        if not self._flush():
            return 0
        taken, self._owed = self._owed, 0
        view = memoryview(data)
        while taken < len(view):
            count = self._tls.write(view[taken : taken + PIECE_BYTES])
            if not self._flush():
                self._owed = count
                break
            taken += count
        return taken

    async def send_all(self, data: bytes | memoryview) -> None:
        self._check()
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        await trio.lowlevel.checkpoint()
        view = memoryview(data)
        taken, self._owed = self._owed, 0
        self._sending = True
        try:
            await self._push()
            while taken < len(view):
                taken += self._tls.write(view[taken : taken + PIECE_BYTES])
                await self._push()
        finally:
            self._sending = False

    def _flush(self) -> bool:
        """Offer everything encrypted to the kernel; whether it took it all."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._unsent:
            taken = self._transport.try_send(self._unsent)
            self._unsent = self._unsent[taken:]
        return not self._unsent

    async def _push(self) -> None:
        """Send everything encrypted, waiting as needed."""
        while self._unsent or self._outgoing.pending:
            data = self._unsent + self._outgoing.read()
            self._unsent = b""
            await self._transport.send_all(data)

    # Receiving.

    async def receive(self, max_bytes: int) -> bytes:
        self._check()
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            try:
                data = self._read(max_bytes)
            except ssl.SSLWantReadError:
                pass
            else:
                if not waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return data
            if self._outgoing.pending and not self._sending:
                self._flush()  # an answer of the protocol's own
                if len(self._unsent) > ANSWERS_BYTES_MAX:
                    raise ConnectionResetError(errno.ECONNRESET, "the other end asks and does not read")
            self._feed(await self._transport.receive(RECEIVE_BYTES))
            waited = True

    def _read(self, max_bytes: int) -> bytes:
        """As many records as have arrived; b"" when the other end has said goodbye."""
        parts: list[bytes] = []
        size = 0
        while size < max_bytes:
            try:
                part = self._tls.read(max_bytes - size)
            except ssl.SSLZeroReturnError:
                break
            except ssl.SSLWantReadError:
                if not parts:
                    raise
                break
            except ssl.SSLEOFError:
                if parts:
                    break
                raise ConnectionResetError(errno.ECONNRESET, "the connection ended in mid-stream") from None
            if not part:
                break
            parts.append(part)
            size += len(part)
            if not self._incoming.pending and not self._tls.pending():
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    # The end.

    def close_sending(self) -> None:
        self._check()
        self._say_goodbye()
        self._transport.close_sending()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._established and not self._sending:
                with contextlib.suppress(OSError, trio.ClosedResourceError, trio.BusyResourceError):
                    self._say_goodbye()
            self._transport.close()

    def _say_goodbye(self) -> None:
        """Tell the other end that nothing follows: the difference to a connection that was cut."""
        with contextlib.suppress(ssl.SSLError):  # it waits for an answer, which we do not
            self._tls.unwrap()
        if not self._sending:
            self._flush()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this connection was already closed")


def client_common_name(connection: Connection) -> str:
    """The common name of a client's verified certificate; "" on connections without one.

    An accepted connection knows it once something was received on it.
    """
    return str(getattr(connection, "client_common_name", ""))
