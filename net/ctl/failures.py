"""How a command fails: a text for standard error and an exit status, both as etcdctl has them.

Statuses: 1 the server said no, 2 no connection or no login, 3 bad input to read, 4 a format or option value
that is not supported, 5 interrupted or cancelled, 6 input/output, 128 wrong arguments.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAD_ARGS", "BAD_CONNECTION", "BAD_FEATURE", "ERROR", "INTERRUPTED", "INVALID_INPUT", "IO", "Failure",
]

ERROR: Final = 1
BAD_CONNECTION: Final = 2
INVALID_INPUT: Final = 3
BAD_FEATURE: Final = 4
INTERRUPTED: Final = 5
IO: Final = 6
BAD_ARGS: Final = 128


class Failure(Exception):
    """Ends the program: ``Error: text`` on standard error, then ``status``. An empty text prints nothing."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
