"""The tokens of one member: simple ones, which the log spreads, or signed ones.

A simple token names the log entry that gave it out. A member that has not applied that entry yet cannot know
the token; ``index_of`` says how far it must have come before ``look_up`` means anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tercet.core.auth.store import AuthStore
from tercet.core.auth.tokens import LETTERS, SimpleTokens, digest_of, split_token
from tercet.core.auth.values import Identity

from .auth_options import parse_options
from .world import World

__all__ = ["SWEEP_SECONDS", "SimpleProvider", "TokenProvider", "open_tokens"]

#: How often tokens that have run out are forgotten.
SWEEP_SECONDS = 1.0

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class TokenProvider(Protocol):
    """What the member needs of either kind of token."""

    def require_signing(self) -> None:
        """Raise ``RpcError`` when this member can give out no tokens."""

    def draw(self) -> tuple[str, bytes]:
        """The secret letters of a new token and their digest for the log; empty when tokens are signed."""

    def issue(self, letters: str, index: str, name: str, revision: int) -> str:
        """The token for a user: the entry at ``index`` has given it out at an auth revision."""

    def index_of(self, token: str) -> int:
        """The applied index at which the token can be known; 0: any."""

    def look_up(self, token: str) -> Identity | None:
        """Who the token stands for; None: nobody, or nobody any more."""

    def sweep(self) -> None:
        """Forget what has run out; to be called now and then."""


class SimpleProvider:
    """Simple tokens. ``auth`` gives the store as it is; a snapshot may replace it."""

    def __init__(self, world: World, auth: Callable[[], AuthStore], lifetime: float) -> None:
        self._clock = world.clock
        self._letters = world.rng.stream("secret/auth-tokens")
        self._auth = auth
        self._tokens = SimpleTokens(lifetime)

    def require_signing(self) -> None:
        """Every member can."""

    def draw(self) -> tuple[str, bytes]:
        letters = "".join(self._letters.choice(_ALPHABET) for _ in range(LETTERS))
        return letters, digest_of(letters)

    def issue(self, letters: str, index: str, name: str, revision: int) -> str:
        return f"{letters}.{index}"

    def index_of(self, token: str) -> int:
        parts = split_token(token)
        return parts[1] if parts is not None else 0

    def look_up(self, token: str) -> Identity | None:
        auth = self._auth()
        now = self._clock.monotonic()
        if auth.has_notices:
            self._tokens.take(auth.take_notices(), now)
        parts = split_token(token)
        name = self._tokens.use(*parts, now) if parts is not None else None
        return Identity(name, auth.revision) if name is not None else None

    def sweep(self) -> None:
        auth = self._auth()
        now = self._clock.monotonic()
        if auth.has_notices:
            self._tokens.take(auth.take_notices(), now)
        if len(self._tokens):
            self._tokens.sweep(now)


def open_tokens(world: World, auth: Callable[[], AuthStore], option: str, ttl: float) -> TokenProvider:
    """The provider that ``--auth-token`` names.

    Args:
        option: ``simple``, or ``jwt`` with its options.
        ttl: seconds that a simple token lives without use.

    Raises:
        ValueError: the option is wrong, or a key is; OSError: a key cannot be read.
    """
    kind, options = parse_options(option)
    if kind == "simple":
        return SimpleProvider(world, auth, ttl)
    if kind == "jwt":
        from .auth_jwt import JwtTokens  # only who signs needs the cryptography

        return JwtTokens(options, world.disk.read, world.clock.wall)
    raise ValueError(f"auth: invalid auth options: unknown token kind {kind!r}")
