"""What is asked of a certificate beyond its chain: names, addresses, revocation. As etcd asks it.

A client certificate that names hosts or addresses may be used from those only; one that names none, from
anywhere. The common name or host name that a flag demands is checked on what we accept and on what we dial.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = [
    "CertificateRefused", "Resolver", "check_allowed", "check_remote", "check_revoked", "common_name_in",
    "matches_host",
]


class CertificateRefused(ConnectionAbortedError):
    """The certificate is valid, and not acceptable here."""


class Resolver(Protocol):
    """The part of ``net.world.Network`` that knows names."""

    async def lookup_host(self, host: str) -> tuple[str, ...]: ...

    async def lookup_address(self, address: str) -> tuple[str, ...]: ...


def check_allowed(certificate: Mapping[str, Any], common_name: str, allowed_cn: str, hostname: str) -> None:
    """Raise ``CertificateRefused`` unless the certificate has the name that a flag demands; "": any."""
    if allowed_cn and common_name != allowed_cn:
        raise CertificateRefused("client certificate authentication failed")
    if hostname and not matches_host(certificate, hostname):
        raise CertificateRefused("client certificate authentication failed")


def common_name_in(certificate: bytes) -> str:
    """Whom a certificate, PEM, names; "" for nobody. ``ValueError`` when it is none."""
    from cryptography import x509  # only here: it takes long to load
    from cryptography.x509.oid import NameOID

    found = x509.load_pem_x509_certificate(certificate).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def check_revoked(revocations: bytes, certificates: Sequence[bytes]) -> None:
    """Raise ``CertificateRefused`` when one of the DER certificates is on the list, PEM or DER; b"": none."""
    if not revocations:
        return
    from cryptography import x509  # only here: it takes long to load

    pem = b"-----BEGIN" in revocations
    try:
        found = x509.load_pem_x509_crl(revocations) if pem else x509.load_der_x509_crl(revocations)
    except ValueError as problem:
        raise CertificateRefused(f"transport: cannot read the revocation list: {problem}") from None
    for der in certificates:
        serial = x509.load_der_x509_certificate(der).serial_number
        if found.get_revoked_certificate_by_serial_number(serial) is not None:
            raise CertificateRefused(f"transport: certificate serial {serial:x} revoked")


async def check_remote(certificate: Mapping[str, Any], remote: str, resolver: Resolver) -> None:
    """Raise ``CertificateRefused`` when the certificate is made for other hosts than where it comes from."""
    addresses, names = _alternatives(certificate)
    if not addresses and not names:
        return
    host = remote.rpartition(":")[0].strip("[]")
    if _address(host) is None:
        return  # a Unix socket: its file's rights decide
    if addresses and matches_host(certificate, host):
        return
    if not names:
        raise CertificateRefused(f"x509: certificate is valid for {', '.join(addresses)}, not {host}")
    for name in names:
        if await _resolves_to(name, host, resolver):
            return
    listed = " ".join(f'"{name}"' for name in names)
    raise CertificateRefused(f'tls: "{host}" does not match any of DNSNames [{listed}]')


def matches_host(certificate: Mapping[str, Any], host: str) -> bool:
    """Whether a certificate is made for a host name or an address, by its alternative names."""
    addresses, names = _alternatives(certificate)
    wanted = _address(host.strip("[]"))
    if wanted is not None:
        return any(_address(text) == wanted for text in addresses)
    return any(_covers(name, host) for name in names)


def _alternatives(certificate: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    rows = certificate.get("subjectAltName", ())
    return [v for k, v in rows if k == "IP Address"], [v for k, v in rows if k == "DNS"]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0].strip())
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _covers(pattern: str, host: str) -> bool:
    """A leading ``*`` stands for one label."""
    pattern, host = pattern.lower().rstrip("."), host.lower().rstrip(".")
    if pattern.startswith("*."):
        return bool(host.partition(".")[0]) and host.partition(".")[2] == pattern[2:]
    return pattern == host


async def _resolves_to(name: str, host: str, resolver: Resolver) -> bool:
    wanted = _address(host)
    try:
        if name.startswith("*."):
            return any(_covers(name, found) for found in await resolver.lookup_address(host))
        return any(_address(found) == wanted for found in await resolver.lookup_host(name))
    except OSError:
        return False
