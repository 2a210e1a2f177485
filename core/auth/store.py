"""Users, roles and the switch: the replicated state of authentication.

Every change counts the auth revision up, so that what was decided before a change can be told from what was
decided after it. Refusals are raised as ``RpcError`` and leave everything as it was.

Whoever keeps tokens learns through ``take_notices`` which were given out and which are void; whoever keeps
the state on disk is told which rows differ, in etcd's own encodings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import sha256
from struct import Struct as Layout
from struct import error as LayoutError

import msgspec
from google.protobuf.message import DecodeError

from .. import rpc_errors
from ..errors import Corruption
from .ranges import Coverage, interval
from .tokens import CLEAR, Notice
from .values import (
    READ,
    READWRITE,
    ROOT,
    WRITE,
    Permission,
    Role,
    User,
    decode_role,
    decode_user,
    encode_role,
    encode_user,
)  # fmt: skip

__all__ = ["AUTH", "ROLES", "USERS", "AuthStore", "Row"]

#: The buckets of the persistent form.
AUTH, USERS, ROLES = "auth", "auth_users", "auth_roles"
#: Bucket, key, value.
Row = tuple[str, bytes, bytes]

_ENABLED, _REVISION = b"authEnabled", b"authRevision"
_NUMBER = Layout(">Q")
_MAX_NOTICES = 100_000
_KEY_BYTES = 256  # longer names get a key made from their hash: backends limit their keys


def _forget(bucket: str, key: bytes, value: bytes | None) -> None:
    """Stand in for a backend where there is none."""


class AuthStore:
    """The auth state of one member's machine. Mutable; changed by applied entries alone.

    Args:
        note: is told of each row that differs: bucket, key, value (None: gone).
    """

    def __init__(self, note: Callable[[str, bytes, bytes | None], None] = _forget) -> None:
        self.enabled = False
        self.revision = 1
        self.users: dict[str, User] = {}
        self.roles: dict[str, Role] = {}
        self._note = note
        self._coverage: dict[str, tuple[Coverage, Coverage]] = {}  # by user: to read, to write
        self._notices: list[Notice] = [CLEAR]  # a store that replaces another: what was known is void

    # ---- questions

    def user(self, name: str) -> User:
        """Raises USER_NOT_FOUND."""
        user = self.users.get(name)
        if user is None:
            raise rpc_errors.USER_NOT_FOUND.with_traceback(None)
        return user

    def role(self, name: str) -> Role:
        """Raises ROLE_NOT_FOUND."""
        role = self.roles.get(name)
        if role is None:
            raise rpc_errors.ROLE_NOT_FOUND.with_traceback(None)
        return role

    def is_root(self, name: str) -> bool:
        """The user exists and has the role root."""
        user = self.users.get(name)
        return user is not None and ROOT in user.roles

    def has_role(self, name: str, role: str) -> bool:
        """The user exists and has the role."""
        user = self.users.get(name)
        return user is not None and role in user.roles

    def permits(self, name: str, key: bytes, range_end: bytes, kind: int) -> bool:
        """A user's roles allow READ or WRITE of every key in a range; root may do everything.

        Args:
            range_end: as in requests; empty: the one key.
        """
        if self.is_root(name):
            return True
        coverage = self._coverage.get(name)
        if coverage is None:
            user = self.users.get(name)
            if user is None:
                return False
            coverage = self._coverage[name] = self._merge(user)
        return coverage[kind].covers(*interval(key, range_end))

    def _merge(self, user: User) -> tuple[Coverage, Coverage]:
        granted = [p for role in user.roles if role in self.roles for p in self.roles[role].permissions]
        read, write = (
            Coverage(interval(p.key, p.range_end) for p in granted if p.kind in (kind, READWRITE))
            for kind in (READ, WRITE)
        )
        return read, write

    # ---- the switch

    def enable(self) -> None:
        """Check requests from now on; needs a user root with the role root."""
        if self.enabled:
            return
        if ROOT not in self.users:
            raise rpc_errors.ROOT_USER_MISSING.with_traceback(None)
        if not self.is_root(ROOT):
            raise rpc_errors.ROOT_ROLE_MISSING.with_traceback(None)
        self.enabled = True
        self._note_switch()

    def disable(self) -> None:
        """Check nothing any more; all tokens are void."""
        if not self.enabled:
            return
        self.enabled = False
        self._note_switch()
        self._commit()
        self._notice(CLEAR)

    def authenticate(self, name: str, revision: int, digest: bytes, index: int) -> None:
        """Give out a token: the proposing member has checked the password at ``revision``.

        Args:
            digest: of the token's secret part; empty: the token is not kept by members.
            index: of the entry; part of the token.
        """
        if not self.enabled:
            raise rpc_errors.AUTH_NOT_ENABLED.with_traceback(None)
        if revision != self.revision:
            raise rpc_errors.AUTH_OLD_REVISION.with_traceback(None)
        user = self.users.get(name)
        if user is None or user.no_password:
            raise rpc_errors.AUTH_FAILED.with_traceback(None)
        if digest:
            self._notice(Notice(name, digest, index))

    # ---- users

    def add_user(self, name: str, password: bytes, *, no_password: bool) -> None:
        """``password``: its hash; empty with ``no_password``."""
        if not name:
            raise rpc_errors.USER_EMPTY.with_traceback(None)
        if name in self.users:
            raise rpc_errors.USER_EXISTS.with_traceback(None)
        self._put_user(User(name, b"" if no_password else password, (), no_password))
        self._commit()

    def delete_user(self, name: str) -> None:
        """The user's tokens are void. Root stays while requests are checked."""
        if self.enabled and name == ROOT:
            raise rpc_errors.INVALID_AUTH_MANAGEMENT.with_traceback(None)
        self.user(name)
        del self.users[name]
        self._coverage.pop(name, None)
        self._note(USERS, _row_key(name), None)
        self._commit()
        self._notice(Notice(name))

    def change_password(self, name: str, password: bytes) -> None:
        """The user's tokens are void. A user without password keeps none."""
        user = self.user(name)
        if not user.no_password:
            user = msgspec.structs.replace(user, password=password)
        self._put_user(user)
        self._commit()
        self._notice(Notice(name))

    def grant_role(self, name: str, role: str) -> None:
        """A role that the user has already is no error and no change. The role root need not exist."""
        user = self.user(name)
        if role != ROOT:
            self.role(role)
        if role in user.roles:
            return
        self._put_user(msgspec.structs.replace(user, roles=tuple(sorted((*user.roles, role)))))
        self._commit()

    def revoke_role(self, name: str, role: str) -> None:
        """Root keeps the role root while requests are checked."""
        if self.enabled and name == ROOT and role == ROOT:
            raise rpc_errors.INVALID_AUTH_MANAGEMENT.with_traceback(None)
        user = self.user(name)
        if role not in user.roles:
            raise rpc_errors.ROLE_NOT_GRANTED.with_traceback(None)
        self._put_user(_without(user, role))
        self._commit()

    # ---- roles

    def add_role(self, name: str) -> None:
        if not name:
            raise rpc_errors.ROLE_EMPTY.with_traceback(None)
        if name in self.roles:
            raise rpc_errors.ROLE_EXISTS.with_traceback(None)
        self._put_role(Role(name))
        self._commit()

    def delete_role(self, name: str) -> None:
        """Users lose it. Root stays while requests are checked."""
        if self.enabled and name == ROOT:
            raise rpc_errors.INVALID_AUTH_MANAGEMENT.with_traceback(None)
        self.role(name)
        del self.roles[name]
        self._coverage.clear()
        self._note(ROLES, _row_key(name), None)
        for user in list(self.users.values()):
            if name in user.roles:
                self._put_user(_without(user, name))
        self._commit()

    def grant_permission(self, name: str, permission: Permission) -> None:
        """A grant of the same range replaces the former one."""
        role = self.role(name)
        rest = [
            p for p in role.permissions if (p.key, p.range_end) != (permission.key, permission.range_end)
        ]
        permissions = tuple(sorted((*rest, permission), key=lambda p: p.key))
        self._put_role(Role(name, permissions))
        self._commit()

    def revoke_permission(self, name: str, key: bytes, range_end: bytes) -> None:
        """The range must be one that was granted, not a part of it."""
        role = self.role(name)
        rest = tuple(p for p in role.permissions if (p.key, p.range_end) != (key, range_end))
        if len(rest) == len(role.permissions):
            raise rpc_errors.PERMISSION_NOT_GRANTED.with_traceback(None)
        self._put_role(Role(name, rest))
        self._commit()

    # ---- what others keep

    def take_notices(self) -> list[Notice]:
        """What happened to tokens since this was last asked, in order."""
        notices, self._notices = self._notices, []
        return notices

    @property
    def has_notices(self) -> bool:
        return bool(self._notices)

    def rows(self) -> list[Row]:
        """The whole state; equal states give equal rows."""
        rows: list[Row] = [
            (AUTH, _ENABLED, b"\1" if self.enabled else b"\0"),
            (AUTH, _REVISION, _NUMBER.pack(self.revision)),
        ]
        rows += [(ROLES, _row_key(name), encode_role(self.roles[name])) for name in sorted(self.roles)]
        rows += [(USERS, _row_key(name), encode_user(self.users[name])) for name in sorted(self.users)]
        return rows

    def loaders(self) -> dict[str, Callable[[bytes, bytes], None]]:
        """By bucket, what takes a row of a stored state in; for a store that nothing has happened to.

        They raise ``Corruption`` for a row that cannot be decoded.
        """
        return {bucket: partial(self._load, bucket) for bucket in (AUTH, ROLES, USERS)}

    def _load(self, bucket: str, key: bytes, value: bytes) -> None:
        try:
            if bucket == USERS:
                user = decode_user(value)
                self.users[user.name] = user
            elif bucket == ROLES:
                role = decode_role(value)
                self.roles[role.name] = role
            elif key == _ENABLED:
                self.enabled = value == b"\1"
            elif key == _REVISION:
                self.revision = max(1, _NUMBER.unpack(value)[0])
        except (ValueError, DecodeError, LayoutError) as error:
            raise Corruption(f"bucket {bucket}, key {key!r}: {error}") from error

    # ---- changes

    def _put_user(self, user: User) -> None:
        self.users[user.name] = user
        self._coverage.pop(user.name, None)
        self._note(USERS, _row_key(user.name), encode_user(user))

    def _put_role(self, role: Role) -> None:
        self.roles[role.name] = role
        self._coverage.clear()
        self._note(ROLES, _row_key(role.name), encode_role(role))

    def _note_switch(self) -> None:
        self._note(AUTH, _ENABLED, b"\1" if self.enabled else b"\0")

    def _commit(self) -> None:
        self.revision += 1
        self._note(AUTH, _REVISION, _NUMBER.pack(self.revision))

    def _notice(self, notice: Notice) -> None:
        if len(self._notices) >= _MAX_NOTICES:  # nobody takes them: void is always safe
            self._notices = [CLEAR]
        self._notices.append(notice)


def _without(user: User, role: str) -> User:
    return msgspec.structs.replace(user, roles=tuple(one for one in user.roles if one != role))


def _row_key(name: str) -> bytes:
    key = name.encode()
    return key if len(key) <= _KEY_BYTES else b"\xff" + sha256(key).digest()
