"""What a member's TLS flags ask for, as values, and the names that etcd's flags use for suites and versions.

etcd takes Go's names for cipher suites. OpenSSL has names of its own for those of TLS 1.2; those of TLS 1.3
cannot be chosen in either program: they are known here, and nothing follows from them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

__all__ = [
    "CIPHERS", "ClientTls", "TlsError", "TlsSettings", "check_settings", "openssl_ciphers", "tls_version",
]


class TlsError(ValueError):
    """A TLS configuration that cannot be used; the text is etcd's where etcd has one."""


#: Go's names -> OpenSSL's; "" for a suite of TLS 1.3, which is always on.
CIPHERS: Final[Mapping[str, str]] = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}


class TlsSettings(NamedTuple):
    """The flags of one port; "" and ``()`` where a flag was not given. Files are PEM."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""  # shown when we dial; "": cert_file
    client_key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_cn: str = ""  # who connects, and whom we dial, must have this common name
    allowed_hostname: str = ""  # ... or this host name
    auto: bool = False  # make a certificate when none is given, and trust any
    cipher_suites: tuple[str, ...] = ()  # Go's names; (): OpenSSL's choice
    min_version: str = "TLS1.2"
    max_version: str = ""  # "": the newest
    skip_san_check: bool = False
    self_signed_years: int = 1
    server_name: str = ""  # expected when we dial instead of the URL's host

    @property
    def empty(self) -> bool:
        """No certificate of our own is named."""
        return not self.cert_file and not self.key_file

    @property
    def usable(self) -> bool:
        """A port with these settings can speak TLS."""
        return self.auto or not self.empty

    @property
    def wants_client_certificates(self) -> bool:
        """Clients must show a certificate; naming authorities is enough, as in etcd."""
        return self.client_cert_auth or bool(self.trusted_ca_file)


class ClientTls(NamedTuple):
    """How a client speaks TLS. Files are PEM; without ``ca_file`` the system's authorities are trusted."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""  # expected instead of the endpoint's host
    insecure_skip_verify: bool = False
    allowed_cn: str = ""
    allowed_hostname: str = ""
    cipher_suites: tuple[str, ...] = ()
    min_version: str = "TLS1.2"
    max_version: str = ""


def tls_version(name: str) -> ssl.TLSVersion | None:
    """The version of a flag's text; None for "". ``TlsError`` when there is none of that name."""
    if not name:
        return None
    found = _VERSIONS.get(name)
    if found is None:
        raise TlsError(f'unexpected TLS version "{name}"')
    return found


def openssl_ciphers(names: Sequence[str]) -> str:
    """OpenSSL's list for the suites of TLS 1.2 among Go's names. ``TlsError`` for a name Go does not know."""
    found: dict[str, None] = {}
    for name in names:
        if name not in CIPHERS:
            raise TlsError(f'unexpected TLS cipher suite "{name}"')
        if CIPHERS[name]:
            found[CIPHERS[name]] = None
    return ":".join(found)


def check_settings(settings: TlsSettings) -> None:
    """Refuse settings that contradict themselves, without reading any file. Raises ``TlsError``."""
    openssl_ciphers(settings.cipher_suites)
    lowest, highest = tls_version(settings.min_version), tls_version(settings.max_version)
    if lowest is not None and highest is not None and lowest > highest:
        raise TlsError(
            f"min version ({settings.min_version}) is greater than max version ({settings.max_version})"
        )
    if lowest is ssl.TLSVersion.TLSv1_3 and settings.cipher_suites:
        raise TlsError("cipher suites cannot be configured when only TLS1.3 is enabled")
    if settings.allowed_cn and settings.allowed_hostname:
        raise TlsError(
            f'AllowedCN and AllowedHostname are mutually exclusive (cn="{settings.allowed_cn}",'
            f' hostname="{settings.allowed_hostname}")'
        )
    if not settings.empty and not (settings.cert_file and settings.key_file):
        raise TlsError(
            f"KeyFile and CertFile must both be present[key: {settings.key_file},"
            f" cert: {settings.cert_file}]"
        )
    if bool(settings.client_cert_file) != bool(settings.client_key_file):
        raise TlsError(
            f"ClientKeyFile and ClientCertFile must both be present or both absent: key:"
            f" {settings.client_key_file}, cert: {settings.client_cert_file}]"
        )
