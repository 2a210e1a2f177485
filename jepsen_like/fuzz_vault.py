"""What must not leak while strangers ask for it: secrets on a cluster with authentication.

Root keeps a key, a user and a role that bear a mark in their names and contents. Two others have tokens:
``idle`` may do nothing, ``busy`` may use the fuzzer's own keys. Whatever the members send to anybody but root
is searched for the mark, and so are their logs; in the end everything must be as root left it.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from tercet.core.wire.proto import auth_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc
from tercet.net.client import Client

from .fuzz_every import PLAIN, Aim, Guise
from .fuzz_messages import PREFIX

__all__ = ["FLAGS", "Vault"]

#: What members under this kind of fire are started with: guesses at passwords shall not cost seconds.
FLAGS: Final = ("--bcrypt-cost", "4")
_ROOT: Final = "root"
_LEASE: Final = 0x7EA5E
_LEASE_SECONDS: Final = 1_000_000
_AUTH: Final = "/etcdserverpb.Auth/"

Answer = TypeVar("Answer", bound=Message)


class Vault:
    """The secrets of one run. ``mark`` is drawn by the caller; no stream may hold it by chance."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.login = (_ROOT, f"password-{mark}")
        self.key = f"vault/{mark}".encode()
        self.aim = Aim(key=b"vault/", end=b"vault0", lease=_LEASE, user="busy", role="vaulted", guarded=True)
        self.guise = PLAIN
        self._before: tuple[object, ...] = ()

    def leaks(self, data: bytes) -> bool:
        """Whether the mark is in there, as it is or within base64."""
        return any(form in data for form in _forms(self._mark.encode()))

    async def fill(self, open_client: Callable[..., Client]) -> None:
        """Make users, roles and secrets on an open cluster, enable authentication, and get the tokens."""
        async with open_client() as client:
            await self._make_users(client)
            await _call(client, "/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantRequest(
                ID=self.aim.lease, TTL=_LEASE_SECONDS), rpc.LeaseGrantResponse)  # fmt: skip
            await client.put(self.key, f"value-{self._mark}".encode(), lease=self.aim.lease)
            await client.put(b"vault/", f"value-{self._mark}".encode(), lease=self.aim.lease)
            await _call(client, _AUTH + "AuthEnable", rpc.AuthEnableRequest(), rpc.AuthEnableResponse)
        tokens = []
        for name in ("idle", "busy"):
            async with open_client(login=(name, name)) as client:
                await client.log_in()
                tokens.append(client.metadata[0][1])
        self.guise = Guise(aim=self.aim, tokens=tuple(tokens))
        async with open_client(login=self.login) as client:
            await client.log_in()
            self._before = await _inventory(client)

    async def _make_users(self, client: Client) -> None:
        users = ((_ROOT, self.login[1]), ("idle", "idle"), ("busy", "busy"),
                 (f"user-{self._mark}", self.login[1]))  # fmt: skip
        for name, password in users:
            added = rpc.AuthUserAddRequest(name=name, password=password)
            await _call(client, _AUTH + "UserAdd", added, rpc.AuthUserAddResponse)
        for role in (_ROOT, "own", f"role-{self._mark}", self.aim.role):
            await _call(client, _AUTH + "RoleAdd", rpc.AuthRoleAddRequest(name=role), rpc.AuthRoleAddResponse)
        for role, key in (("own", PREFIX), (self.aim.role, self.aim.key)):
            right = auth_pb2.Permission(
                permType=auth_pb2.Permission.READWRITE, key=key, range_end=key[:-1] + b"0"
            )
            grant = rpc.AuthRoleGrantPermissionRequest(name=role, perm=right)
            await _call(client, _AUTH + "RoleGrantPermission", grant, rpc.AuthRoleGrantPermissionResponse)
        for user, role in ((_ROOT, _ROOT), ("busy", "own")):
            given = rpc.AuthUserGrantRoleRequest(user=user, role=role)
            await _call(client, _AUTH + "UserGrantRole", given, rpc.AuthUserGrantRoleResponse)

    async def changes(self, client: Client) -> Sequence[str]:
        """What is not as it was. The client is root's."""
        after = await _inventory(client)
        return [
            f"changed by who had no right to: {old!r} became {new!r}"
            for old, new in zip(self._before, after, strict=True)
            if old != new
        ]


def _forms(mark: bytes) -> tuple[bytes, ...]:
    """The mark, and what every base64 text that holds it holds, for each of the three alignments."""
    shifted = (base64.b64encode(b"\0" * shift + mark) for shift in range(3))
    return (mark, *(text[4:-4] for text in shifted))


async def _inventory(client: Client) -> tuple[object, ...]:
    secrets = await client.get(b"vault/", range_end=b"vault0")
    users = await _call(client, _AUTH + "UserList", rpc.AuthUserListRequest(), rpc.AuthUserListResponse)
    roles = await _call(client, _AUTH + "RoleList", rpc.AuthRoleListRequest(), rpc.AuthRoleListResponse)
    rights = []
    for role in roles.roles:
        found = await _call(
            client, _AUTH + "RoleGet", rpc.AuthRoleGetRequest(role=role), rpc.AuthRoleGetResponse
        )
        rights.append((role, [permission.SerializeToString() for permission in found.perm]))
    owners = []
    for user in users.users:
        known = await _call(
            client, _AUTH + "UserGet", rpc.AuthUserGetRequest(name=user), rpc.AuthUserGetResponse
        )
        owners.append((user, list(known.roles)))
    return secrets.kvs, owners, rights, [member.id for member in await client.members()]


async def _call(client: Client, path: str, request: Any, answer: type[Answer]) -> Answer:
    answered: Awaitable[Answer] = client.call(path, request, answer.FromString)
    return await answered
