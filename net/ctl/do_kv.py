"""``get``, ``put``, ``del`` and ``compaction``. The request makers serve ``txn``, too."""

from __future__ import annotations

import os
import sys
from typing import Final

from tercet.core.wire.proto import rpc_pb2 as rpc

from ..client.prefix import prefix_end
from .context import Context, write
from .failures import BAD_ARGS, BAD_FEATURE, ERROR, Failure
from .text import parse_int
from .unary import ask_once

__all__ = [
    "compaction", "delete", "delete_request", "get", "get_request", "key_range", "lease_id", "put",
    "put_request",
]

_ORDERS: Final = {"": 0, "ASCEND": 1, "DESCEND": 2}
_TARGETS: Final = {"": 0, "KEY": 0, "VERSION": 1, "CREATE": 2, "MODIFY": 3, "VALUE": 4}
_BOTH: Final = "`--prefix` and `--from-key` cannot be set at the same time, choose one"
_TOO_MANY: Final = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set"


def key_range(key: bytes, end: bytes, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """The key and range end that ask for what the flags say."""
    if (prefix or from_key) and not key:
        return b"\0", b"\0"
    if prefix:
        return key, prefix_end(key)
    return key, b"\0" if from_key else end


def lease_id(word: str, text: str) -> int:
    """A lease's id in hexadecimal; ``text`` is the failure's, with a place for the reason."""
    try:
        return parse_int(word, 16)
    except ValueError as error:
        raise Failure(BAD_ARGS, text.format(error)) from None


def _ends(context: Context) -> tuple[bytes, bytes]:
    prefix, from_key = context.yes("prefix"), context.yes("from-key")
    end = b""
    if len(context.arguments) > 1:
        context.need(not (prefix or from_key), _TOO_MANY)
        end = context.raw(1)
    return key_range(context.raw(0), end, prefix, from_key)


def get_request(context: Context) -> rpc.RangeRequest:
    """The request that a ``get`` command line means."""
    context.need(
        bool(context.arguments), "get command needs one argument as key and an optional argument as range_end"
    )
    context.need(not (context.yes("prefix") and context.yes("from-key")), _BOTH)
    consistency = context.text("consistency")
    if consistency not in ("l", "s"):
        raise Failure(BAD_FEATURE, f'unknown consistency flag "{consistency}"')
    key, end = _ends(context)
    order, target = context.text("order").upper(), context.text("sort-by").upper()
    if order not in _ORDERS:
        raise Failure(BAD_FEATURE, f"bad sort order {context.text('order')}")
    if target not in _TARGETS:
        raise Failure(BAD_FEATURE, f"bad sort target {context.text('sort-by')}")
    return rpc.RangeRequest(
        key=key,
        range_end=end,
        serializable=consistency == "s",
        limit=context.number("limit"),
        revision=max(context.number("rev"), 0),
        sort_order=rpc.RangeRequest.SortOrder.ValueType(_ORDERS[order]),
        sort_target=rpc.RangeRequest.SortTarget.ValueType(_TARGETS[target]),
        keys_only=context.yes("keys-only"),
        count_only=context.yes("count-only"),
    )


def get(context: Context) -> None:
    """``get``."""
    request = get_request(context)
    context.need(
        not (context.yes("keys-only") and context.yes("count-only")),
        "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
    )
    answer = ask_once(context.settings(), "/etcdserverpb.KV/Range", request, rpc.RangeResponse)
    printer = context.printer
    if context.yes("count-only"):
        context.need(printer.format == "fields", "--count-only is only for `--write-out=fields`")
    if context.yes("print-value-only"):
        context.need(printer.format == "simple", "print-value-only is only for `--write-out=simple`")
        printer.value_only = True
    printer.show("get", answer)


def put_request(context: Context, standard_input: bool = True) -> rpc.PutRequest:
    """The request that a ``put`` command line means; ``standard_input`` may have the value."""
    wrong = "put command needs 1 argument and input from stdin or 2 arguments"
    context.need(bool(context.arguments), wrong)
    value = b""
    if context.yes("ignore-value"):
        context.need(
            len(context.arguments) == 1, "put command needs only 1 argument when 'ignore-value' is set"
        )
    elif len(context.arguments) > 1:
        value = context.raw(1)
    else:
        value = sys.stdin.buffer.read() if standard_input else b""
        context.need(bool(value), wrong)
    return rpc.PutRequest(
        key=context.raw(0),
        value=value,
        lease=lease_id(context.text("lease"), "bad lease ID ({}), expecting ID in Hex"),
        prev_kv=context.yes("prev-kv"),
        ignore_value=context.yes("ignore-value"),
        ignore_lease=context.yes("ignore-lease"),
    )


def put(context: Context) -> None:
    """``put``."""
    request = put_request(context)
    answer = ask_once(context.settings(), "/etcdserverpb.KV/Put", request, rpc.PutResponse)
    context.show("put", answer)


def delete_request(context: Context) -> rpc.DeleteRangeRequest:
    """The request that a ``del`` command line means."""
    context.need(
        len(context.arguments) in (1, 2),
        "del command needs one argument as key and an optional argument as range_end",
    )
    context.need(not (context.yes("prefix") and context.yes("from-key")), _BOTH)
    key, end = _ends(context)
    return rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=context.yes("prev-kv"))


def delete(context: Context) -> None:
    """``del``."""
    request = delete_request(context)
    answer = ask_once(
        context.settings(), "/etcdserverpb.KV/DeleteRange", request, rpc.DeleteRangeResponse
    )
    context.show("delete", answer)


def compaction(context: Context) -> None:
    """``compaction``."""
    context.need(len(context.arguments) == 1, "compaction command needs 1 argument")
    try:
        revision = parse_int(os.fsdecode(context.raw(0)))
    except ValueError as error:
        raise Failure(ERROR, str(error)) from None
    request = rpc.CompactionRequest(revision=revision, physical=context.yes("physical"))
    ask_once(context.settings(), "/etcdserverpb.KV/Compact", request, rpc.CompactionResponse)
    write(f"compacted revision {revision}\n")
