"""Elastic tab stops: a cell ends at a tab, and cells of neighbouring lines in one column get one width.

Widths are multiples of 8 and padding is made of tabs, as help texts of Go programs have it. A column is a
run of neighbouring lines that have a tab-ended cell there; the last cell of a line is text of any length.
"""

from __future__ import annotations

__all__ = ["align"]

TAB = 8


def align(text: str) -> str:
    """Lay out a text whose cells are separated by tabs."""
    rows = [line.split("\t") for line in text.split("\n")]
    widths: list[list[int]] = [[] for _ in rows]
    _columns(rows, widths, 0, len(rows), 0)
    return "\n".join(_line(row, width) for row, width in zip(rows, widths, strict=True))


def _columns(rows: list[list[str]], widths: list[list[int]], start: int, end: int, column: int) -> None:
    """Set the width of ``column`` in each run of lines from ``start`` to ``end``, then of those inside."""
    row = start
    while row < end:
        if len(rows[row]) - 1 <= column:
            row += 1
            continue
        first = row
        while row < end and len(rows[row]) - 1 > column:
            row += 1
        widest = max(len(rows[line][column]) + 1 for line in range(first, row))
        width = -(-widest // TAB) * TAB
        for line in range(first, row):
            widths[line].append(width)
        _columns(rows, widths, first, row, column + 1)


def _line(cells: list[str], widths: list[int]) -> str:
    parts = []
    for cell, width in zip(cells, widths, strict=False):
        parts.append(cell + "\t" * -(-(width - len(cell)) // TAB))
    return "".join(parts) + cells[-1]
