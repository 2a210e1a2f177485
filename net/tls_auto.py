"""Self-made certificates for ``--auto-tls`` and ``--peer-auto-tls``, kept in the data directory.

As in etcd: ``<data-dir>/fixtures/client`` and ``.../peer`` hold ``cert.pem`` and ``key.pem``; what is
there is used again. They encrypt, but nobody can verify them: members trust any certificate then.
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Sequence
from typing import Final

from .tls_settings import TlsError, TlsSettings
from .world import World

__all__ = ["with_certificate"]

_DAY: Final = 86_400


def with_certificate(
    world: World, settings: TlsSettings, folder: str, hosts: Sequence[str]
) -> TlsSettings:
    """The settings, with a certificate for ``hosts`` (names or addresses) in ``folder`` if they want one.

    Raises ``TlsError`` for a validity of no years at all, and what the disk raises.
    """
    if not settings.auto:
        return settings
    if not settings.empty:
        world.probe.log(
            "warn", "ignoring automatic TLS since certificates were given", cert=settings.cert_file
        )
        return settings._replace(auto=False)
    if settings.self_signed_years < 1:
        raise TlsError("selfSignedCertValidity is invalid,it should be greater than 0")
    certificate_path, key_path = posixpath.join(folder, "cert.pem"), posixpath.join(folder, "key.pem")
    if not (world.disk.exists(certificate_path) and world.disk.exists(key_path)):
        world.disk.make_dirs(folder)
        certificate, key = _make(hosts, world.clock.wall(), settings.self_signed_years)
        world.disk.write_atomic(key_path, key)
        world.disk.write_atomic(certificate_path, certificate)
        world.probe.log("info", "created a certificate for automatic TLS", path=certificate_path)
    return settings._replace(cert_file=certificate_path, key_file=key_path)


def _make(hosts: Sequence[str], now: float, years: int) -> tuple[bytes, bytes]:
    """A certificate and its key, both PEM; valid from ``now``, Unix seconds."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509  # only here: it takes long to load
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    begin = datetime.fromtimestamp(int(now), UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    usage = {"digital_signature": True, "key_encipherment": True}
    others = ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
              "encipher_only", "decipher_only")  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * years))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage, **dict.fromkeys(others, False)), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
    )
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(host for host in hosts if host):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
