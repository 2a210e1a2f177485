"""Virtual time, the heap of events and the digest."""

from __future__ import annotations

import gc
import random

import pytest
import trio

from tercet.sim.engine import SECOND, Engine, Livelock, SimulationStuck, seconds_to_ns


def test_time_starts_at_zero_and_passes_without_waiting() -> None:
    async def main() -> tuple[float, float]:
        start = trio.current_time()
        await trio.sleep(86_400 * 365)
        return start, trio.current_time()

    assert Engine(0).run(main) == (0.0, 86_400 * 365)


def test_events_come_in_order_of_time_then_of_scheduling() -> None:
    seen: list[tuple[int, str]] = []
    engine = Engine(0)

    async def main() -> None:
        for delay, name in ((20, "late"), (10, "first"), (10, "second")):
            engine.after(delay, lambda text: seen.append((engine.now, text)), name)
        await engine.sleep(1)

    engine.run(main)
    assert seen == [(10, "first"), (10, "second"), (20, "late")]
    assert engine.now == SECOND


def test_trio_deadlines_and_events_share_one_time_line() -> None:
    engine = Engine(0)
    seen: list[str] = []

    async def main() -> None:
        engine.after(2 * SECOND, lambda _: seen.append("event at 2"))
        with trio.move_on_after(1):
            await trio.sleep(100)
        seen.append(f"deadline at {trio.current_time():g}")
        await trio.sleep(2)
        seen.append(f"slept until {trio.current_time():g}")

    engine.run(main)
    assert seen == ["deadline at 1", "event at 2", "slept until 3"]


def test_a_cancelled_sleep_wakes_nobody_later() -> None:
    engine = Engine(0)

    async def main() -> None:
        with trio.move_on_after(1) as scope:
            await engine.sleep(5)
        assert scope.cancelled_caught
        await engine.sleep(10)

    engine.run(main)
    assert engine.now == 11 * SECOND


def test_waiting_for_nothing_is_an_error() -> None:
    with pytest.raises(SimulationStuck, match="at virtual time 0"):
        Engine(0).run(trio.sleep_forever)


def test_a_spinning_task_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tercet.sim.engine._TURN_LIMIT", 1000)

    async def main() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(Livelock, match="1000 turns"):
        Engine(0).run(main)


def test_sleeping_again_and_again_within_one_instant_is_noticed_as_spinning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events at a standing time are no progress (campaign seed 9028 slept for less than a nanosecond)."""
    monkeypatch.setattr("tercet.sim.engine._TURN_LIMIT", 1000)
    engine = Engine(0)

    async def nap() -> None:
        woken = trio.Event()
        engine.after(0, lambda _: woken.set())
        await woken.wait()

    async def main() -> None:
        while True:
            await nap()

    with pytest.raises(Livelock, match="1000 turns"):
        engine.run(main)


def test_no_wait_is_too_short_to_pass() -> None:
    assert [seconds_to_ns(s) for s in (0.0, 1e-12, 4e-10, 0.05, 1.0)] == [0, 1, 1, 50_000_000, SECOND]


def test_an_error_in_an_event_ends_the_run() -> None:
    engine = Engine(0)

    def explode(_: object) -> None:
        raise ZeroDivisionError("in an event")

    async def main() -> None:
        engine.after(5, explode)
        await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError, match="in an event"):
        engine.run(main)


def test_the_digest_tells_runs_apart() -> None:
    def digest(delay: int, note: int) -> str:
        engine = Engine(0)

        async def main() -> None:
            engine.after(delay, lambda _: engine.note(1, 2, note))
            await engine.sleep(1)

        engine.run(main)
        return engine.digest

    assert digest(5, 7) == digest(5, 7)
    assert len({digest(5, 7), digest(6, 7), digest(5, 8)}) == 3


def test_the_full_log_holds_every_record_and_does_not_change_the_digest() -> None:
    def run(full_log: bool) -> Engine:
        engine = Engine(0, full_log=full_log)

        async def main() -> None:
            engine.after(5, lambda _: engine.note(1, 2, 3))
            await engine.sleep(1)

        engine.run(main)
        return engine

    quiet, talkative = run(False), run(True)
    assert quiet.digest == talkative.digest
    assert quiet.log is None
    assert talkative.log is not None and (5, "note", 1, 2, 3) in talkative.log


def test_global_random_and_the_collector_are_ours_during_a_run_and_put_back_after() -> None:
    async def main() -> tuple[float, bool]:
        return random.random(), gc.isenabled()

    random.seed(5)
    expected = random.random()
    random.seed(5)
    first, second = Engine(3).run(main), Engine(3).run(main)
    assert first == second
    assert not first[1]
    assert gc.isenabled()
    assert random.random() == expected
