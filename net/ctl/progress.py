"""A progress bar: counts, percent and time left; the bar itself only on a terminal that is wide enough."""

from __future__ import annotations

import os
import time

from .context import write
from .text import duration_text

__all__ = ["ProgressBar"]

BAR_MIN = 3


class ProgressBar:
    """``show`` draws it anew over itself, ``finish`` ends its line."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = time.monotonic()
        self.done = 0

    def show(self) -> None:
        """Draw what is done by now."""
        left = self._left()
        self._draw(f" {left}" if left else "")

    def finish(self) -> None:
        """Draw the end, with the time it took."""
        self.done = self._total
        took = max(1, round(time.monotonic() - self._started))
        self._draw(f" {duration_text(took)}")
        write("\n")

    def _left(self) -> str:
        if not 0 < self.done < self._total:
            return ""
        passed = time.monotonic() - self._started
        seconds = round(passed / self.done * (self._total - self.done))
        return f"{seconds // 60:02d}m{seconds % 60:02d}s" if seconds else ""

    def _draw(self, tail: str) -> None:
        head = f" {self.done} / {self._total} "
        percent = f" {100 * self.done / self._total:7.2f}%"
        width = self._width() - len(head) - len(percent) - len(tail) - 3
        bar = ""
        if width >= BAR_MIN:
            filled = width * self.done // self._total
            bar = "B" + ("o" * filled).ljust(width) + "!"
        else:
            head = head.rstrip()
        write("\r" + head + bar + percent + tail)

    @staticmethod
    def _width() -> int:
        try:
            return os.get_terminal_size(1).columns
        except OSError:
            return 0
