"""What the objects of a history should do, one operation at a time.

A model is a state machine over hashable states: ``step`` says whether an operation with its recorded answer
may happen in a state, and what state follows. Operations on different partitions are independent, so each
is checked alone. An operation whose outcome is unknown has no answer to compare: ``step`` treats it as a
write whose answer was lost.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Protocol, TypeAlias

from ..history import Operation, Value

__all__ = ["IMPOSSIBLE", "MODELS", "CasRegister", "Impossible", "KeyValue", "Model", "Register", "State"]

State: TypeAlias = Hashable


class Impossible:
    """The type of ``IMPOSSIBLE``: no state can follow."""

    def __repr__(self) -> str:
        return "IMPOSSIBLE"


IMPOSSIBLE: Final = Impossible()


class Model(Protocol):
    """One kind of object. Stateless: the same instance checks any number of histories."""

    @property
    def name(self) -> str: ...

    @property
    def operations(self) -> tuple[str, ...]: ...

    def initial(self) -> State:
        """The state of a partition before its first operation."""

    def step(self, state: State, operation: Operation) -> State | Impossible:
        """The state after the operation, or IMPOSSIBLE when its answer cannot be right in ``state``."""

    def observes(self, operation: Operation) -> bool:
        """Whether the operation never changes the state, whatever it is: leaving it out weakens a history."""

    def unseen(self, operation: Operation, others: list[Operation]) -> bool:
        """Whether leaving out this write cannot make the history of ``others`` invalid: none of them can
        tell whether it happened."""


class Register:
    """One value: read and write. A register that nobody wrote holds None."""

    name = "register"
    operations: tuple[str, ...] = ("read", "write")

    def initial(self) -> State:
        return None

    def step(self, state: State, operation: Operation) -> State | Impossible:
        if operation.f == "write":
            return operation.value
        if operation.f == "read":
            return state if operation.outcome == "info" or operation.result == state else IMPOSSIBLE
        raise ValueError(f"a {self.name} has no operation {operation.f!r}")

    def observes(self, operation: Operation) -> bool:
        return operation.f == "read"

    def unseen(self, operation: Operation, others: list[Operation]) -> bool:
        return operation.f == "write" and not any(self._looks_for(other, operation.value) for other in others)

    def _looks_for(self, other: Operation, value: Value) -> bool:
        return other.f == "read" and other.result == value


class CasRegister(Register):
    """A register with compare-and-set. A cas that answered False saw another value than it expected."""

    name = "cas-register"
    operations = ("read", "write", "cas")

    def step(self, state: State, operation: Operation) -> State | Impossible:
        if operation.f != "cas":
            return super().step(state, operation)
        expected, new = _pair(operation)
        if operation.outcome == "info":
            return new if state == expected else state
        if operation.result is False:
            return state if state != expected else IMPOSSIBLE
        return new if state == expected else IMPOSSIBLE

    def observes(self, operation: Operation) -> bool:
        return operation.f == "read" or (operation.f == "cas" and operation.result is False)

    def _looks_for(self, other: Operation, value: Value) -> bool:
        if other.f != "cas":
            return super()._looks_for(other, value)
        # A refused cas would notice the value beneath the write that is left out.
        return other.result is False or _pair(other)[0] == value


def _pair(operation: Operation) -> tuple[int | str | None, int | str | None]:
    value = operation.value
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"a cas needs the pair [expected, new], got {value!r}")
    return value[0], value[1]


class KeyValue:
    """A string by key: put, append and get. A key that nobody wrote holds the empty string."""

    name = "kv"
    operations = ("put", "append", "get")

    def initial(self) -> State:
        return ""

    def step(self, state: State, operation: Operation) -> State | Impossible:
        if operation.f == "get":
            return state if operation.outcome == "info" or (operation.result or "") == state else IMPOSSIBLE
        if not isinstance(operation.value, str):
            raise ValueError(f"a {operation.f} needs a string, got {operation.value!r}")
        if operation.f == "put":
            return operation.value
        if operation.f == "append":
            return str(state) + operation.value
        raise ValueError(f"a {self.name} store has no operation {operation.f!r}")

    def observes(self, operation: Operation) -> bool:
        return operation.f == "get"

    def unseen(self, operation: Operation, others: list[Operation]) -> bool:
        return not any(other.f == "get" for other in others)


_ALL: tuple[Model, ...] = (Register(), CasRegister(), KeyValue())
MODELS: Final[dict[str, Model]] = {model.name: model for model in _ALL}
