"""From a URL to a connection: TCP or a Unix socket, with TLS or without. All members dial through here."""

from __future__ import annotations

from .address import Address, read_url
from .tls_checks import CertificateRefused, check_allowed
from .tls_connection import TlsConnection
from .tls_context import ClientCredentials
from .tls_settings import ClientTls, TlsError
from .world import Connection, Listener, World

__all__ = ["Address", "Dialer", "listen", "read_url"]


async def listen(world: World, address: Address) -> Listener:
    """Bind an address, without TLS; see ``net.world.Network``."""
    if address.path:
        return await world.net.listen_unix(address.path)
    return await world.net.listen(address.host, address.port)


class Dialer:
    """Dials for one client or member.

    Args:
        world: whose network and disk it is.
        tls: None: certificates are checked by the system's authorities where a URL asks for TLS.
        protocols: offered to servers, e.g. ``("h2",)``.
    """

    def __init__(
        self, world: World, tls: ClientTls | None = None, *, protocols: tuple[str, ...] = ()
    ) -> None:
        self._world = world
        self._secure_by_default = tls is not None
        self._credentials = ClientCredentials(world, tls or ClientTls(), protocols=protocols)

    async def dial(self, url: str) -> Connection:
        """Connect and, where the URL asks for it, shake hands. ``OSError`` when it fails; no time limit.

        What is no URL cannot be connected to either: others name members, and may name them wrongly.
        """
        try:
            return await self._dial(read_url(url))
        except OSError:  # some of TLS's are a ValueError, too
            raise
        except (ValueError, OverflowError) as problem:  # a name or port that the system cannot even look up
            raise OSError(f"cannot dial {url!r}: {problem}") from None

    async def _dial(self, address: Address) -> Connection:
        world = self._world
        if address.path:
            transport = await world.net.connect_unix(address.path)
        else:
            transport = await world.net.connect(address.host, address.port)
        secure = self._secure_by_default if address.secure is None else address.secure
        if not secure:
            return transport
        try:
            return await self._shake_hands(transport, address)
        except BaseException:
            transport.close()
            raise

    async def _shake_hands(self, transport: Connection, address: Address) -> Connection:
        settings = self._credentials.settings
        try:
            context = self._credentials.context()
        except TlsError as problem:
            raise ConnectionAbortedError(str(problem)) from None
        name = settings.server_name or address.host or "localhost"
        tls = TlsConnection(transport, context, server_name=name)
        await tls.handshake(self._check_name)
        return tls

    def _check_name(self, tls: TlsConnection) -> None:
        """Whom we dial must have the name that a flag demands."""
        settings = self._credentials.settings
        if settings.allowed_cn or settings.allowed_hostname:
            certificate = tls.certificate()
            if not certificate:
                raise CertificateRefused("client certificate authentication failed")
            check_allowed(certificate, tls.client_common_name, settings.allowed_cn, settings.allowed_hostname)
