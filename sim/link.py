"""The way from one host to another: delay, loss, bandwidth, cuts and clogs.

A link is directed. TCP hides loss, so a lost segment here is a late one (a retransmission timeout, doubled
for each further loss). ``cut`` and ``clogged`` count the faults that are on, so that overlapping faults do
not end each other. A cut drops: what was sent meanwhile comes with a later retransmission, or never when
the connection times out first. A clog holds: everything comes at once when it is released.
"""

from __future__ import annotations

from typing import Protocol

from .engine import SECOND, Engine
from .host import Host
from .seeds import stream

__all__ = ["RTO_MAX", "RTO_MIN", "Link"]

RTO_MIN = SECOND // 5
RTO_MAX = 3 * SECOND
_LOOPBACK = 20_000


class _Waiting(Protocol):
    def released(self, _: object) -> bool: ...


class Link:
    """One direction between two hosts (or a host and itself)."""

    __slots__ = (
        "_engine",
        "_rng",
        "_waiting",
        "bytes_per_second",
        "chunk_rate",
        "clogged",
        "cut",
        "extra_jitter",
        "extra_latency",
        "free_at",
        "jitter",
        "latency",
        "loss",
        "source",
        "target",
    )  # fmt: skip

    def __init__(self, engine: Engine, source: Host, target: Host) -> None:
        self._engine = engine
        self.source = source
        self.target = target
        self._rng = rng = stream(engine.seed, "link", f"{source.name}>{target.name}")
        local = source is target
        self.latency = _LOOPBACK if local else 200_000 + rng.randrange(1_000_000)  # ns, one way
        self.jitter = 0 if local else self.latency // 2
        self.extra_latency = 0
        self.extra_jitter = 0
        self.loss = 0.0  # probability that a segment has to be sent again
        self.bytes_per_second = 0  # 0: no limit
        self.free_at = 0
        self.chunk_rate = 0.0  # probability that a delivery is cut in two
        self.cut = 0
        self.clogged = 0
        self._waiting: list[_Waiting] = []

    @property
    def dead(self) -> bool:
        """Nothing gets through now, as seen by the sender."""
        return self.cut > 0 or not self.target.up

    def delay(self) -> int:
        """Draw the time that one small packet takes, in ns."""
        jitter = self.jitter + self.extra_jitter
        delay = self.latency + self.extra_latency
        return delay + self._rng.randrange(jitter) if jitter else delay

    def arrival(self, size: int) -> int:
        """When ``size`` bytes sent now arrive, in virtual ns."""
        now = max(self._engine.now, self.source.stalled_until)
        when = now + self.delay()
        if self.bytes_per_second:
            start = max(now, self.free_at)
            self.free_at = start + size * SECOND // self.bytes_per_second
            when += self.free_at - now
        if self.loss:
            timeout = RTO_MIN
            while self._rng.random() < self.loss and timeout <= RTO_MAX:
                when += timeout
                timeout *= 2
        return when

    def cut_point(self, size: int) -> int:
        """Where a delivery of ``size`` bytes is cut in two; 0: not at all."""
        if size > 1 and self._rng.random() < self.chunk_rate:
            return 1 + self._rng.randrange(size - 1)
        return 0

    def wait_for_release(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)

    def release(self) -> None:
        """Take one clog away; the last one lets everything through in one burst."""
        self.clogged -= 1
        if self.clogged == 0:
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                self._engine.after(0, one.released)
