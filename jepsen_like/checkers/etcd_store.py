"""What one operation does to a store of keys with revisions, and whether its recorded answer agrees.

The store is a plain dict from key to ``Version``; an operation's effects are values (key and its new
version, None for a deletion), so that whoever replays a history can take them back.
"""

from __future__ import annotations

from typing import TypeAlias

from ..history import Answer, Comparison, Kv, Operation, Request, Txn

__all__ = ["Effects", "Store", "Version", "execute", "in_range", "matching", "text_of"]

Version: TypeAlias = tuple[str, int, int, int, int]  # value, create_revision, mod_revision, version, lease
Store: TypeAlias = dict[str, Version]
Effects: TypeAlias = list[tuple[str, Version | None]]

_NOTHING: Version = ("", 0, 0, 0, 0)
_TARGETS = {"value": 0, "create": 1, "mod": 2, "version": 3, "lease": 4}


def in_range(key: str, start: str, range_end: str) -> bool:
    """etcd's ranges: one key when the end is empty, from ``start`` on when it is NUL, else half open."""
    if not range_end:
        return key == start
    return key >= start and (range_end == "\0" or key < range_end)


def matching(store: Store, key: str, range_end: str) -> list[str]:
    """The keys of the store in a range, sorted."""
    if not range_end:
        return [key] if key in store else []
    return sorted(candidate for candidate in store if in_range(candidate, key, range_end))


def execute(operation: Operation, store: Store, revision: int) -> tuple[Effects, str]:
    """Run an operation as the one that makes ``revision`` (for reads: at it), in the store before it.

    Returns its effects and, in words, how the recorded answer differs ("" when it agrees, or when there is
    none because the outcome is unknown).
    """
    answer = operation.result if isinstance(operation.result, Answer) else None
    f = operation.f
    if f == "put":
        mismatch = ""
        if answer is not None and operation.prev_kv:
            mismatch = _compare_kvs(store, [operation.key] if operation.key in store else [], answer.kvs)
        return [
            (operation.key, _put(store, operation.key, str(operation.value), revision, operation.lease))
        ], mismatch
    if f == "get":
        return [], "" if answer is None else _check_get(store, operation.key, operation.range_end, answer)
    if f == "delete":
        keys = matching(store, operation.key, operation.range_end)
        return [(key, None) for key in keys], "" if answer is None else _check_delete(store, keys, answer)
    if f == "txn":
        if not isinstance(operation.value, Txn):
            raise ValueError(f"a txn needs a transaction, got {operation.value!r}")
        return _execute_txn(operation.value, store, revision, answer)
    if f == "revoke":
        return [(key, None) for key in sorted(store) if store[key][4] == operation.lease], ""
    raise ValueError(f"an etcd store has no operation {f!r}")


def _put(store: Store, key: str, value: str, revision: int, lease: int) -> Version:
    before = store.get(key)
    if before is None:
        return value, revision, revision, 1, lease
    return value, before[1], revision, before[3] + 1, lease


def text_of(version: Version | None) -> str:
    """A key's state for a reader."""
    if version is None:
        return "no such key"
    return f"{version[0]!r} (create {version[1]}, mod {version[2]}, version {version[3]})"


def _text_of_kv(kv: Kv) -> str:
    return text_of((kv.value, kv.create_revision, kv.mod_revision, kv.version, 0))


def _compare_kvs(store: Store, keys: list[str], kvs: tuple[Kv, ...]) -> str:
    """Compare in key order; a shorter list than ``keys`` is a limited one, and agrees when it is a prefix."""
    seen = sorted(kvs, key=lambda kv: kv.key) if len(kvs) > 1 else kvs
    for key, kv in zip(keys, seen, strict=False):
        version = store[key]
        if kv.key != key:
            return f"it shows {kv.key!r} where {key!r} should be"
        if (kv.value, kv.create_revision, kv.mod_revision, kv.version) != version[:4]:
            return f"it shows {key!r} as {_text_of_kv(kv)}, it should be {text_of(version)}"
    if len(seen) > len(keys):
        extra = seen[len(keys)]
        return f"it shows {extra.key!r} as {_text_of_kv(extra)}, it should not exist"
    return ""


def _check_get(store: Store, key: str, range_end: str, answer: Answer) -> str:
    keys = matching(store, key, range_end)
    if not answer.kvs and keys and answer.count <= 0:
        return f"it does not show {keys[0]!r}, which should be {text_of(store[keys[0]])}"
    if answer.count >= 0 and answer.count != len(keys):
        return f"it counts {answer.count} keys, it should count {len(keys)}"
    if answer.count < 0 and len(answer.kvs) < len(keys):
        return f"it does not show {keys[len(answer.kvs)]!r}"
    return _compare_kvs(store, keys, answer.kvs)


def _check_delete(store: Store, keys: list[str], answer: Answer) -> str:
    if answer.count >= 0 and answer.count != len(keys):
        return f"it deleted {answer.count} keys, it should delete {len(keys)}"
    return _compare_kvs(store, keys, answer.kvs) if answer.kvs else ""


def _execute_txn(txn: Txn, store: Store, revision: int, answer: Answer | None) -> tuple[Effects, str]:
    holds = all(_holds(comparison, store) for comparison in txn.compare)
    if answer is not None and answer.succeeded is not holds:
        return (
            [],
            f"its comparisons {'hold' if holds else 'do not hold'}, it answered succeeded={answer.succeeded}",
        )
    requests = txn.then if holds else txn.otherwise
    answers: tuple[Answer | None, ...] = answer.answers if answer is not None else (None,) * len(requests)
    effects: Effects = []
    view = store
    for request, part in zip(requests, answers, strict=False):
        done, mismatch = _execute_request(request, view, revision, part)
        if mismatch:
            return effects, mismatch
        if done:
            view = dict(view)
            for key, version in done:
                if version is None:
                    del view[key]
                else:
                    view[key] = version
            effects += done
    return effects, ""


def _execute_request(
    request: Request, store: Store, revision: int, answer: Answer | None
) -> tuple[Effects, str]:
    if request.f == "put":
        return [(request.key, _put(store, request.key, request.value, revision, 0))], ""
    if request.f == "get":
        return [], "" if answer is None else _check_get(store, request.key, request.range_end, answer)
    keys = matching(store, request.key, request.range_end)
    return [(key, None) for key in keys], "" if answer is None else _check_delete(store, keys, answer)


def _holds(comparison: Comparison, store: Store) -> bool:
    version = store.get(comparison.key)
    if version is None:
        if comparison.target == "value":
            return False  # etcd: a comparison of the value of a missing key never holds
        version = _NOTHING
    actual, wanted = version[_TARGETS[comparison.target]], comparison.operand
    if comparison.relation == "=":
        return actual == wanted
    if comparison.relation == "!=":
        return actual != wanted
    if comparison.relation == "<":
        return actual < wanted  # type: ignore[operator]
    if comparison.relation == ">":
        return actual > wanted  # type: ignore[operator]
    raise ValueError(f"unknown relation {comparison.relation!r}: need one of = != < >")
