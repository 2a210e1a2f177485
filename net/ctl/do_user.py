"""``user add``, ``delete``, ``get``, ``list``, ``passwd``, ``grant-role`` and ``revoke-role``."""

from __future__ import annotations

from tercet.core.wire.proto import auth_pb2

from .auth_call import ask_auth, only_name, show_named
from .context import Context, write
from .passwords import new_password, piped_password

__all__ = ["add", "delete", "get", "grant_role", "list_all", "passwd", "revoke_role"]


def add(context: Context) -> None:
    """``user add``: the password is in the argument, in a flag, typed, piped, or there is none."""
    name, password = only_name(context, "user add", "user"), context.text("new-user-password")
    options = auth_pb2.UserAddOptions(no_password=context.yes("no-password"))
    if not password and not options.no_password:
        name, colon, password = name.partition(":")
        if not colon:
            password = new_password(name) if context.yes("interactive") else piped_password()
        else:
            context.need(bool(name), "empty user name is not allowed")
    answer = ask_auth(context, "UserAdd", name=name, password=password, options=options)
    context.show("user_add", answer, name)


def delete(context: Context) -> None:
    """``user delete``."""
    show_named(context, "user_delete", "UserDelete", "name", only_name(context, "user delete", "user"))


def get(context: Context) -> None:
    """``user get``: roles, or with ``--detail`` what they permit."""
    name = only_name(context, "user get", "user")
    if not context.yes("detail"):
        show_named(context, "user_get", "UserGet", "name", name)
        return
    answer = ask_auth(context, "UserGet", name=name)
    write(f"User: {name}\n")
    for role in answer.roles:
        write("\n")
        show_named(context, "role_get", "RoleGet", "role", role)


def list_all(context: Context) -> None:
    """``user list``."""
    context.need(not context.arguments, "user list command requires no arguments")
    context.show("user_list", ask_auth(context, "UserList"))


def passwd(context: Context) -> None:
    """``user passwd``."""
    name = only_name(context, "user passwd", "user")
    password = new_password(name) if context.yes("interactive") else piped_password()
    context.show("user_passwd", ask_auth(context, "UserChangePassword", name=name, password=password))


def grant_role(context: Context) -> None:
    """``user grant-role``."""
    context.need(
        len(context.arguments) == 2, "user grant command requires user name and role name as its argument"
    )
    user, role = context.arguments
    context.show("user_grant", ask_auth(context, "UserGrantRole", user=user, role=role), user, role)


def revoke_role(context: Context) -> None:
    """``user revoke-role``."""
    context.need(
        len(context.arguments) == 2, "user revoke-role requires user name and role name as its argument"
    )
    user, role = context.arguments
    context.show("user_revoke", ask_auth(context, "UserRevokeRole", name=user, role=role), user, role)
