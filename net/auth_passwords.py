"""Passwords: hashed with bcrypt by the proposing member, before anything is replicated.

One hash costs tens of milliseconds on purpose, so it is made through the ``Compute`` port. The log and the
store see hashes alone.
"""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import Final

import bcrypt

from .world import World

__all__ = ["COST_DEFAULT", "COST_MAX", "COST_MIN", "Passwords"]

COST_MIN: Final = 4
COST_MAX: Final = 31
COST_DEFAULT: Final = 10

_BYTES_MAX = 72  # bcrypt looks at no more; etcd 3.4 lets longer ones pass
#: base64's letters as bcrypt has them.
_LETTERS = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)


class Passwords:
    """Hashes and compares for one member.

    Args:
        cost: 4 to 31; each step doubles the work. Others become the default.
    """

    def __init__(self, world: World, cost: int) -> None:
        self._compute = world.compute
        self._salts = world.rng.stream("secret/auth-salts")
        self._cost = cost if COST_MIN <= cost <= COST_MAX else COST_DEFAULT

    async def hash(self, password: str) -> str:
        """The hash in base64, as requests carry it."""
        secret = password.encode()[:_BYTES_MAX]
        raw = self._salts.getrandbits(128).to_bytes(16, "big")
        salt = b"$2a$%02d$" % self._cost + b64encode(raw)[:22].translate(_LETTERS)
        hashed = await self._compute.run(partial(bcrypt.hashpw, secret, salt))
        return b64encode(hashed).decode()

    async def matches(self, password: str, hashed: bytes) -> bool:
        """The password is the one that was hashed; False, too, for what is no hash."""
        secret = password.encode()[:_BYTES_MAX]
        return await self._compute.run(partial(_matches, secret, hashed))


def _matches(secret: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(secret, hashed)
    except ValueError:
        return False
