"""``--write-out=protobuf``: the answer's own bytes, and nothing behind them."""

from __future__ import annotations

from typing import Any, Final

from .context import write_bytes
from .show import unsupported

__all__ = ["ProtobufPrinter"]

#: Answers of which etcd's client library keeps the header and plain numbers: only the header is printed.
_HEADERS: Final = frozenset({"grant", "keep_alive", "time_to_live", "leases"})
_UNSUPPORTED: Final = frozenset({"health", "status", "hashkv", "db_status"})


class ProtobufPrinter:
    """See the module's text."""

    format = "protobuf"

    def __init__(self, hexadecimal: bool) -> None:
        self.value_only = False

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        if kind in _UNSUPPORTED:
            raise unsupported("protobuf")
        message = answer.header if kind in _HEADERS else answer
        if kind == "watch":
            message = type(answer)()
            message.CopyFrom(answer)
            message.ClearField("watch_id")
            message.ClearField("cancel_reason")
        write_bytes(message.SerializeToString())
