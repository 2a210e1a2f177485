"""``role add``, ``delete``, ``get``, ``list``, ``grant-permission`` and ``revoke-permission``."""

from __future__ import annotations

from typing import Final

from tercet.core.wire.proto import auth_pb2

from .auth_call import ask_auth, only_name, show_named
from .context import Context
from .do_kv import key_range

__all__ = ["add", "delete", "get", "grant_permission", "list_all", "revoke_permission"]

_KINDS: Final = {
    "READ": auth_pb2.Permission.READ,
    "WRITE": auth_pb2.Permission.WRITE,
    "READWRITE": auth_pb2.Permission.READWRITE,
}


def add(context: Context) -> None:
    """``role add``."""
    show_named(context, "role_add", "RoleAdd", "name", only_name(context, "role add", "role"))


def delete(context: Context) -> None:
    """``role delete``."""
    show_named(context, "role_delete", "RoleDelete", "role", only_name(context, "role delete", "role"))


def get(context: Context) -> None:
    """``role get``."""
    show_named(context, "role_get", "RoleGet", "role", only_name(context, "role get", "role"))


def list_all(context: Context) -> None:
    """``role list``."""
    context.need(not context.arguments, "role list command requires no arguments")
    context.show("role_list", ask_auth(context, "RoleList"))


def _ends(context: Context, first: int) -> tuple[bytes, bytes]:
    """The range that the arguments from ``first`` on mean; with an empty key an end means nothing."""
    prefix, from_key = context.yes("prefix"), context.yes("from-key")
    key, has_end = context.raw(first), len(context.arguments) > first + 1
    if key and has_end:
        context.need(not prefix, "unexpected endkey argument with --prefix flag")
        context.need(not from_key, "unexpected endkey argument with --from-key flag")
        return key, context.raw(first + 1)
    context.need(not (prefix and from_key), "--from-key and --prefix flags are mutually exclusive")
    return key_range(key or b"\0", b"", prefix and bool(key), from_key or (prefix and not key))


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
    answer = ask_auth(context, "RoleGrantPermission", name=role, perm=permission)
    context.show("role_grant", answer, role)


def revoke_permission(context: Context) -> None:
    """``role revoke-permission``."""
    context.need(
        len(context.arguments) >= 2,
        "role revoke-permission command requires role name and key [endkey] as its argument",
    )
    role = context.arguments[0]
    key, end = _ends(context, 1)
    answer = ask_auth(context, "RoleRevokePermission", role=role, key=key, range_end=end)
    context.show("role_revoke", answer, role, context.raw(1), end)
