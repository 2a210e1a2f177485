"""Printing answers: one ``Printer`` for each ``--write-out``, looked up by the kind of answer.

A kind is a short name (``get``, ``member_list``); each format has a table from kinds to functions. A format
that cannot show a kind fails with status 4, after the command has been done: so does etcdctl.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from .failures import BAD_FEATURE, Failure

__all__ = ["Printer", "printer_for", "unsupported"]

_MODULES = {
    "simple": ("show_simple", "SimplePrinter"),
    "fields": ("show_fields", "FieldsPrinter"),
    "json": ("show_json", "JsonPrinter"),
    "table": ("show_table", "TablePrinter"),
    "protobuf": ("show_protobuf", "ProtobufPrinter"),
}


class Printer(Protocol):
    """Prints answers in one format; ``format`` is its name. ``value_only`` leaves keys out, where that is
    possible."""

    format: str
    value_only: bool

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        """Print an answer.

        Args:
            kind: What it is.
            answer: The protobuf message, or for kinds of several endpoints a list of pairs.
            more: What the kind's text needs besides: names, ids.
        """


def printer_for(name: str, hexadecimal: bool) -> Printer | None:
    """The printer of a format, None when there is no such format."""
    if name not in _MODULES:
        return None
    module, kind = _MODULES[name]
    made: Printer = getattr(import_module(f"tercet.net.ctl.{module}"), kind)(hexadecimal)
    return made


def unsupported(name: str) -> Failure:
    """This format does not know that kind."""
    return Failure(BAD_FEATURE, f"{name} not supported as output format")
