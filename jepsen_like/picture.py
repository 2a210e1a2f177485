"""A few operations drawn as text: one line each, what was asked and answered, and a bar in time.

Time is squeezed to the order of events, so that a core found in an hour of history still fits a terminal.
A bar that ends in ``~`` has no return: its outcome is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from .history import Answer, Comparison, Kv, Operation, Request, Txn

__all__ = ["describe", "draw"]

_WIDTH = 40


def describe(operation: Operation) -> str:
    """One operation in words, e.g. ``put k1 'v7' -> revision 9``."""
    words = [operation.f]
    if operation.key:
        words.append(operation.key + (f"..{operation.range_end!r}" if operation.range_end else ""))
    if isinstance(operation.value, Txn):
        words.append(_txn(operation.value))
    elif isinstance(operation.value, tuple):
        words.append(" to ".join(map(repr, operation.value)))
    elif operation.value is not None:
        words.append(repr(operation.value))
    if operation.serializable:
        words.append("(serializable)")
    if operation.outcome == "fail":
        words.append("-> failed")
    elif operation.outcome == "info":
        words.append("-> unknown")
    elif isinstance(operation.result, Answer):
        words.append("-> " + _answer(operation.result))
    elif operation.f in ("read", "get") or operation.result is False:
        words.append(f"-> {operation.result!r}")
    return " ".join(words)


def _txn(txn: Txn) -> str:
    guards = " and ".join(map(_comparison, txn.compare)) or "always"
    text = f"if {guards} then {_requests(txn.then)}"
    return text + (f" else {_requests(txn.otherwise)}" if txn.otherwise else "")


def _comparison(comparison: Comparison) -> str:
    return f"{comparison.target}({comparison.key}) {comparison.relation} {comparison.operand!r}"


def _requests(requests: Sequence[Request]) -> str:
    return (
        "; ".join(f"{r.f} {r.key}{' ' + repr(r.value) if r.f == 'put' else ''}" for r in requests)
        or "nothing"
    )


def _answer(answer: Answer) -> str:
    words = []
    if answer.succeeded is not None:
        words.append("succeeded" if answer.succeeded else "did not hold")
    shown = [_kv(kv) for kv in answer.kvs] + [_kv(kv) for part in answer.answers for kv in part.kvs]
    words += shown
    if not shown and answer.count >= 0:
        words.append(f"count {answer.count}")
    if answer.revision:
        words.append(f"revision {answer.revision}")
    return ", ".join(words)


def _kv(kv: Kv) -> str:
    return f"{kv.key}={kv.value!r} (mod {kv.mod_revision}, version {kv.version})"


def draw(operations: Sequence[Operation]) -> list[str]:
    """The operations in the order of invocation, one line each, with bars in squeezed time."""
    if not operations:
        return []
    ordered = sorted(operations, key=lambda o: o.invoke)
    times = sorted({o.invoke for o in ordered} | {o.returned for o in ordered if o.returned is not None})
    step = max(1, min(4, _WIDTH // max(len(times), 1)))
    column = {time: place * step for place, time in enumerate(times)}
    end = len(times) * step
    width = max(len(str(o.process)) for o in ordered)
    lines = []
    for operation in ordered:
        start = column[operation.invoke]
        if operation.returned is None:
            bar = " " * start + "|" + "-" * (end - start - 1) + "~"
        else:
            bar = " " * start + "|" + "-" * (column[operation.returned] - start - 1) + "|"
        lines.append(f"p{operation.process:<{width}} {bar:<{end + 1}} {describe(operation)}")
    return lines
