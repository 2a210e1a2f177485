"""Signed tokens: ``--auth-token jwt,sign-method=RS256,pub-key=F,priv-key=F,ttl=5m``.

A JSON Web Token carries user and auth revision, so members keep nothing, and any change of users or roles
makes all tokens old. A member with a public key alone checks tokens and gives out none.

Source: RFC 7519; options and claims are etcd's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import load_pem_x509_certificate

from tercet.core.auth.values import Identity
from tercet.core.rpc_errors import RpcRejected, Status

from .flag_values import parse_duration

__all__ = ["JwtTokens"]

_TTL_SECONDS: Final = 300.0
_KNOWN = ("sign-method", "pub-key", "priv-key", "ttl")
_FAMILIES: Final[Mapping[str, tuple[type, ...]]] = {
    "RS": (rsa.RSAPublicKey, rsa.RSAPrivateKey),
    "PS": (rsa.RSAPublicKey, rsa.RSAPrivateKey),
    "ES": (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey),
    "Ed": (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey),
}
_METHODS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256",
    "HS384", "HS512",
)  # fmt: skip
_CURVES: Final[Mapping[str, str]] = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_VERIFY_ONLY = RpcRejected(Status.UNKNOWN, "auth: token signing attempted with verify-only key")
_UNCHECKED = ("exp", "aud", "iss", "iat", "nbf", "sub", "jti")  # the time is compared by the world's clock
_CHECKS: Any = {f"verify_{claim}": False for claim in _UNCHECKED}
_REMEMBERED = 1000


class JwtTokens:
    """Signs and checks the tokens of one member.

    Args:
        options: sign-method; pub-key and priv-key, file names; ttl, a duration such as 5m.
        read: gives a file's bytes.
        wall: Unix time in seconds.

    Raises:
        ValueError: an option is wrong, a key is missing, or the keys do not belong together.
        OSError: a key cannot be read.
    """

    def __init__(
        self, options: Mapping[str, str], read: Callable[[str], bytes], wall: Callable[[], float]
    ) -> None:
        if any(name not in _KNOWN for name in options):
            raise ValueError("auth: invalid auth options")
        self._method = options.get("sign-method", "")
        if self._method not in _METHODS:
            raise ValueError("auth: invalid auth signature method")
        self._ttl = _duration(options["ttl"]) if options.get("ttl") else _TTL_SECONDS
        public = read(options["pub-key"]) if options.get("pub-key") else b""
        private = read(options["priv-key"]) if options.get("priv-key") else b""
        self._verify, self._sign = _keys(self._method, public, private)
        self._wall = wall
        self._known: dict[str, tuple[Identity, float]] = {}

    def draw(self) -> tuple[str, bytes]:
        """Signed tokens need no letters."""
        return "", b""

    def issue(self, letters: str, index: str, name: str, revision: int) -> str:
        """A token for a user at an auth revision; raises ``RpcError`` where there is only a public key."""
        self.require_signing()
        claims = {"username": name, "revision": revision, "exp": int(self._wall() + self._ttl)}
        return jwt.encode(claims, self._sign, algorithm=self._method)

    def require_signing(self) -> None:
        """Raise ``RpcError`` when no tokens can be given out here."""
        if self._sign is None:
            raise _VERIFY_ONLY.with_traceback(None)

    def index_of(self, token: str) -> int:
        """Signed tokens say all by themselves."""
        return 0

    def sweep(self) -> None:
        """Nothing is kept but what is remembered of checks, and that is bounded."""

    def look_up(self, token: str) -> Identity | None:
        """Who a token stands for; None: it is none of ours, or too old."""
        known = self._known.get(token)
        if known is None:
            known = self._check(token)
            if known is None:
                return None
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[token] = known
        who, end = known
        if end <= self._wall():
            self._known.pop(token, None)
            return None
        return who

    def _check(self, token: str) -> tuple[Identity, float] | None:
        try:
            claims = jwt.decode(token, self._verify, algorithms=[self._method], options=_CHECKS)
        except (jwt.PyJWTError, ValueError):
            return None
        name, revision, end = claims.get("username"), claims.get("revision"), claims.get("exp")
        if not isinstance(name, str) or not _is_number(revision) or not _is_number(end):
            return None
        return (Identity(name, int(revision)), float(end)) if 0 < revision < 1 << 64 else None


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f'time: invalid duration "{text}"') from None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _keys(method: str, public: bytes, private: bytes) -> tuple[Any, Any]:
    """What verifies and what signs (None: nothing does)."""
    if method.startswith("HS"):
        if not private:
            raise ValueError("auth: missing key data")
        return private, private
    if not public and not private:
        raise ValueError("auth: missing key data")
    family = _FAMILIES[method[:2]]
    sign = _private(private) if private else None
    verify = _public(public) if public else None
    if sign is not None:
        derived = sign.public_key()
        if verify is not None and _spki(derived) != _spki(verify):
            raise ValueError("auth: public and private keys don't match")
        verify = derived
    if not isinstance(verify, family):
        raise ValueError(f"auth: the key is not one for {method}")
    if isinstance(verify, ec.EllipticCurvePublicKey) and verify.curve.name != _CURVES[method]:
        raise ValueError(f"auth: {method} needs the curve {_CURVES[method]}, the key has {verify.curve.name}")
    return verify, sign


def _private(data: bytes) -> Any:
    try:
        return serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"auth: the private key cannot be read: {error}") from None


def _public(data: bytes) -> Any:
    try:
        if b"BEGIN CERTIFICATE" in data:
            return load_pem_x509_certificate(data).public_key()
        return serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"auth: the public key cannot be read: {error}") from None


def _spki(key: Any) -> bytes:
    data: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data
