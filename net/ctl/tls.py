"""TLS for a command: contexts from the files of whoever types it."""

from __future__ import annotations

import ssl

from ..tls_context import ClientCredentials
from ..tls_settings import ClientTls, TlsError
from .failures import BAD_ARGS, Failure

__all__ = ["check_tls", "tls_context"]


class _Disk:
    def read(self, path: str, /) -> bytes:
        with open(path, "rb") as file:
            return file.read()


class _Machine:
    """What credentials need of a world: to read files."""

    disk = _Disk()


def tls_context(tls: ClientTls, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A context for dialling. Raises ``OSError`` or ``TlsError`` when certificates cannot be read or used."""
    return ClientCredentials(_Machine(), tls, protocols=protocols).context()


def _is_no_pem(path: str) -> bool:
    try:
        return b"-----BEGIN" not in _Disk().read(path)
    except OSError:
        return False


def check_tls(tls: ClientTls) -> None:
    """Fail at once when certificates cannot be read."""
    try:
        tls_context(tls)
    except (OSError, TlsError) as error:
        if isinstance(error, TlsError) and tls.ca_file and _is_no_pem(tls.ca_file):
            # Nobody is trusted then, as in Go, and every handshake fails.
            return check_tls(tls._replace(ca_file=""))
        raise Failure(BAD_ARGS, getattr(error, "strerror", None) or str(error)) from None
