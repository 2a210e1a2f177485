"""Simple tokens: random letters, a point, and the index of the log entry that gave them out.

Every member applies that entry, so every member knows every token. The log carries a digest of the letters,
never the letters: who reads a log, a trace or a snapshot cannot log in with what is found there. A token
lives for a while after its last use, by each member's own clock, and ends early with its user's password.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import msgspec

__all__ = ["CLEAR", "LETTERS", "Notice", "SimpleTokens", "digest_of", "split_token"]

#: Letters of a token, drawn from A-Z and a-z.
LETTERS = 16
_DIGITS_MAX = 20


class Notice(msgspec.Struct, frozen=True, array_like=True):
    """What happened to tokens: one was given out, all of a user are void, or (no name) all are."""

    name: str
    digest: bytes = b""  # empty: the user's tokens are void
    index: int = 0


#: All tokens are void.
CLEAR = Notice("")


def digest_of(letters: str) -> bytes:
    """What members keep of a token's letters. Not salted: the letters have 91 bits of chance."""
    return sha256(letters.encode()).digest()


def split_token(token: str) -> tuple[str, int] | None:
    """A token's letters and index; None: it is no simple token."""
    letters, point, digits = token.partition(".")
    if not point or not digits.isascii() or not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return None
    index = int(digits)
    return (letters, index) if index < 1 << 64 else None


class SimpleTokens:
    """The tokens that are alive. ``lifetime``: seconds since the last use. Times are monotonic seconds."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._tokens: dict[tuple[bytes, int], tuple[str, float]] = {}  # digest, index -> user, end
        self._of_user: dict[str, dict[tuple[bytes, int], None]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def take(self, notices: Iterable[Notice], now: float) -> None:
        """Learn what the log said."""
        for notice in notices:
            if not notice.name:
                self._tokens.clear()
                self._of_user.clear()
            elif not notice.digest:
                for key in self._of_user.pop(notice.name, {}):
                    del self._tokens[key]
            else:
                key = (notice.digest, notice.index)
                self._tokens[key] = (notice.name, now + self._lifetime)
                self._of_user.setdefault(notice.name, {})[key] = None

    def use(self, letters: str, index: int, now: float) -> str | None:
        """The user of a token, whose life starts anew; None: there is no such token any more."""
        key = (digest_of(letters), index)
        found = self._tokens.get(key)
        if found is None:
            return None
        name, end = found
        if end <= now:
            self._drop(key)
            return None
        self._tokens[key] = (name, now + self._lifetime)
        return name

    def sweep(self, now: float) -> None:
        """Forget what has run out."""
        for key in [key for key, (_, end) in self._tokens.items() if end <= now]:
            self._drop(key)

    def _drop(self, key: tuple[bytes, int]) -> None:
        name, _ = self._tokens.pop(key)
        mine = self._of_user[name]
        del mine[key]
        if not mine:
            del self._of_user[name]
