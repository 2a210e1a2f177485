"""Certificates and keys from memory: Python's ``ssl`` takes its own from named files only.

So a nameless file of the kernel's stands in for the moment, or a temporary one where there is no such thing.
Nothing of it is visible outside: drivers stay free of file systems, and a simulated disk can hold
certificates, too.
"""

from __future__ import annotations

import os
import re
import ssl

from .tls_settings import TlsError

__all__ = ["load_chain"]


def load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give ``context`` its own certificate chain and private key, both PEM. Raises ``TlsError``."""
    _check_kinds(_kinds(certificate), _kinds(key))
    descriptor, path = _open()
    try:
        os.write(descriptor, certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(path, password=_no_password)
    except ssl.SSLError as problem:
        if problem.reason == "KEY_VALUES_MISMATCH":
            raise TlsError("tls: private key does not match public key") from None
        raise TlsError(f"tls: cannot use this certificate and key: {problem.reason or problem}") from None
    finally:
        os.close(descriptor)
        if not path.startswith("/proc/"):
            os.unlink(path)


def _open() -> tuple[int, str]:
    """A file for our eyes only, and a name to open it by."""
    create = getattr(os, "memfd_create", None)
    if create is not None:
        descriptor = int(create("certificate"))
        return descriptor, f"/proc/self/fd/{descriptor}"
    import tempfile  # only here: rarely needed

    return tempfile.mkstemp()


def _kinds(data: bytes) -> list[str]:
    """What the blocks of a PEM file call themselves."""
    return [kind.decode("ascii", "replace") for kind in re.findall(rb"-----BEGIN ([^\n]+?)-----", data)]


def _check_kinds(certificate: list[str], key: list[str]) -> None:
    """Refuse files without a certificate or a key, as Go does. Raises ``TlsError``."""
    skipped = "after skipping PEM blocks of the following types: [{}]"
    if "CERTIFICATE" not in certificate:
        if not certificate:
            raise TlsError("tls: failed to find any PEM data in certificate input")
        if len(certificate) == 1 and certificate[0].endswith("PRIVATE KEY"):
            raise TlsError(
                "tls: failed to find certificate PEM data in certificate input, but did find a private key;"
                " PEM inputs may have been switched"
            )
        raise TlsError(
            'tls: failed to find "CERTIFICATE" PEM block in certificate input '
            + skipped.format(" ".join(certificate))
        )
    if not any(kind.endswith("PRIVATE KEY") for kind in key):
        if not key:
            raise TlsError("tls: failed to find any PEM data in key input")
        if key == ["CERTIFICATE"]:
            raise TlsError("tls: found a certificate rather than a key in the PEM for the private key")
        raise TlsError(
            'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input '
            + skipped.format(" ".join(key))
        )


def _no_password() -> str:
    raise TlsError("tls: the private key is encrypted")
