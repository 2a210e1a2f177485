"""Recording what clients ask and are told, on one observer's clock.

The clock is the observer's, not a client's: in a simulation the true virtual time, whatever the members'
clocks say. Times are made unique by adding a nanosecond where two would be equal, in the order in which
things happened, so a history never has ties. What is still open at the end has an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from tercet.core.errors import OutcomeUnknown, Rejected

from ..history import Header, History, Operation, Result, Watch, WatchBatch

__all__ = ["Recorder", "WatchRecord"]


class Recorder:
    """Collects one run's history.

    Args:
        header: the first line of the file.
    """

    def __init__(self, header: Header) -> None:
        self.header = header
        self.asked = 0
        self.last_error = ""  # of the call that ended last, "" after an answer
        self._done: list[Operation] = []
        self._open: dict[int, Operation] = {}
        self._watches: list[WatchRecord] = []
        self._last = 0

    def time(self, now: int) -> int:
        """A time that nobody has yet, at or just after ``now`` (ns)."""
        self._last = max(now, self._last + 1)
        return self._last

    async def call(
        self, asked: Operation, action: Callable[[], Awaitable[Result]], now: Callable[[], int]
    ) -> Result | None:
        """Record one operation; its answer, or None when it has none.

        Rejected counts as fail, an unknown outcome as info; anything else leaves the operation open.
        """
        self.asked += 1
        number = self.asked
        operation = msgspec.structs.replace(asked, invoke=self.time(now()))
        self._open[number] = operation
        try:
            result = await action()
        except Rejected as error:
            self.last_error = str(error)
            self._close(number, outcome="fail", returned=self.time(now()), error=str(error))
            return None
        except OutcomeUnknown as error:
            self.last_error = str(error)
            self._close(number, error=str(error))
            return None
        self.last_error = ""
        self._close(number, outcome="ok", returned=self.time(now()), result=result)
        return result

    def _close(self, number: int, **known: object) -> None:
        self._done.append(msgspec.structs.replace(self._open.pop(number), **known))

    def healed(self, now: int) -> None:
        """From now on nothing is broken; the latest call counts."""
        self.header = msgspec.structs.replace(self.header, healed=now)

    def compacting(self, asked: Iterable[tuple[int, int]]) -> None:
        """Compactions were asked for at these times (ns), of these revisions."""
        both = sorted((*self.header.compactions, *asked))
        self.header = msgspec.structs.replace(self.header, compactions=tuple(both))

    def led(self, offices: Iterable[int], handover_seconds: float) -> None:
        """Leaders took office at these times (ns); see ``history.Header``."""
        self.header = msgspec.structs.replace(
            self.header, offices=tuple(offices), handover_seconds=handover_seconds
        )

    def note(self, operation: Operation) -> None:
        """Add an operation that nobody waits for, such as the expiry that every lease may come to."""
        self._done.append(operation)

    def watch(self, watch: Watch) -> WatchRecord:
        """Begin to record one watch stream."""
        record = WatchRecord(watch)
        self._watches.append(record)
        return record

    def history(self) -> History:
        """Everything so far; open operations are info."""
        return History(
            tuple(self._done) + tuple(self._open.values()),
            tuple(record.finished() for record in self._watches),
            self.header,
        )


class WatchRecord:
    """One stream while it runs."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._batches: list[WatchBatch] = []

    def add(self, batch: WatchBatch) -> None:
        """One response with events, or a progress notification."""
        self._batches.append(batch)

    def compacted(self, revision: int) -> None:
        """The server ended the watch because its start is gone."""
        self._watch = msgspec.structs.replace(self._watch, compact_revision=revision)

    def finished(self) -> Watch:
        """The stream as a value."""
        return msgspec.structs.replace(self._watch, batches=tuple(self._batches))
