"""Certificates made for one test: an authority, and what it signs."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "Pair"]

_PEM = serialization.Encoding.PEM
_EVERYTHING = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM and in files."""

    certificate: bytes
    key: bytes
    cert_file: str
    key_file: str
    serial: int


class Authority:
    """Signs certificates into a folder. ``fixed_size``: signatures of one length, for simulations."""

    def __init__(self, folder: Path, name: str = "authority", *, fixed_size: bool = False) -> None:
        self.folder = folder
        self._fixed_size = fixed_size
        self._key = self._new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, -1, 30).public_key(self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = builder.sign(self._key, self._hash).public_bytes(_PEM)
        self.file = str(folder / f"{name}.pem")
        Path(self.file).write_bytes(self.certificate)

    def sign(
        self,
        name: str,
        *,
        hosts: Sequence[str] = (),
        days: tuple[int, int] = (-1, 30),
        usage: Sequence[x509.ObjectIdentifier] = _EVERYTHING,
        file: str = "",
    ) -> Pair:
        """A certificate with the common name ``name``, valid from and until so many days from now."""
        key = self._new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
        builder = self._builder(subject, *days).public_key(key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        if hosts:
            names = [x509.DNSName(h) if h[0].isalpha() or h[0] == "*" else
                     x509.IPAddress(ipaddress.ip_address(h)) for h in hosts]  # fmt: skip
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, self._hash)
        stem = self.folder / (file or name or "nameless")
        pair = Pair(
            certificate.public_bytes(_PEM),
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
            f"{stem}.crt",
            f"{stem}.key",
            certificate.serial_number,
        )
        Path(pair.cert_file).write_bytes(pair.certificate)
        Path(pair.key_file).write_bytes(pair.key)
        return pair

    def revoke(self, *serials: int) -> str:
        """A revocation list with these serial numbers; its file."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now).next_update(now + timedelta(days=9))
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        path = self.folder / "revoked.crl"
        path.write_bytes(builder.sign(self._key, self._hash).public_bytes(_PEM))
        return str(path)

    def _new_key(self) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey:
        if self._fixed_size:
            return ed25519.Ed25519PrivateKey.generate()
        return ec.generate_private_key(ec.SECP256R1())

    @property
    def _hash(self) -> hashes.SHA256 | None:
        return None if self._fixed_size else hashes.SHA256()

    def _builder(self, subject: x509.Name, begin: int, end: int) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begin))
            .not_valid_after(now + timedelta(days=end))
        )
