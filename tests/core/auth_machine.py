"""A machine with authentication on, and proposals for users, for tests."""

from __future__ import annotations

from base64 import b64encode

from google.protobuf.message import Message

from tercet.core.auth.commands import AUTH_COMMANDS, wrap
from tercet.core.auth.values import READ, READWRITE, WRITE, Identity
from tercet.core.machine import Command, Machine, Outcome, encode_command
from tercet.core.raft.types import Entry
from tercet.core.wire.proto import rpc_pb2 as rpc

__all__ = ["GRANTS", "AuthMachine"]

#: What the user alice may do.
GRANTS = (
    (READWRITE, b"a", b"c"),
    (READ, b"c", b"e"),
    (WRITE, b"w", b""),
    (READWRITE, b"t", b"u"),
)


class AuthMachine:
    """Users root, alice (``GRANTS``), bob (nothing); keys a, b, c, d, w, z hold values; lease 5 holds z."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.auth("UserAdd", rpc.AuthUserAddRequest(name="root", hashedPassword=_hash("rpw")))
        self.auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="root", role="root"))
        self.auth("UserAdd", rpc.AuthUserAddRequest(name="alice", hashedPassword=_hash("apw")))
        self.auth("UserAdd", rpc.AuthUserAddRequest(name="bob", hashedPassword=_hash("bpw")))
        self.auth("RoleAdd", rpc.AuthRoleAddRequest(name="r"))
        for kind, key, range_end in GRANTS:
            request = rpc.AuthRoleGrantPermissionRequest(name="r")
            request.perm.permType, request.perm.key, request.perm.range_end = kind, key, range_end  # type: ignore[assignment]
            self.auth("RoleGrantPermission", request)
        self.auth("UserGrantRole", rpc.AuthUserGrantRoleRequest(user="alice", role="r"))
        self.apply(Command.LEASE_GRANT, rpc.LeaseGrantRequest(ID=5, TTL=60))
        for key in (b"a", b"b", b"c", b"d", b"w"):
            self.apply(Command.PUT, rpc.PutRequest(key=key, value=b"secret-" + key))
        self.apply(Command.PUT, rpc.PutRequest(key=b"z", value=b"secret-z", lease=5))
        self.auth("AuthEnable", rpc.AuthEnableRequest())

    def auth(self, method: str, request: Message, user: str = "") -> Outcome:
        """An auth command; it must succeed."""
        outcome = self.apply(AUTH_COMMANDS[method], request, user)
        assert outcome.error is None, outcome.error
        return outcome

    def apply(self, kind: int, request: Message, user: str = "", revision: int | None = None) -> Outcome:
        """Apply a command, for ``user`` if there is one; ``revision``: of the auth store, None: as it is."""
        payload = request.SerializeToString()
        if user:
            who = Identity(user, self.machine.auth.revision if revision is None else revision)
            kind, payload = Command.AS_USER, wrap(who, kind, payload)
        data = encode_command(kind, 1, 1, payload)  # type: ignore[arg-type]
        return self.machine.apply(Entry(1, self.machine.applied_index + 1, data))


def _hash(password: str) -> str:
    return b64encode(b"hash of " + password.encode()).decode()
