"""A member's bound ports, with TLS where their URLs ask for it.

Everything is bound before anything is written, so that an occupied port or an unreadable certificate is
known first. URLs of one host and port share a listener; where they differ in TLS, the first byte of a
connection tells which it is. A port without any ``https`` or ``unixs`` URL pays nothing for this.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from .config import MemberConfig
from .dial import Address, listen, read_url
from .tls_auto import with_certificate
from .tls_context import CLIENT_PORT_PROTOCOLS, ServerCredentials
from .tls_listener import TlsListener
from .tls_settings import TlsError, TlsSettings
from .world import Listener, World

__all__ = ["Listeners", "with_own_certificates"]


def with_own_certificates(world: World, config: MemberConfig) -> MemberConfig:
    """The configuration with certificates made for ``--auto-tls`` and ``--peer-auto-tls``, if asked for.

    Raises ``TlsError``, and what the disk raises.
    """
    folder = posixpath.join(config.data_dir, "fixtures")
    client = with_certificate(
        world, config.client_tls, posixpath.join(folder, "client"), _hosts(config.listen_client_urls)
    )
    peer = with_certificate(
        world, config.peer_tls, posixpath.join(folder, "peer"), _hosts(config.listen_peer_urls)
    )
    return replace(config, client_tls=client, peer_tls=peer)


def _hosts(urls: Sequence[str]) -> list[str]:
    return [urlsplit(url).hostname or "" for url in urls]


class Listeners:
    """The bound ports of a member."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.client: list[Listener] = []
        self.peer: list[Listener] = []
        self.metrics: list[Listener] = []
        self.http: list[Listener] = []  # for HTTP clients alone; empty: they come to ``client``

    async def open(self, config: MemberConfig) -> None:
        """Bind everything. Raises ``OSError`` or ``TlsError``; what was bound is closed by ``close``."""
        client = ServerCredentials(self._world, config.client_tls, protocols=CLIENT_PORT_PROTOCOLS)
        peer = ServerCredentials(self._world, config.peer_tls)
        for urls, credentials, listeners in (
            (config.listen_peer_urls, peer, self.peer),
            (config.listen_client_urls, client, self.client),
            (config.listen_client_http_urls, client, self.http),
            (config.listen_metrics_urls, client, self.metrics),
        ):
            places: dict[tuple[str, int], list[Address]] = {}
            for url in urls:
                address = read_url(url)
                places.setdefault(address.place, []).append(address)
            for addresses in places.values():
                listeners.append(await self._bind(addresses, credentials))
        for name, settings in (("client", config.client_tls), ("peer", config.peer_tls)):
            if not settings.empty:
                self._world.probe.log(
                    "info",
                    f"starting with {name} TLS",
                    cert=settings.cert_file,
                    key=settings.key_file,
                    **{"trusted-ca": settings.trusted_ca_file},
                    **{"client-cert-auth": settings.client_cert_auth, "crl-file": settings.crl_file},
                )

    async def _bind(self, addresses: list[Address], credentials: ServerCredentials) -> Listener:
        secure = [address for address in addresses if address.secure]
        if secure:
            _check(secure[0], credentials.settings)
            credentials.context()  # what is wrong with the files is said now
        listener = await listen(self._world, addresses[0])
        if not secure:
            return listener
        return TlsListener(self._world, listener, credentials, plain_too=len(secure) < len(addresses))

    def close(self) -> None:
        for listener in (*self.client, *self.peer, *self.metrics, *self.http):
            listener.close()


def _check(address: Address, settings: TlsSettings) -> None:
    if settings.empty:
        place = address.path or address.authority
        raise TlsError(f"cannot listen on TLS for {place}: KeyFile and CertFile are not presented")
