"""What a client may do that is legal and useless: budgets against floods (RFC 9113, section 10.5).

A bucket holds tokens. Useless acts take one, time and answered requests give some back; so a client that
does real work may be as fast as it likes, and one that only resets, pings or sends empty frames runs dry.
Refunds are computed when a token is taken: the fast path pays nothing but counting its answers.

``PingPolice`` is grpc-go's keep-alive rule, which etcd's clients are tuned to.
"""

from __future__ import annotations

__all__ = ["Bucket", "PingPolice"]


class Bucket:
    """Tokens: ``burst`` at first and at most; ``rate`` a second and ``per_answer`` each answer come back."""

    __slots__ = ("_answers", "_burst", "_last", "_per_answer", "_rate", "_tokens")

    def __init__(self, burst: int, rate: float, per_answer: float) -> None:
        self._burst = self._tokens = float(burst)
        self._rate = rate
        self._per_answer = per_answer
        self._last: float | None = None
        self._answers = 0

    def take(self, now: float, answers: int, cost: float = 1.0) -> bool:
        """Take ``cost`` tokens; False when there were not enough.

        Args:
            now: monotonic seconds.
            answers: the connection's answers so far, ever growing.
        """
        if self._last is not None:
            gained = (now - self._last) * self._rate + (answers - self._answers) * self._per_answer
            self._tokens = min(self._burst, self._tokens + max(gained, 0.0))
        self._last = now
        self._answers = answers
        self._tokens -= cost
        return self._tokens >= 0.0


class PingPolice:
    """Counts keep-alive PINGs that come too early; a server that has sent HEADERS or DATA forgives all."""

    __slots__ = ("_allowed", "_answers", "_idle", "_last", "_least", "_strikes")

    def __init__(self, least_seconds: float, idle_seconds: float, strikes: int) -> None:
        self._least = least_seconds
        self._idle = idle_seconds
        self._allowed = strikes
        self._strikes = 0
        self._answers = 0
        self._last: float | None = None

    def ping(self, now: float, answers: int, open_streams: int) -> bool:
        """Note one PING; False when it is one too many (GOAWAY ``too_many_pings``).

        Args:
            answers: HEADERS or DATA frames the server has sent so far, or any count that grows with them.
        """
        last, self._last = self._last, now
        if answers != self._answers:
            self._answers = answers
            self._strikes = 0
            return True
        wait = self._least if open_streams else self._idle
        if last is not None and now - last < wait:
            self._strikes += 1
        return self._strikes <= self._allowed
