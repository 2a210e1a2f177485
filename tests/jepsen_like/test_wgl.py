"""The search agrees with trying every order, stops at its limits, and its cores are invalid by themselves."""

import random
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.jepsen_like.checkers.linearizable import check_linearizable
from tercet.jepsen_like.checkers.models import IMPOSSIBLE, MODELS, Model
from tercet.jepsen_like.checkers.verdict import Limits
from tercet.jepsen_like.checkers.wgl import search
from tercet.jepsen_like.history import Operation


def explained(order: tuple[Operation, ...], model: Model) -> bool:
    """Whether a sequence respects real time and every answer."""
    for place, operation in enumerate(order):
        if any(
            later.returned is not None and later.returned < operation.invoke for later in order[place + 1 :]
        ):
            return False
    state = model.initial()
    for operation in order:
        state = model.step(state, operation)
        if state is IMPOSSIBLE:
            return False
    return True


def by_brute_force(operations: list[Operation], model: Model) -> bool:
    """Try every order of what was answered with every choice of what was not."""
    known = [o for o in operations if o.outcome == "ok"]
    unknown = [o for o in operations if o.outcome == "info"]
    for chosen in range(1 << len(unknown)):
        some = known + [o for place, o in enumerate(unknown) if chosen >> place & 1]
        if any(explained(order, model) for order in permutations(some)):
            return True
    return False


@st.composite
def histories(draw: st.DrawFn, kinds: tuple[str, ...]) -> list[Operation]:
    """Up to six overlapping operations whose answers are anything."""
    count = draw(st.integers(1, 6))
    times = draw(st.permutations(range(2 * count)))
    operations = []
    small = st.integers(0, 2)
    for process in range(count):
        invoke, returned = sorted(times[2 * process : 2 * process + 2])
        f = draw(st.sampled_from(kinds))
        lost = draw(st.integers(0, 3)) == 0
        value: object = None
        result: object = None
        if f == "read":
            result = draw(st.one_of(st.none(), small))
        elif f == "get":
            result = draw(st.sampled_from(["", "a", "b", "ab", "ba"]))
        elif f == "cas":
            value, result = (draw(small), draw(small)), draw(st.booleans())
        elif f in ("put", "append"):
            value = draw(st.sampled_from("ab"))
        else:
            value = draw(small)
        if lost:
            operations.append(Operation(process, f, invoke, value=value))  # type: ignore[arg-type]
        else:
            operations.append(Operation(process, f, invoke, returned, "ok", value=value, result=result))  # type: ignore[arg-type]
    return operations


def agree(operations: list[Operation], model: Model) -> None:
    expected = by_brute_force(operations, model)
    found = search(operations, model)
    assert found.verdict == ("valid" if expected else "invalid")
    if expected:
        assert explained(tuple(operations[place] for place in found.order), model), (
            "the witness must explain all"
        )
        assert {p for p, o in enumerate(operations) if o.outcome == "ok"} <= set(found.order)
    else:
        core = check_linearizable(operations, model).core
        assert not by_brute_force(list(core), model), "the core must be invalid by itself"


@given(histories(("read", "write")))
@settings(max_examples=150, deadline=None)
def test_registers_agree_with_brute_force(operations: list[Operation]) -> None:
    agree(operations, MODELS["register"])


@given(histories(("read", "write", "cas", "cas")))
@settings(max_examples=150, deadline=None)
def test_cas_registers_agree_with_brute_force(operations: list[Operation]) -> None:
    agree(operations, MODELS["cas-register"])


@given(histories(("put", "append", "get")))
@settings(max_examples=150, deadline=None)
def test_key_value_stores_agree_with_brute_force(operations: list[Operation]) -> None:
    agree(operations, MODELS["kv"])


@given(histories(("read", "write", "cas")))
@settings(max_examples=100, deadline=None)
def test_the_frontier_is_the_first_return_that_cannot_be_explained(operations: list[Operation]) -> None:
    found = search(operations, MODELS["cas-register"])
    if found.frontier is None:
        return

    model = MODELS["cas-register"]

    def until(time: int) -> list[Operation]:
        known = [o for o in operations if o.returned is not None and o.returned <= time]
        opened = [o for o in operations if o.invoke <= time and o not in known and not model.observes(o)]
        return known + [Operation(o.process, o.f, o.invoke, value=o.value) for o in opened]

    assert not by_brute_force(until(found.frontier), model)
    assert by_brute_force(until(found.frontier - 1), model)


def long_history(count: int, seed: int, *, lost: float = 0.0) -> list[Operation]:
    """A valid history of one register with about five operations open at a time."""
    draw = random.Random(seed)
    state: int | None = None
    operations = []
    for number in range(count):
        at = number * 10
        invoke, returned = at - draw.randrange(1, 5) * 10 - 1, at + draw.randrange(1, 5) * 10 + 1
        invoke, returned = invoke * count + number, returned * count + number
        if draw.random() < 0.5:
            operations.append(Operation(number, "read", invoke, returned, "ok", result=state))
        elif draw.random() < lost:
            state = number if draw.random() < 0.5 else state
            operations.append(Operation(number, "write", invoke, value=number))
        else:
            state = number
            operations.append(Operation(number, "write", invoke, returned, "ok", value=number))
    return operations


def test_a_long_valid_history_needs_few_steps() -> None:
    found = check_linearizable(long_history(5000, 1), MODELS["register"])
    assert found.verdict == "valid"
    assert found.steps < 500_000


def test_the_limit_of_steps_is_honoured() -> None:
    operations = [Operation(n, "write", n, 1000 + n, "ok", value=n) for n in range(40)]
    operations += [Operation(99, "read", 2000, 2001, "ok", result=-1)]
    found = check_linearizable(operations, MODELS["register"], Limits(steps=10_000), core=False)
    assert found.verdict == "unknown"
    assert "10000 steps" in found.reason
    assert 10_000 < found.steps < 12_000


def test_the_limit_of_states_is_honoured() -> None:
    operations = [Operation(n, "write", n, 1000 + n, "ok", value=n) for n in range(40)]
    operations += [Operation(99, "read", 2000, 2001, "ok", result=-1)]
    found = check_linearizable(operations, MODELS["register"], Limits(states=2_000), core=False)
    assert found.verdict == "unknown"
    assert 2_000 < found.states < 3_000


def test_the_limit_of_time_is_honoured_with_the_clock_that_was_given() -> None:
    now = iter(range(1_000_000))
    limits = Limits(seconds=20, clock=lambda: float(next(now)))
    operations = [Operation(n, "write", n, 1000 + n, "ok", value=n) for n in range(40)]
    operations += [Operation(99, "read", 2000, 2001, "ok", result=-1)]
    found = check_linearizable(operations, MODELS["register"], limits, core=False)
    assert found.verdict == "unknown"
    assert "20" in found.reason and "seconds" in found.reason


def test_a_core_tells_the_story_and_nothing_else() -> None:
    operations = long_history(400, 3)
    stale = Operation(999, "read", 10**9, 10**9 + 1, "ok", result=operations[0].value or 0)
    found = check_linearizable([*operations, stale], MODELS["register"])
    assert found.verdict == "invalid"
    assert len(found.core) <= 3
    assert stale in found.core


@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_unknown_operation_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        search([Operation(1, "dance", 1, 2, "ok")], MODELS[name])
