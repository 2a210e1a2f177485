"""Whether a command may be done for whom it is proposed; asked when its entry is applied, and by reads.

Checks return the refusal or None. While authentication is off nothing is refused. A request whose member
decided at an older revision of the auth store is refused, too: what it was told may no longer hold.

Source: etcd's ``apply_auth.go``. Transactions are checked more strictly than by etcd 3.4: nested ones as the
outer one, and a put that shows the previous value needs the right to read.
"""

from __future__ import annotations

from collections.abc import Iterable

from .. import rpc_errors
from ..lease.lessor import Lessor
from ..rpc_errors import RpcError
from ..wire.proto import rpc_pb2 as rpc
from .store import AuthStore
from .values import READ, WRITE, Identity

__all__ = [
    "check_admin", "check_delete", "check_keys", "check_lease_keys", "check_put", "check_range",
    "check_role_get", "check_txn", "check_user_get",
]  # fmt: skip


def check_keys(auth: AuthStore, who: Identity, key: bytes, range_end: bytes, kind: int) -> RpcError | None:
    """Refuse READ or WRITE of a range: USER_EMPTY, AUTH_OLD_REVISION or PERMISSION_DENIED."""
    if not auth.enabled:
        return None
    if not who.revision:
        return rpc_errors.USER_EMPTY
    if who.revision < auth.revision:
        return rpc_errors.AUTH_OLD_REVISION
    return None if auth.permits(who.name, key, range_end, kind) else rpc_errors.PERMISSION_DENIED


def check_admin(auth: AuthStore, who: Identity) -> RpcError | None:
    """Refuse everybody but users with the role root: USER_EMPTY or PERMISSION_DENIED."""
    if not auth.enabled:
        return None
    if not who.name:
        return rpc_errors.USER_EMPTY
    return None if auth.is_root(who.name) else rpc_errors.PERMISSION_DENIED


def check_range(auth: AuthStore, who: Identity, request: rpc.RangeRequest) -> RpcError | None:
    """Refuse reading what is not to be read."""
    return check_keys(auth, who, request.key, request.range_end, READ)


def check_put(
    auth: AuthStore, who: Identity, request: rpc.PutRequest, lessor: Lessor | None
) -> RpcError | None:
    """Refuse a put. ``lessor``: refuse a lease on which foreign keys hang, too; None in transactions."""
    error = check_keys(auth, who, request.key, b"", WRITE)
    if error is None and request.lease and lessor is not None:
        error = check_lease_keys(auth, who, request.lease, lessor, WRITE)
    if error is None and request.prev_kv:
        error = check_keys(auth, who, request.key, b"", READ)
    return error


def check_delete(auth: AuthStore, who: Identity, request: rpc.DeleteRangeRequest) -> RpcError | None:
    """Refuse a deletion; one that shows what it deleted needs the right to read."""
    return check_keys(auth, who, request.key, request.range_end, WRITE) or (
        check_keys(auth, who, request.key, request.range_end, READ) if request.prev_kv else None
    )


def check_lease_keys(
    auth: AuthStore, who: Identity, lease_id: int, lessor: Lessor, kind: int
) -> RpcError | None:
    """Refuse what touches all keys of a lease: to end it writes them, to list them reads them."""
    lease = lessor.get(lease_id)
    for key in lease.keys if lease is not None else ():
        error = check_keys(auth, who, key, b"", kind)
        if error is not None:
            return error
    return None


def check_txn(auth: AuthStore, who: Identity, request: rpc.TxnRequest) -> RpcError | None:
    """Refuse a transaction of which any part, done or not, is refused."""
    for compare in request.compare:
        error = check_keys(auth, who, compare.key, compare.range_end, READ)
        if error is not None:
            return error
    return _check_operations(auth, who, request.success) or _check_operations(auth, who, request.failure)


def _check_operations(
    auth: AuthStore, who: Identity, operations: Iterable[rpc.RequestOp]
) -> RpcError | None:
    for operation in operations:
        error: RpcError | None = None
        match operation.WhichOneof("request"):
            case "request_range":
                error = check_range(auth, who, operation.request_range)
            case "request_put":
                error = check_put(auth, who, operation.request_put, None)
            case "request_delete_range":
                error = check_delete(auth, who, operation.request_delete_range)
            case "request_txn":
                error = check_txn(auth, who, operation.request_txn)
        if error is not None:
            return error
    return None


def check_user_get(auth: AuthStore, who: Identity, name: str) -> RpcError | None:
    """Everybody may look at their own user."""
    error = check_admin(auth, who)
    return None if error is not None and who.name and who.name == name else error


def check_role_get(auth: AuthStore, who: Identity, role: str) -> RpcError | None:
    """Everybody may look at the roles they have."""
    error = check_admin(auth, who)
    return None if error is not None and auth.has_role(who.name, role) else error
