"""The links between the nodes of the explored world: which are cut, and what begins on each when.

A link is numbered by its ends: sixteen times the sender and the receiver; to 0 go a node's own applications.
"""

from __future__ import annotations

from .schedule import Deviation

__all__ = ["Links"]


class Links:
    """State of all links; ``cut_until`` and ``slower`` are read for every message."""

    __slots__ = ("_begun", "_moment", "cut_until", "slower")

    def __init__(self) -> None:
        self.cut_until = [0] * 256  # by link
        self.slower = [0] * 16  # by receiver: how much longer messages to it take
        self._moment = -1
        self._begun: list[int] = []  # the links of all that has begun at that moment

    def begun(self, now: int) -> list[int]:
        """The link of everything that has begun at this very moment; whoever begins more appends its link."""
        if self._moment != now:
            self._moment = now
            self._begun = []
        return self._begun

    def begin(self, link: int, now: int) -> int:
        """Something begins: how many have begun before at this very moment on this link."""
        begun = self.begun(now)
        before = begun.count(link)
        begun.append(link)
        return before

    def cut(self, deviation: Deviation, now: int, end: int) -> None:
        """Cut one side off, as a PARTITION says; nodes are below ``end``."""
        until = now + deviation.amount
        mask, way = deviation.node, deviation.extra
        for one in range(1, end):
            if not mask >> one & 1:
                continue
            for other in range(1, end):
                if mask >> other & 1:
                    continue
                for cut, link in ((way != 2, one * 16 + other), (way != 1, other * 16 + one)):
                    if cut and self.cut_until[link] < until:
                        self.cut_until[link] = until

    def heal(self) -> None:
        """Nothing is cut or slow any more."""
        self.cut_until = [0] * len(self.cut_until)
        self.slower = [0] * len(self.slower)
