"""Recording: unique times, three outcomes, and what is open at the end is unknown."""

import pytest
import trio

from tercet.core.errors import OutcomeUnknown, Rejected
from tercet.jepsen_like.history import Answer, Header, Operation
from tercet.jepsen_like.workloads.recorder import Recorder


async def answer() -> Answer:
    return Answer(2)


async def reject() -> Answer:
    raise Rejected("no")


async def lose() -> Answer:
    raise OutcomeUnknown("perhaps")


async def test_outcomes_follow_the_tree_of_errors() -> None:
    recorder = Recorder(Header())
    put = Operation(1, "put", 0, key="a", value="x")
    assert await recorder.call(put, answer, lambda: 5) == Answer(2)
    assert await recorder.call(put, reject, lambda: 5) is None
    assert await recorder.call(put, lose, lambda: 5) is None
    ok, fail, info = recorder.history().operations
    assert (ok.outcome, ok.invoke, ok.returned, ok.result) == ("ok", 5, 6, Answer(2))
    assert (fail.outcome, fail.invoke, fail.returned, fail.error) == ("fail", 7, 8, "no")
    assert (info.outcome, info.invoke, info.returned, info.error) == ("info", 9, None, "perhaps")
    assert recorder.asked == 3


async def test_what_is_cancelled_stays_open() -> None:
    recorder = Recorder(Header())
    with trio.CancelScope() as scope:

        async def cancelled() -> Answer:
            scope.cancel()
            await trio.lowlevel.checkpoint()
            raise AssertionError("not reached")

        await recorder.call(Operation(1, "put", 0, key="a", value="x"), cancelled, lambda: 1)
    (operation,) = recorder.history().operations
    assert (operation.outcome, operation.returned) == ("info", None)


async def test_other_errors_are_bugs_and_leave_the_operation_open() -> None:
    recorder = Recorder(Header())

    async def broken() -> Answer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await recorder.call(Operation(1, "get", 0, key="a"), broken, lambda: 1)
    assert recorder.history().operations[0].outcome == "info"


def test_times_are_unique_and_follow_the_clock() -> None:
    recorder = Recorder(Header())
    assert [recorder.time(now) for now in (5, 5, 5, 6, 100, 3)] == [5, 6, 7, 8, 100, 101]
