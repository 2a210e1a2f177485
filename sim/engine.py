"""The engine: one ``trio.run`` whose clock is a heap of events.

Trio asks its clock how long to sleep only when no task is runnable. At that moment ``Engine`` takes the
next entry (time, sequence, function, argument) off its heap, moves virtual time there and calls the
function; so deliveries, fsync completions, timers and faults all happen in one total order, and no real
time passes. Virtual time is an integer of nanoseconds from 0; ``trio.current_time()`` shows it in seconds
and native Trio deadlines are honoured, so third-party code runs, too.

A function that is called returns False when it made nothing runnable; then the next one follows at once
without a turn of Trio's loop. Whatever else it returns lets Trio run.

Every call and every note of a port goes into a rolling digest, always. ``full_log`` keeps the records,
too: the way to find where two runs part.
"""

from __future__ import annotations

import array
import gc
import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from math import inf
from typing import Any, TypeAlias, TypeVar

import trio

from . import audit
from .seeds import deterministic_scheduling, stream

__all__ = ["SECOND", "Engine", "EventFunction", "Livelock", "SimulationStuck", "seconds_to_ns"]

SECOND = 1_000_000_000

T = TypeVar("T")
EventFunction: TypeAlias = Callable[[Any], object]

_TURN_LIMIT = 2_000_000  # turns of Trio's loop without virtual time moving: a task spins
_COLLECT_EVERY = 200_000  # events between garbage collections; a count, because time is not ours to ask
_FLUSH_WORDS = 16_384
_IDLE_LIMIT = 25  # how often Trio may find nothing to do in a row


class SimulationStuck(RuntimeError):
    """Every task waits and no event will ever come."""


class Livelock(RuntimeError):
    """Tasks keep running while virtual time stands still."""


def seconds_to_ns(seconds: float) -> int:
    """Seconds >= 0 as whole nanoseconds; infinity becomes some 290 years.

    More than nothing is at least one: who waits for the rest of a time-out must see it pass.
    """
    if seconds >= 9e9:
        return 9_000_000_000 * SECOND
    return round(seconds * 1e9) or (1 if seconds > 0 else 0)


class Engine(trio.abc.Clock):
    """Virtual time and the heap of events of one simulation. Good for one ``run``.

    Args:
        seed: orders tasks; every other draw comes from named streams of the same seed.
        full_log: keep every record in ``log`` (slow, much memory).
        seeded_entropy: give ``os.urandom`` seeded bytes instead of refusing it (for third-party code).
    """

    def __init__(self, seed: int, *, full_log: bool = False, seeded_entropy: bool = False) -> None:
        self.seed = seed
        self.now = 0  # ns; only this class writes it
        self.events = 0  # functions called so far
        self.log: list[tuple[object, ...]] | None = [] if full_log else None
        self.escapes: list[str] = []
        self._heap: list[tuple[int, int, EventFunction, Any]] = []
        self._sequence = 0
        self._words = array.array("Q")
        self._hash = hashlib.blake2b(digest_size=16)
        self._turns = 0
        self._idle_asked = 0
        self._over = False
        self._root: trio.CancelScope | None = None
        self._failure: BaseException | None = None
        self._seeded_entropy = seeded_entropy

    # -- scheduling -------------------------------------------------------------------------------

    def at(self, when: int, function: EventFunction, argument: Any = None) -> None:
        """Call ``function(argument)`` at virtual time ``when`` (ns); in the past means now."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (when if when > self.now else self.now, sequence, function, argument))

    def after(self, delay: int, function: EventFunction, argument: Any = None) -> None:
        """Call ``function(argument)`` after ``delay`` >= 0 ns."""
        self._sequence = sequence = self._sequence + 1
        heappush(self._heap, (self.now + delay, sequence, function, argument))

    async def sleep(self, seconds: float) -> None:
        """Sleep in true virtual time, whatever the clocks of the nodes say."""
        if seconds <= 0:
            await trio.lowlevel.checkpoint()
            return
        cell: list[trio.lowlevel.Task | None] = [trio.lowlevel.current_task()]

        def abort(_: object) -> trio.lowlevel.Abort:
            cell[0] = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.after(seconds_to_ns(seconds), _wake_cell, cell)
        await trio.lowlevel.wait_task_rescheduled(abort)

    # -- the record -------------------------------------------------------------------------------

    def note(self, kind: int, node: int, value: int) -> None:
        """Record what a port did: its kind 0..255, the node's number and any value (64 bits count)."""
        words = self._words
        words.append(kind << 48 | node)
        words.append(value & 0xFFFF_FFFF_FFFF_FFFF)
        if self.log is not None:
            self.log.append((self.now, "note", kind, node, value))

    @property
    def digest(self) -> str:
        """32 hex digits over everything that happened so far."""
        self._flush()
        return self._hash.copy().hexdigest()

    def _flush(self) -> None:
        self._hash.update(self._words.tobytes())
        del self._words[:]

    # -- trio.abc.Clock ---------------------------------------------------------------------------

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        self._turns += 1
        if self._turns > _TURN_LIMIT:
            self._turns = 0
            self.fail(Livelock(f"{_TURN_LIMIT} turns at virtual time {self.now} ns: a task spins"))
        return self.now / 1e9

    def deadline_to_sleep_time(self, deadline: float) -> float:
        limit = seconds_to_ns(deadline) if deadline > 0 else 0
        heap, words, log = self._heap, self._words, self.log
        try:
            while heap and heap[0][0] <= limit:
                when, sequence, function, argument = heappop(heap)
                if when > self.now:
                    self.now = when
                    self._turns = 0
                self.events = events = self.events + 1
                words.append(when)
                words.append(sequence)
                if log is not None:
                    log.append((when, sequence, getattr(function, "__qualname__", "?")))
                if not events % _COLLECT_EVERY:
                    gc.collect()
                if len(words) > _FLUSH_WORDS:
                    self._flush()
                if function(argument) is not False:
                    self._idle_asked = 0
                    return 0.0
        except BaseException as error:
            self.fail(error)
            return 0.0
        if deadline == inf:
            return self._nothing_to_do()
        self._jump_to(deadline, limit)
        return 0.0

    def _jump_to(self, deadline: float, limit: int) -> None:
        self._turns = 0
        if limit > self.now:
            self.now = limit
        while self.now / 1e9 < deadline:  # rounding: Trio compares floats
            self.now += 1

    def _nothing_to_do(self) -> float:
        """Give ``trio.testing.wait_all_tasks_blocked`` some short real waits before calling it stuck."""
        if not self._over and self._idle_asked >= _IDLE_LIMIT:
            self.fail(SimulationStuck(f"at virtual time {self.now} ns every task waits for nothing"))
            return 0.0
        self._idle_asked += 1
        return 0.011

    @property
    def ending(self) -> bool:
        """The run is being torn down after a failure of the engine."""
        return self._failure is not None

    # -- running ----------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """End the run with ``error`` (the first one counts)."""
        if self._failure is None:
            self._failure = error
        if self._root is not None:
            self._root.cancel()

    def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run ``await async_fn(*args)`` in virtual time and return its result.

        Raises:
            SimulationStuck, Livelock: see there.
            audit.Escape: something reached for the real machine, even if the program swallowed the error.
        """
        with _quiet_collector(), _seeded_global_random(self.seed), deterministic_scheduling(self.seed):
            try:
                result = trio.run(self._main, async_fn, args, clock=self)
            except BaseException as error:
                if self._failure is not None:
                    raise self._failure from error
                raise
        if self._failure is not None:
            raise self._failure
        if self.escapes:
            raise audit.Escape("; ".join(self.escapes))
        return result[0]  # type: ignore[return-value]

    async def _main(self, async_fn: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> list[T | None]:
        result: list[T | None] = [None]
        entropy = stream(self.seed, "entropy").randbytes if self._seeded_entropy else None
        try:
            with trio.CancelScope() as self._root, audit.guard(self.escapes, entropy):
                if self._failure is None:
                    result[0] = await async_fn(*args)
        finally:
            self._over = True  # Trio goes on a little, but our time stands still
            self._heap.clear()
        return result


def _wake_cell(cell: list[trio.lowlevel.Task | None]) -> bool:
    task = cell[0]
    if task is None:
        return False
    trio.lowlevel.reschedule(task)
    return True


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """No automatic collection in a run: finalisers would run at moments that depend on history."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _seeded_global_random(seed: int) -> Iterator[None]:
    """Third-party code that draws from ``random`` itself draws from the seed."""
    state = random.getstate()
    random.seed(f"{seed}/global")
    try:
        yield
    finally:
        random.setstate(state)
