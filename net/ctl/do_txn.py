"""``txn``: conditions, what to do when all hold, what to do otherwise; a blank line ends each part."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from tercet.core.wire.proto import rpc_pb2 as rpc

from .argify import split_line, unquoted
from .command import Command
from .context import Context, complain, write
from .do_kv import delete_request, get_request, put_request
from .failures import INVALID_INPUT, Failure
from .flagset import FlagError, parse_flags
from .text import parse_int, quoted
from .unary import ask_once
from .usage import usage_text

__all__ = ["read_compare", "txn"]

Item = TypeVar("Item")

_TEXT: Final = rb'("(?:[^"\\]|\\.)*"|`[^`]*`)'
_COMPARE: Final = re.compile(rb"\s*" + _TEXT + rb"\)\s+(\S+)\s+" + _TEXT)
_KEY: Final = re.compile(rb"\s*" + _TEXT)
_KEY_AND_SIGN: Final = re.compile(rb"\s*" + _TEXT + rb"\)\s+(\S+)")
_RESULTS: Final = {
    b"=": rpc.Compare.EQUAL,
    b"!=": rpc.Compare.NOT_EQUAL,
    b">": rpc.Compare.GREATER,
    b"<": rpc.Compare.LESS,
}
#: Spelling -> the field that is compared.
_TARGETS: Final = {
    "ver": "version", "version": "version", "c": "create_revision", "create": "create_revision",
    "m": "mod_revision", "mod": "mod_revision", "val": "value", "value": "value", "lease": "lease",
}  # fmt: skip
_NUMBERS: Final = {
    "version": rpc.Compare.VERSION,
    "create_revision": rpc.Compare.CREATE,
    "mod_revision": rpc.Compare.MOD,
    "value": rpc.Compare.VALUE,
    "lease": rpc.Compare.LEASE,
}


def txn(context: Context) -> None:
    """``txn``."""
    context.need(not context.arguments, "txn command does not accept argument")
    settings = context.settings()
    interactive = context.yes("interactive")
    request = rpc.TxnRequest()
    request.compare.extend(_part("compares:", interactive, read_compare))
    request.success.extend(
        _part("success requests (get, put, del):", interactive, lambda line: _operation(context, line))
    )
    request.failure.extend(
        _part("failure requests (get, put, del):", interactive, lambda line: _operation(context, line))
    )
    answer = ask_once(settings, "/etcdserverpb.KV/Txn", request, rpc.TxnResponse, patient=True)
    context.show("txn", answer)


def _part(title: str, interactive: bool, read: Callable[[bytes], Item]) -> list[Item]:
    if interactive:
        write(title + "\n")
    items: list[Item] = []
    while True:
        line = sys.stdin.buffer.readline()
        if not line.endswith(b"\n"):
            raise Failure(INVALID_INPUT, "EOF")
        line = line.strip()
        if not line:
            return items
        items.append(read(line))


def read_compare(line: bytes) -> rpc.Compare:
    """Read a condition such as ``mod("key") > "0"``. Raises ``Failure``."""
    shown = os.fsdecode(line)
    target, bracket, rest = line.partition(b"(")
    if not bracket:
        raise Failure(INVALID_INPUT, f"malformed comparison: {shown}")
    name = os.fsdecode(target)
    found = _COMPARE.match(rest)
    if found is None:
        key, both = _KEY.match(rest), _KEY_AND_SIGN.match(rest)
        shown_key = quoted(_said(key[1])) if key else '""'
        got = f'{name}({shown_key}) {os.fsdecode(both[2]) if both else ""} ""'
        raise Failure(INVALID_INPUT, f"malformed comparison: {shown}; got {got}")
    field = _TARGETS.get(name)
    if field is None:
        raise Failure(INVALID_INPUT, f"malformed comparison: {shown} (unknown target {name})")
    result = _RESULTS.get(found[2])
    if result is None:
        sign = os.fsdecode(found[2])
        raise Failure(INVALID_INPUT, f"malformed comparison: {shown} (unknown result {sign})")
    compare = rpc.Compare(result=result, target=_NUMBERS[field], key=_said(found[1]))
    wanted = _said(found[3])
    if field == "value":
        compare.value = wanted
        return compare
    try:
        number = parse_int(os.fsdecode(wanted), 16 if field == "lease" else 10)
    except ValueError:
        raise Failure(INVALID_INPUT, f"invalid txn compare request: {shown}") from None
    setattr(compare, field, number)
    return compare


def _said(text: bytes) -> bytes:
    """What a text in either kind of quotes says."""
    return text[1:-1] if text[:1] == b"`" else unquoted(text)


def _operation(context: Context, line: bytes) -> rpc.RequestOp:
    """Read a request: a ``get``, ``put`` or ``del`` command line."""
    shown = os.fsdecode(line)
    words = [os.fsdecode(word) for word in split_line(line)]
    if len(words) < 2:
        raise Failure(INVALID_INPUT, f"invalid txn compare request: {shown}")
    known = (one for one in context.program.root.children if one.name in ("get", "put", "del"))
    command = Command("", "", children=tuple(known)).child(words[0])
    if command is None:
        raise Failure(INVALID_INPUT, f"invalid txn request: {shown}")
    try:
        parsed = parse_flags({flag.name: flag for flag in command.flags}, words[1:])
    except FlagError:
        complain(usage_text(command))
        raise Failure(INVALID_INPUT, f"invalid txn request: {shown}") from None
    inner = Context(context.program, (context.program.root, command), parsed, {}, words)
    if command.name == "get":
        return rpc.RequestOp(request_range=get_request(inner))
    if command.name == "put":
        return rpc.RequestOp(request_put=put_request(inner, standard_input=False))
    return rpc.RequestOp(request_delete_range=delete_request(inner))
