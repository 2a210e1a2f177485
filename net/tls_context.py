"""TLS contexts made from files that may change: certificates are rotated under a running member.

Each handshake reads the files again; they are small, and a handshake costs far more. A context is built
anew only when their contents have changed. A file that cannot be read or used fails that handshake and
nothing else: the next one tries again.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final, Protocol

from .tls_chain import load_chain
from .tls_settings import ClientTls, TlsError, TlsSettings, openssl_ciphers, tls_version

__all__ = ["ClientCredentials", "HasDisk", "ServerCredentials", "peer_client_tls", "read_file"]

#: HTTP/1.1 comes first: who offers both is a browser or curl; gRPC offers h2 alone.
CLIENT_PORT_PROTOCOLS: Final = ("http/1.1", "h2")


class Reads(Protocol):
    """All that credentials ask of a disk."""

    def read(self, path: str, /) -> bytes:
        """A file's contents; raises ``OSError``."""


class HasDisk(Protocol):
    """A ``net.world.World``, or anything else with a disk."""

    @property
    def disk(self) -> Reads:
        """Where certificates and keys are."""


def read_file(world: HasDisk, path: str) -> bytes:
    """A file's contents; ``OSError`` with the path in its text."""
    try:
        return world.disk.read(path)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        asked = "read" if isinstance(problem, IsADirectoryError) else "open"  # as Go tells what failed
        raise OSError(problem.errno, f"{asked} {path}: {reason}") from None


class ServerCredentials:
    """The accepting side of a port."""

    def __init__(self, world: HasDisk, settings: TlsSettings, *, protocols: Sequence[str] = ()) -> None:
        self.settings = settings
        self._world = world
        self._protocols = list(protocols)
        self._seen: tuple[bytes, bytes, bytes] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context of the next handshake. Raises ``OSError`` or ``TlsError``."""
        settings = self.settings
        files = (
            read_file(self._world, settings.cert_file),
            read_file(self._world, settings.key_file),
            read_file(self._world, settings.trusted_ca_file) if settings.trusted_ca_file else b"",
        )
        if self._context is None or files != self._seen:
            self._context = self._build(*files)
            self._seen = files
        return self._context

    def revoked(self) -> bytes:
        """The revocation list as it is now; b"" when there is none."""
        return read_file(self._world, self.settings.crl_file) if self.settings.crl_file else b""

    def _build(self, certificate: bytes, key: bytes, authorities: bytes) -> ssl.SSLContext:
        settings = self.settings
        context = _context(
            ssl.PROTOCOL_TLS_SERVER, settings.min_version, settings.max_version, settings.cipher_suites
        )
        context.num_tickets = 0  # a resumed session would not be verified again
        context.options |= ssl.OP_NO_TICKET | ssl.OP_SINGLE_ECDH_USE | ssl.OP_CIPHER_SERVER_PREFERENCE
        load_chain(context, certificate, key)
        if settings.wants_client_certificates:
            _trust(context, authorities, ssl.Purpose.CLIENT_AUTH)
            context.verify_mode = ssl.CERT_REQUIRED
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        context.sni_callback = _remember_server_name
        return context


class ClientCredentials:
    """The dialling side."""

    def __init__(self, world: HasDisk, settings: ClientTls, *, protocols: Sequence[str] = ()) -> None:
        self.settings = settings
        self._world = world
        self._protocols = list(protocols)
        self._seen: tuple[bytes, bytes, bytes] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context of the next handshake. Raises ``OSError`` or ``TlsError``."""
        settings = self.settings
        if bool(settings.cert_file) != bool(settings.key_file):
            raise TlsError(
                f"KeyFile and CertFile must both be present[key: {settings.key_file},"
                f" cert: {settings.cert_file}]"
            )
        files = (
            read_file(self._world, settings.cert_file) if settings.cert_file else b"",
            read_file(self._world, settings.key_file) if settings.key_file else b"",
            read_file(self._world, settings.ca_file) if settings.ca_file else b"",
        )
        if self._context is None or files != self._seen:
            self._context = self._build(*files)
            self._seen = files
        return self._context

    def _build(self, certificate: bytes, key: bytes, authorities: bytes) -> ssl.SSLContext:
        settings = self.settings
        context = _context(
            ssl.PROTOCOL_TLS_CLIENT, settings.min_version, settings.max_version, settings.cipher_suites
        )
        if settings.cert_file:
            load_chain(context, certificate, key)
        if settings.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.hostname_checks_common_name = False
            _trust(context, authorities, ssl.Purpose.SERVER_AUTH)
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        return context


def peer_client_tls(settings: TlsSettings) -> ClientTls:
    """How a member dials its peers, from the settings of its own peer port."""
    separate = bool(settings.client_cert_file)
    return ClientTls(
        ca_file=settings.trusted_ca_file,
        cert_file=settings.client_cert_file if separate else settings.cert_file,
        key_file=settings.client_key_file if separate else settings.key_file,
        server_name=settings.server_name,
        insecure_skip_verify=settings.auto,
        allowed_cn=settings.allowed_cn,
        allowed_hostname=settings.allowed_hostname,
        cipher_suites=settings.cipher_suites,
        min_version=settings.min_version,
        max_version=settings.max_version,
    )


def _context(protocol: int, lowest: str, highest: str, suites: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = tls_version(lowest) or ssl.TLSVersion.TLSv1_2
    context.maximum_version = tls_version(highest) or ssl.TLSVersion.MAXIMUM_SUPPORTED
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if suites:
        ciphers = openssl_ciphers(suites)
        if not ciphers:  # only suites of TLS 1.3 are wanted
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        else:
            try:
                context.set_ciphers(ciphers)
            except ssl.SSLError:
                raise TlsError(f"none of these cipher suites is available: {', '.join(suites)}") from None
    return context


def _remember_server_name(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
    tls.asked_for = name or ""  # type: ignore[union-attr]


def _trust(context: ssl.SSLContext, authorities: bytes, purpose: ssl.Purpose) -> None:
    """Trust these PEM certificates, or the system's when there are none."""
    if not authorities:
        context.load_default_certs(purpose)
        return
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whatever is named is trusted, as in Go
    try:
        context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    except ssl.SSLError as problem:
        raise TlsError(f"tls: cannot use these authorities: {problem.reason or problem}") from None
