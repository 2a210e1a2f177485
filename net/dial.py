"""From a URL to a connection: TCP or a Unix socket, with TLS or without. All that dials comes through here.

``http`` and ``unix`` are plain, ``https`` and ``unixs`` are TLS; an address without a scheme is what the
dialler has credentials for. A Unix URL's host and path together are the file's name, as in etcd.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .tls_checks import CertificateRefused, check_allowed
from .tls_connection import TlsConnection
from .tls_context import ClientCredentials
from .tls_settings import ClientTls, TlsError
from .world import Connection, Listener, World

__all__ = ["Address", "Dialer", "listen", "read_url"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL points: ``path`` of a Unix socket, or else ``host`` (no IPv6 brackets) and ``port``."""

    secure: bool | None  # None: the URL does not say
    host: str
    port: int
    path: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """What is bound: equal for URLs that share a port."""
        return (self.path, 0) if self.path else (self.host, self.port)

    @property
    def authority(self) -> str:
        """What HTTP calls it."""
        if self.path:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_url(url: str) -> Address:
    """Read a URL, or a bare ``host:port``. ``ValueError`` when it is neither."""
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "", url
    secure = {"": None, "http": False, "https": True, "unix": False, "unixs": True}.get(scheme, "?")
    if scheme in ("unix", "unixs") and rest:
        parts = urlsplit(url)
        return Address(secure is True, "", 0, parts.netloc + parts.path)
    host, colon, port = rest.rstrip("/").rpartition(":")
    if isinstance(secure, str) or not colon or not port.isdigit() or "/" in host:
        raise ValueError(f"need http://host:port, got {url!r}")
    return Address(secure, host.strip("[]"), int(port))


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
        """Connect and, where the URL asks for it, shake hands. ``OSError`` when it fails; no time limit."""
        address = read_url(url)
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
