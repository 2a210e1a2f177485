"""``auth enable``, ``disable`` and ``status``."""

from __future__ import annotations

from tercet.core.rpc_errors import RpcError
from tercet.core.wire.proto import rpc_pb2 as rpc

from .context import Context, write
from .unary import Caller, ask_once

__all__ = ["disable", "enable", "status"]

ROLELESS = "etcdserver: root user does not have root role"


def enable(context: Context) -> None:
    """``auth enable``; gives the root user its role when it has none."""
    context.need(not context.arguments, "auth enable command does not accept any arguments")
    with Caller(context.settings()) as caller:
        while True:
            try:
                caller.ask("/etcdserverpb.Auth/AuthEnable", rpc.AuthEnableRequest(), rpc.AuthEnableResponse)
                break
            except RpcError as error:
                if error.message != ROLELESS:
                    raise
            _give_root_its_role(caller)
    write("Authentication Enabled\n")


def _give_root_its_role(caller: Caller) -> None:
    try:
        caller.ask(
            "/etcdserverpb.Auth/RoleAdd", rpc.AuthRoleAddRequest(name="root"), rpc.AuthRoleAddResponse
        )
    except RpcError as error:
        if error.message != "etcdserver: role name already exists":
            raise
    request = rpc.AuthUserGrantRoleRequest(user="root", role="root")
    caller.ask("/etcdserverpb.Auth/UserGrantRole", request, rpc.AuthUserGrantRoleResponse)


def disable(context: Context) -> None:
    """``auth disable``."""
    context.need(not context.arguments, "auth disable command does not accept any arguments")
    path = "/etcdserverpb.Auth/AuthDisable"
    ask_once(context.settings(), path, rpc.AuthDisableRequest(), rpc.AuthDisableResponse)
    write("Authentication Disabled\n")


def status(context: Context) -> None:
    """``auth status``, of etcd 3.5."""
    context.need(not context.arguments, "auth status command does not accept any arguments")
    path = "/etcdserverpb.Auth/AuthStatus"
    answer = ask_once(
        context.settings(), path, rpc.AuthStatusRequest(), rpc.AuthStatusResponse
    )
    context.show("auth_status", answer)
