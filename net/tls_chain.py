"""Certificates and keys from memory: Python's ``ssl`` takes its own from named files only.

So a nameless file of the kernel's stands in for the moment, or a temporary one where there is no such thing.
Nothing of it is visible outside: drivers stay free of file systems, and a simulated disk can hold
certificates, too.
"""

from __future__ import annotations

import os
import ssl
import tempfile

from .tls_settings import TlsError

__all__ = ["load_chain"]


def load_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give ``context`` its own certificate chain and private key, both PEM. Raises ``TlsError``."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise TlsError("tls: failed to find any PEM data in certificate input")
    if b"PRIVATE KEY-----" not in key:
        raise TlsError("tls: failed to find any PEM data in key input")
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
    return tempfile.mkstemp()


def _no_password() -> str:
    raise TlsError("tls: the private key is encrypted")
