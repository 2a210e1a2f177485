"""What the commands about users and roles share: their arguments, and calls by the method's name."""

from __future__ import annotations

from typing import Any

from tercet.core.wire.proto import rpc_pb2 as rpc

from .context import Context
from .unary import ask_once

__all__ = ["ask_auth", "only_name", "show_named"]


def ask_auth(context: Context, method: str, **fields: Any) -> Any:
    """Make a call of the Auth service, whose messages are named after it, with these fields."""
    request = getattr(rpc, f"Auth{method}Request")(**fields)
    answer = getattr(rpc, f"Auth{method}Response")
    path = f"/etcdserverpb.Auth/{method}"
    return ask_once(context.settings(), path, request, answer, patient=True)


def only_name(context: Context, command: str, wanted: str) -> str:
    """The only argument of a command, which is a name."""
    context.need(len(context.arguments) == 1, f"{command} command requires {wanted} name as its argument")
    return context.arguments[0]


def show_named(context: Context, kind: str, method: str, field: str, name: str) -> None:
    """Make a call about one name and show its answer."""
    context.show(kind, ask_auth(context, method, **{field: name}), name)
