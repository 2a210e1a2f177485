"""What the auth store keeps: users, roles, permissions; and who a request comes from.

Stored users and roles are etcd's own messages (package authpb), so that its snapshots carry them unchanged.
"""

from __future__ import annotations

import msgspec

from ..wire.proto import auth_pb2 as authpb

__all__ = [
    "NOBODY", "READ", "READWRITE", "ROOT", "WRITE", "Identity", "Permission", "Role", "User",
    "decode_role", "decode_user", "encode_role", "encode_user",
]  # fmt: skip

#: The name of the user and of the role that may do everything.
ROOT = "root"

READ, WRITE, READWRITE = 0, 1, 2  # authpb.Permission.Type


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Who asks, as the proposing member found out, and at which revision of the auth store."""

    name: str
    revision: int  # 0: nobody was named


#: A request without credentials.
NOBODY = Identity("", 0)


class Permission(msgspec.Struct, frozen=True, array_like=True):
    """One grant. ``range_end`` as in requests: empty, the one key; a zero byte, every key from ``key`` on."""

    kind: int  # READ, WRITE or READWRITE; unknown kinds of newer versions give nothing
    key: bytes
    range_end: bytes = b""


class User(msgspec.Struct, frozen=True, array_like=True):
    """A user. ``password`` is a bcrypt hash, empty for one who can only show a certificate."""

    name: str
    password: bytes = b""
    roles: tuple[str, ...] = ()  # sorted
    no_password: bool = False


class Role(msgspec.Struct, frozen=True, array_like=True):
    """A role; permissions are sorted by key, equal keys in order of their grants."""

    name: str
    permissions: tuple[Permission, ...] = ()


def encode_user(user: User) -> bytes:
    """The user as ``authpb.User``."""
    message = authpb.User(name=user.name.encode(), password=user.password, roles=user.roles)
    message.options.no_password = user.no_password
    return message.SerializeToString(deterministic=True)


def decode_user(data: bytes) -> User:
    """The user in a serialised ``authpb.User``; raises ``ValueError``."""
    message = authpb.User.FromString(data)
    return User(
        message.name.decode(), message.password, tuple(sorted(message.roles)), message.options.no_password
    )


def encode_role(role: Role) -> bytes:
    """The role as ``authpb.Role``."""
    permissions = [
        authpb.Permission(permType=p.kind, key=p.key, range_end=p.range_end)  # type: ignore[arg-type]
        for p in role.permissions
    ]
    return authpb.Role(name=role.name.encode(), keyPermission=permissions).SerializeToString(
        deterministic=True
    )


def decode_role(data: bytes) -> Role:
    """The role in a serialised ``authpb.Role``; raises as ``decode_user``."""
    message = authpb.Role.FromString(data)
    permissions = tuple(Permission(int(p.permType), p.key, p.range_end) for p in message.keyPermission)
    return Role(message.name.decode(), permissions)
