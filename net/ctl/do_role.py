"""``role add``, ``delete``, ``get``, ``list``, ``grant-permission`` and ``revoke-permission``."""

from __future__ import annotations

from typing import Any, Final

from tercet.core.wire.proto import auth_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

from .context import Context
from .do_kv import key_range
from .session import call_once

__all__ = ["add", "delete", "get", "grant_permission", "list_all", "revoke_permission"]

_AUTH: Final = "/etcdserverpb.Auth/"
_KINDS: Final = {
    "READ": auth_pb2.Permission.READ,
    "WRITE": auth_pb2.Permission.WRITE,
    "READWRITE": auth_pb2.Permission.READWRITE,
}


def _call(context: Context, method: str, request: Any, answer: type[Any]) -> Any:
    return context.run(call_once, context.settings(), _AUTH + method, request, answer)


def add(context: Context) -> None:
    """``role add``."""
    context.need(len(context.arguments) == 1, "role add command requires role name as its argument")
    role = context.arguments[0]
    answer = _call(context, "RoleAdd", rpc.AuthRoleAddRequest(name=role), rpc.AuthRoleAddResponse)
    context.printer.show("role_add", answer, role)


def delete(context: Context) -> None:
    """``role delete``."""
    context.need(len(context.arguments) == 1, "role delete command requires role name as its argument")
    role = context.arguments[0]
    answer = _call(context, "RoleDelete", rpc.AuthRoleDeleteRequest(role=role), rpc.AuthRoleDeleteResponse)
    context.printer.show("role_delete", answer, role)


def get(context: Context) -> None:
    """``role get``."""
    context.need(len(context.arguments) == 1, "role get command requires role name as its argument")
    role = context.arguments[0]
    answer = _call(context, "RoleGet", rpc.AuthRoleGetRequest(role=role), rpc.AuthRoleGetResponse)
    context.printer.show("role_get", answer, role)


def list_all(context: Context) -> None:
    """``role list``."""
    context.need(not context.arguments, "role list command requires no arguments")
    context.printer.show(
        "role_list", _call(context, "RoleList", rpc.AuthRoleListRequest(), rpc.AuthRoleListResponse)
    )


def _ends(context: Context, first: int) -> tuple[bytes, bytes]:
    """The range that the arguments from ``first`` on mean."""
    prefix, from_key = context.yes("prefix"), context.yes("from-key")
    context.need(not (prefix and from_key), "--from-key and --prefix flags are mutually exclusive")
    end = b""
    if len(context.arguments) > first + 1:
        context.need(not prefix, "unexpected endkey argument with --prefix flag")
        context.need(not from_key, "unexpected endkey argument with --from-key flag")
        end = context.raw(first + 1)
    return key_range(context.raw(first), end, prefix, from_key)


def grant_permission(context: Context) -> None:
    """``role grant-permission``."""
    context.need(
        len(context.arguments) >= 3,
        "role grant command requires role name, permission type, and key [endkey] as its argument",
    )
    role, kind = context.arguments[0], context.arguments[1].upper()
    context.need(kind in _KINDS, f"invalid permission type: {context.arguments[1]}")
    key, end = _ends(context, 2)
    permission = auth_pb2.Permission(permType=_KINDS[kind], key=key, range_end=end)
    request = rpc.AuthRoleGrantPermissionRequest(name=role, perm=permission)
    answer = _call(context, "RoleGrantPermission", request, rpc.AuthRoleGrantPermissionResponse)
    context.printer.show("role_grant", answer, role)


def revoke_permission(context: Context) -> None:
    """``role revoke-permission``."""
    context.need(
        len(context.arguments) >= 2,
        "role revoke-permission command requires role name and key [endkey] as its argument",
    )
    role = context.arguments[0]
    key, end = _ends(context, 1)
    request = rpc.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end)
    answer = _call(context, "RoleRevokePermission", request, rpc.AuthRoleRevokePermissionResponse)
    context.printer.show("role_revoke", answer, role, key, end)
