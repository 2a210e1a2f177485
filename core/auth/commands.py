"""The auth commands of the log, and who may have them done.

``AuthCommands`` is the handler table that the machine includes. ``As user``: a proposal made while
authentication is on is wrapped with the identity that the proposing member found (``wrap``), and when its
entry is applied the machine asks ``refusal`` whether that identity may. Proposals of the members themselves
(lease expiry, versions, ...) are not wrapped and not guarded.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as BadBase64
from collections.abc import Callable, Mapping
from struct import Struct as Layout
from struct import error as LayoutError

from .. import rpc_errors
from ..lease.lessor import Lessor
from ..mvcc.record import Delta
from ..rpc_errors import RpcError
from ..wire.proto import rpc_pb2 as rpc
from . import permits
from .store import AuthStore
from .values import WRITE, Identity, Permission

__all__ = [
    "AS_USER", "AUTHENTICATE", "AUTH_COMMANDS", "AuthCommands", "encode_authenticate", "refusal", "unwrap",
    "wrap",
]  # fmt: skip

AS_USER = 19
ENABLE, DISABLE, STATUS, AUTHENTICATE = 20, 21, 22, 23
USER_ADD, USER_GET, USER_LIST, USER_DELETE, USER_CHANGE_PASSWORD, USER_GRANT, USER_REVOKE = range(24, 31)
ROLE_ADD, ROLE_GET, ROLE_LIST, ROLE_DELETE, ROLE_GRANT, ROLE_REVOKE = range(31, 37)

#: RPC of the Auth service -> command. Authenticate has a payload of its own (``encode_authenticate``).
AUTH_COMMANDS: Mapping[str, int] = {
    "AuthEnable": ENABLE,
    "AuthDisable": DISABLE,
    "AuthStatus": STATUS,
    "Authenticate": AUTHENTICATE,
    "UserAdd": USER_ADD,
    "UserGet": USER_GET,
    "UserList": USER_LIST,
    "UserDelete": USER_DELETE,
    "UserChangePassword": USER_CHANGE_PASSWORD,
    "UserGrantRole": USER_GRANT,
    "UserRevokeRole": USER_REVOKE,
    "RoleAdd": ROLE_ADD,
    "RoleGet": ROLE_GET,
    "RoleList": ROLE_LIST,
    "RoleDelete": ROLE_DELETE,
    "RoleGrantPermission": ROLE_GRANT,
    "RoleRevokePermission": ROLE_REVOKE,
}

_OPEN_TO_ALL = (AUTHENTICATE, USER_GET, ROLE_GET)  # or with a rule of their own
_PUT, _DELETE_RANGE, _TXN, _LEASE_REVOKE = 1, 2, 3, 6
_GUARDED_KV = (_PUT, _DELETE_RANGE, _TXN, _LEASE_REVOKE)
_ENVELOPE = Layout(">BQH")  # command, auth revision, bytes of the user's name
_NAME_BYTES_MAX = 0xFFFF
_AUTHENTICATE = Layout(">QB")  # auth revision, bytes of the token's digest

Answer = tuple[bytes, Delta]


def wrap(who: Identity, kind: int, payload: bytes) -> bytes:
    """The payload of an ``AS_USER`` command around another one.

    A name that does not fit is nobody's, so the command will be refused.
    """
    name = who.name.encode("utf-8", "replace")
    if len(name) > _NAME_BYTES_MAX:
        name = b""
    return _ENVELOPE.pack(kind, who.revision, len(name)) + name + payload


def unwrap(payload: bytes) -> tuple[Identity, int, bytes]:
    """Identity, command and payload of an ``AS_USER`` command; raises ``RpcError`` when it is none."""
    try:
        kind, revision, size = _ENVELOPE.unpack_from(payload)
        start = _ENVELOPE.size + size
        if len(payload) < start:
            raise ValueError("cut off")
        return Identity(payload[_ENVELOPE.size : start].decode(), revision), kind, payload[start:]
    except (LayoutError, ValueError):
        raise rpc_errors.undecodable("an identity") from None


def encode_authenticate(name: str, revision: int, digest: bytes) -> bytes:
    """The payload of ``AUTHENTICATE``: the password of ``name`` was right at auth ``revision``.

    ``digest`` is of the token's letters; empty when members do not keep the tokens.
    """
    return _AUTHENTICATE.pack(revision, len(digest)) + digest + name.encode()


def refusal(auth: AuthStore, lessor: Lessor, who: Identity, kind: int, payload: bytes) -> RpcError | None:
    """Why a command may not be done for ``who``; None: it may. Raises ``DecodeError``.

    To be asked only while authentication is on. Commands that nobody guards are free.
    """
    if kind in _GUARDED_KV:
        if kind == _PUT:
            return permits.check_put(auth, who, rpc.PutRequest.FromString(payload), lessor)
        if kind == _DELETE_RANGE:
            return permits.check_delete(auth, who, rpc.DeleteRangeRequest.FromString(payload))
        if kind == _TXN:
            return permits.check_txn(auth, who, rpc.TxnRequest.FromString(payload))
        lease_id = rpc.LeaseRevokeRequest.FromString(payload).ID
        return permits.check_lease_keys(auth, who, lease_id, lessor, WRITE)
    if not ENABLE <= kind <= ROLE_REVOKE:
        return None
    if kind == USER_GET:
        return permits.check_user_get(auth, who, rpc.AuthUserGetRequest.FromString(payload).name)
    if kind == ROLE_GET:
        return permits.check_role_get(auth, who, rpc.AuthRoleGetRequest.FromString(payload).role)
    return None if kind in _OPEN_TO_ALL else permits.check_admin(auth, who)


class AuthCommands:
    """The handlers by command. ``index`` tells the index of the entry being applied."""

    def __init__(self, auth: AuthStore, index: Callable[[], int]) -> None:
        self._auth = auth
        self._index = index

    def table(self) -> dict[int, Callable[[bytes], Answer]]:
        """Payload -> body of the response, and the events (there are none); they raise ``RpcError``."""
        return {
            ENABLE: self._enable,
            DISABLE: self._disable,
            STATUS: self._status,
            AUTHENTICATE: self._authenticate,
            USER_ADD: self._user_add,
            USER_GET: self._user_get,
            USER_LIST: self._user_list,
            USER_DELETE: self._user_delete,
            USER_CHANGE_PASSWORD: self._user_change_password,
            USER_GRANT: self._user_grant,
            USER_REVOKE: self._user_revoke,
            ROLE_ADD: self._role_add,
            ROLE_GET: self._role_get,
            ROLE_LIST: self._role_list,
            ROLE_DELETE: self._role_delete,
            ROLE_GRANT: self._role_grant,
            ROLE_REVOKE: self._role_revoke,
        }

    def _enable(self, payload: bytes) -> Answer:
        self._auth.enable()
        return b"", ()

    def _disable(self, payload: bytes) -> Answer:
        self._auth.disable()
        return b"", ()

    def _status(self, payload: bytes) -> Answer:
        auth = self._auth
        response = rpc.AuthStatusResponse(enabled=auth.enabled, authRevision=auth.revision)
        return response.SerializeToString(), ()

    def _authenticate(self, payload: bytes) -> Answer:
        """The body's token is the index; the proposing member knows the letters."""
        try:
            revision, size = _AUTHENTICATE.unpack_from(payload)
            rest = payload[_AUTHENTICATE.size :]
            name = rest[size:].decode()
        except (LayoutError, ValueError):
            raise rpc_errors.undecodable("an authentication") from None
        index = self._index()
        self._auth.authenticate(name, revision, rest[:size], index)
        return rpc.AuthenticateResponse(token=str(index)).SerializeToString(), ()

    def _user_add(self, payload: bytes) -> Answer:
        request = rpc.AuthUserAddRequest.FromString(payload)
        no_password = request.options.no_password
        password = b"" if no_password else _hash_in(request.hashedPassword)
        self._auth.add_user(request.name, password, no_password=no_password)
        return b"", ()

    def _user_get(self, payload: bytes) -> Answer:
        user = self._auth.user(rpc.AuthUserGetRequest.FromString(payload).name)
        return rpc.AuthUserGetResponse(roles=user.roles).SerializeToString(), ()

    def _user_list(self, payload: bytes) -> Answer:
        return rpc.AuthUserListResponse(users=sorted(self._auth.users)).SerializeToString(), ()

    def _user_delete(self, payload: bytes) -> Answer:
        self._auth.delete_user(rpc.AuthUserDeleteRequest.FromString(payload).name)
        return b"", ()

    def _user_change_password(self, payload: bytes) -> Answer:
        request = rpc.AuthUserChangePasswordRequest.FromString(payload)
        self._auth.change_password(request.name, _hash_in(request.hashedPassword))
        return b"", ()

    def _user_grant(self, payload: bytes) -> Answer:
        request = rpc.AuthUserGrantRoleRequest.FromString(payload)
        self._auth.grant_role(request.user, request.role)
        return b"", ()

    def _user_revoke(self, payload: bytes) -> Answer:
        request = rpc.AuthUserRevokeRoleRequest.FromString(payload)
        self._auth.revoke_role(request.name, request.role)
        return b"", ()

    def _role_add(self, payload: bytes) -> Answer:
        self._auth.add_role(rpc.AuthRoleAddRequest.FromString(payload).name)
        return b"", ()

    def _role_get(self, payload: bytes) -> Answer:
        role = self._auth.role(rpc.AuthRoleGetRequest.FromString(payload).role)
        response = rpc.AuthRoleGetResponse()
        for permission in role.permissions:
            response.perm.add(
                permType=permission.kind,
                key=permission.key,
                range_end=permission.range_end,
            )
        return response.SerializeToString(), ()

    def _role_list(self, payload: bytes) -> Answer:
        return rpc.AuthRoleListResponse(roles=sorted(self._auth.roles)).SerializeToString(), ()

    def _role_delete(self, payload: bytes) -> Answer:
        self._auth.delete_role(rpc.AuthRoleDeleteRequest.FromString(payload).role)
        return b"", ()

    def _role_grant(self, payload: bytes) -> Answer:
        request = rpc.AuthRoleGrantPermissionRequest.FromString(payload)
        self._auth.role(request.name)  # the first to be found missing, as in etcd
        if not request.HasField("perm"):
            raise rpc_errors.PERMISSION_NOT_GIVEN.with_traceback(None)
        perm = request.perm
        self._auth.grant_permission(
            request.name, Permission(int(perm.permType), perm.key, perm.range_end)
        )
        return b"", ()

    def _role_revoke(self, payload: bytes) -> Answer:
        request = rpc.AuthRoleRevokePermissionRequest.FromString(payload)
        self._auth.revoke_permission(request.role, request.key, request.range_end)
        return b"", ()


def _hash_in(text: str) -> bytes:
    """The bcrypt hash that a request carries in base64; raises ``RpcError``."""
    try:
        return b64decode(text, validate=True)
    except (BadBase64, ValueError):
        raise rpc_errors.undecodable("a password's hash") from None
