"""The linearizability check of a whole history: partition, search, and explain what failed.

Partitions are independent, so each is searched alone. When one is invalid its smallest failing core is
sought. Only steps that weaken a history are taken, so that a core which is invalid proves the whole history
invalid: cut it at the first return that cannot be explained; leave out reads; let a write whose return
mattered to nobody happen at any later time, or never; leave out writes that no operation left can see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec

from ..history import Operation
from .models import Model
from .verdict import Limits, Meter, Verdict
from .wgl import partitions, search

__all__ = ["check_linearizable", "shrink"]

_Test: TypeAlias = Callable[[list[Operation]], bool]


def check_linearizable(
    operations: Iterable[Operation], model: Model, limits: Limits | None = None, *, core: bool = True
) -> Verdict:
    """Check a history against a model.

    Args:
        operations: the whole history, in any order.
        limits: for all partitions together; the core has a tenth of the steps for itself.
        core: look for the smallest failing core when the verdict is invalid.
    """
    limits = limits or Limits()
    everything = list(operations)
    meter = Meter(limits)
    unknown: Verdict | None = None
    for key, part in sorted(partitions(everything).items()):
        found = search(part, model, meter)
        if found.verdict == "valid":
            continue
        checked = _returned_before(everything, found.frontier)
        if found.verdict == "unknown":
            unknown = unknown or Verdict(
                verdict="unknown",
                checker=model.name,
                reason=found.reason,
                key=key,
                checked=checked,
                total=len(everything),
                steps=meter.steps,
                states=meter.states,
            )
            break
        assert found.frontier is not None
        failing: Sequence[Operation] = _cut(part, found.frontier, model)
        if core:
            failing = shrink(failing, model, limits)
        return Verdict(
            verdict="invalid",
            checker=model.name,
            reason=_reason(part, found.frontier, model, key),
            key=key,
            core=tuple(failing),
            checked=checked,
            total=len(everything),
            steps=meter.steps,
            states=meter.states,
        )
    return unknown or Verdict(
        verdict="valid",
        checker=model.name,
        checked=len(everything),
        total=len(everything),
        steps=meter.steps,
        states=meter.states,
    )


def _returned_before(operations: Iterable[Operation], time: int | None) -> int:
    if time is None:
        return 0
    return sum(1 for o in operations if o.returned is not None and o.returned < time)


def _reason(part: Sequence[Operation], frontier: int, model: Model, key: str) -> str:
    last = next(o for o in part if o.returned == frontier)
    answer = f" -> {last.result!r}" if model.observes(last) else ""
    asked = "" if last.value is None else f" {last.value!r}"
    where = f" on key {key!r}" if key else ""
    what = f"{last.f}{asked}{answer}{where} of process {last.process}"
    return f"no order explains the {what} that returned at {frontier}"


def _cut(part: Sequence[Operation], frontier: int, model: Model) -> list[Operation]:
    """The history up to and including the return at ``frontier``: what returned later is open."""
    cut: list[Operation] = []
    for operation in part:
        if operation.invoke >= frontier:
            continue
        if operation.returned is None or operation.returned > frontier:
            if not model.observes(operation):
                cut.append(_opened(operation))
        else:
            cut.append(operation)
    return cut


def _opened(operation: Operation) -> Operation:
    return msgspec.structs.replace(operation, returned=None, outcome="info", result=None)


def shrink(failing: Sequence[Operation], model: Model, limits: Limits | None = None) -> list[Operation]:
    """A sub-history of one invalid partition, weaker and still invalid, from which nothing more can go.

    Within a tenth of the limits' steps; when they run out, the smallest found so far.
    """
    limits = limits or Limits()
    allowed = Meter(msgspec.structs.replace(limits, steps=max(limits.steps // 10, 1), seconds=limits.seconds))

    def still_invalid(candidate: list[Operation]) -> bool:
        return allowed.exceeded() is None and search(candidate, model, allowed).verdict == "invalid"

    current = _without(list(failing), model, still_invalid)
    while allowed.exceeded() is None:
        smaller = _loosened(current, model, still_invalid)
        smaller = _without(smaller, model, still_invalid)
        if smaller == current:
            break
        current = smaller
    return sorted(current, key=lambda o: o.invoke)


def _without(current: list[Operation], model: Model, still_invalid: _Test) -> list[Operation]:
    """Leave out as many reads and unseen writes as possible: halves first, then single ones."""
    size = max(len(current) // 2, 1)
    while True:
        position, changed = 0, False
        while position < len(current):
            chunk = current[position : position + size]
            rest = current[:position] + current[position + size :]
            if all(model.observes(o) or model.unseen(o, rest) for o in chunk) and still_invalid(rest):
                current, changed = rest, True
            else:
                position += size
        if size == 1 and not changed:
            return current
        size = max(size // 2, 1)


def _loosened(current: list[Operation], model: Model, still_invalid: _Test) -> list[Operation]:
    """Take the return from every write whose return is not needed for the contradiction."""
    for position, operation in enumerate(current):
        if operation.returned is None or model.observes(operation):
            continue
        trial = list(current)
        trial[position] = _opened(operation)
        if still_invalid(trial):
            current = trial
    return current
