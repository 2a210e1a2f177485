"""``--write-out=table``: rows in a frame of ``+``, ``-`` and ``|``, for those answers that are rows."""

from __future__ import annotations

import textwrap
from typing import Any

from .context import write
from .rows import HEADS, ROWS
from .show import unsupported

__all__ = ["TablePrinter", "framed"]

#: Longer texts with spaces in them go over several lines.
CELL_WIDTH = 30


def framed(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table: heads in capitals and centred, cells to the right."""
    titles = [head.upper() for head in heads]
    wrapped = [[_lines(cell) for cell in row] for row in rows]
    widths = [
        max([len(title), *(len(line) for row in wrapped for line in row[column])])
        for column, title in enumerate(titles)
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
    parts = [rule, _row([_centred(title, width) for title, width in zip(titles, widths, strict=True)]), rule]
    for row in wrapped:
        for number in range(max(len(lines) for lines in row)):
            cells = (lines[number] if number < len(lines) else "" for lines in row)
            parts.append(_row([cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]))
    return "".join([*parts, rule])


def _lines(cell: str) -> list[str]:
    words = cell.split()
    width = max([CELL_WIDTH, *(len(word) for word in words)])
    return textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]


def _centred(text: str, width: int) -> str:
    left = (width - len(text)) // 2
    return (" " * left + text).ljust(width)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


class TablePrinter:
    """See the module's text."""

    format = "table"

    def __init__(self, hexadecimal: bool) -> None:
        self.value_only = False

    def show(self, kind: str, answer: Any, *more: Any) -> None:
        if kind not in ROWS:
            raise unsupported("table")
        write(framed(HEADS[kind], ROWS[kind](answer)))
