"""``user add``, ``delete``, ``get``, ``list``, ``passwd``, ``grant-role`` and ``revoke-role``."""

from __future__ import annotations

from typing import Any, Final

from tercet.core.wire.proto import auth_pb2
from tercet.core.wire.proto import rpc_pb2 as rpc

from .context import Context, write
from .passwords import new_password, piped_password
from .session import call_once

__all__ = ["add", "delete", "get", "grant_role", "list_all", "passwd", "revoke_role"]

_AUTH: Final = "/etcdserverpb.Auth/"


def _call(context: Context, method: str, request: Any, answer: type[Any]) -> Any:
    return context.run(call_once, context.settings(), _AUTH + method, request, answer)


def add(context: Context) -> None:
    """``user add``: the password is in the argument, in a flag, typed, piped, or there is none."""
    context.need(len(context.arguments) == 1, "user add command requires user name as its argument")
    name, password = context.arguments[0], context.text("new-user-password")
    options = auth_pb2.UserAddOptions(no_password=context.yes("no-password"))
    if not password and not options.no_password:
        name, colon, password = name.partition(":")
        if not colon:
            password = new_password(name) if context.yes("interactive") else piped_password()
        else:
            context.need(bool(name), "empty user name is not allowed.")
    request = rpc.AuthUserAddRequest(name=name, password=password, options=options)
    context.printer.show("user_add", _call(context, "UserAdd", request, rpc.AuthUserAddResponse), name)


def delete(context: Context) -> None:
    """``user delete``."""
    context.need(len(context.arguments) == 1, "user delete command requires user name as its argument")
    name = context.arguments[0]
    answer = _call(context, "UserDelete", rpc.AuthUserDeleteRequest(name=name), rpc.AuthUserDeleteResponse)
    context.printer.show("user_delete", answer, name)


def get(context: Context) -> None:
    """``user get``: roles, or with ``--detail`` what they permit."""
    context.need(len(context.arguments) == 1, "user get command requires user name as its argument")
    name = context.arguments[0]
    answer = _call(context, "UserGet", rpc.AuthUserGetRequest(name=name), rpc.AuthUserGetResponse)
    if not context.yes("detail"):
        context.printer.show("user_get", answer, name)
        return
    write(f"User: {name}\n")
    for role in answer.roles:
        write("\n")
        found = _call(context, "RoleGet", rpc.AuthRoleGetRequest(role=role), rpc.AuthRoleGetResponse)
        context.printer.show("role_get", found, role)


def list_all(context: Context) -> None:
    """``user list``."""
    context.need(not context.arguments, "user list command requires no arguments")
    context.printer.show(
        "user_list", _call(context, "UserList", rpc.AuthUserListRequest(), rpc.AuthUserListResponse)
    )


def passwd(context: Context) -> None:
    """``user passwd``."""
    context.need(len(context.arguments) == 1, "user passwd command requires user name as its argument")
    name = context.arguments[0]
    password = new_password(name) if context.yes("interactive") else piped_password()
    request = rpc.AuthUserChangePasswordRequest(name=name, password=password)
    answer = _call(context, "UserChangePassword", request, rpc.AuthUserChangePasswordResponse)
    context.printer.show("user_passwd", answer)


def grant_role(context: Context) -> None:
    """``user grant-role``."""
    context.need(
        len(context.arguments) == 2, "user grant command requires user name and role name as its argument"
    )
    user, role = context.arguments
    request = rpc.AuthUserGrantRoleRequest(user=user, role=role)
    answer = _call(context, "UserGrantRole", request, rpc.AuthUserGrantRoleResponse)
    context.printer.show("user_grant", answer, user, role)


def revoke_role(context: Context) -> None:
    """``user revoke-role``."""
    context.need(
        len(context.arguments) == 2, "user revoke-role requires user name and role name as its argument"
    )
    user, role = context.arguments
    request = rpc.AuthUserRevokeRoleRequest(name=user, role=role)
    answer = _call(context, "UserRevokeRole", request, rpc.AuthUserRevokeRoleResponse)
    context.printer.show("user_revoke", answer, user, role)
