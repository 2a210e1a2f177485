"""Histories made up: what an honest store would have answered under load, and the same with one lie.

For measuring the checkers and for testing that they notice. ``etcd_history`` plays clients against a store
in memory on a made-up clock; some answers get lost, and of those some were applied. ``LIES`` are the ways
to break such a history; each returns a history that is certainly wrong, or None when it finds no place.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgspec

from .history import Answer, Comparison, Header, History, Kv, Operation, Request, Txn

__all__ = ["LIES", "etcd_history"]


def etcd_history(
    operations: int,
    seed: int,
    *,
    processes: int = 16,
    keys: int = 8,
    lost: float = 0.0,
    deletes: float = 0.05,
    txns: float = 0.1,
    closed: bool = True,
) -> History:
    """A valid history of ``operations`` calls; ``lost`` is the share whose outcome stays unknown."""
    return _Play(random.Random(f"{seed}/synthetic"), processes, keys, lost, deletes, txns).run(
        operations, seed, closed
    )


class _Play:
    def __init__(
        self, draw: random.Random, processes: int, keys: int, lost: float, deletes: float, txns: float
    ) -> None:
        self.draw, self.processes, self.lost, self.deletes, self.txns = draw, processes, lost, deletes, txns
        self.keys = [f"k{number}" for number in range(keys)]
        self.store: dict[str, Kv] = {}
        self.revision = 1
        self.serial = 0

    def run(self, count: int, seed: int, closed: bool) -> History:
        """Each call takes effect at one instant between its invocation and its return."""
        draw = self.draw
        ready = [draw.randrange(1, 1000) for _ in range(self.processes)]
        names = list(range(self.processes))
        instants: list[tuple[int, int, int, int]] = []
        for _ in range(count):
            slot = min(range(self.processes), key=ready.__getitem__)
            invoke = ready[slot]
            effect = invoke + draw.randrange(1, 1000)
            returned = effect + draw.randrange(1, 1000)
            instants.append((effect, invoke, returned, names[slot]))
            ready[slot] = returned + draw.randrange(1, 200)
        instants.sort()
        taken: list[Operation] = []
        for number, (_, invoke, returned, process) in enumerate(instants):
            # Every point of time is used once: room for the number of the call below the made-up clock.
            start, end = (invoke * count + number) * 2, (returned * count + number) * 2 + 1
            taken.append(self._call(process, start, end))
        taken.sort(key=lambda o: o.returned or o.invoke)
        return History(tuple(taken), header=Header(seed=seed, closed=closed))

    def _call(self, process: int, invoke: int, returned: int) -> Operation:
        draw, key = self.draw, self.draw.choice(self.keys)
        lost = draw.random() < self.lost
        applied = not lost or draw.random() < 0.5
        kind = draw.random()
        self.serial += 1
        value = f"v{self.serial}"
        if kind < self.deletes:
            operation = Operation(process, "delete", invoke, key=key)
            answer = self._delete(key) if applied else Answer()
        elif kind < self.deletes + self.txns:
            operation, answer = self._txn(process, invoke, key, value, applied)
        elif kind < 0.55:
            operation = Operation(process, "put", invoke, key=key, value=value)
            answer = self._put(key, value) if applied else Answer()
        else:
            operation = Operation(process, "get", invoke, key=key)
            answer = self._get(key)
        if lost:
            return operation
        return msgspec.structs.replace(operation, returned=returned, outcome="ok", result=answer)

    def _put(self, key: str, value: str) -> Answer:
        self.revision += 1
        self._store(key, value)
        return Answer(self.revision)

    def _store(self, key: str, value: str) -> None:
        old = self.store.get(key)
        create, version = (old.create_revision, old.version + 1) if old else (self.revision, 1)
        self.store[key] = Kv(key, value, create, self.revision, version)

    def _delete(self, key: str) -> Answer:
        existed = self.store.pop(key, None) is not None
        self.revision += existed
        return Answer(self.revision, count=int(existed))

    def _get(self, key: str) -> Answer:
        kv = self.store.get(key)
        return Answer(self.revision, kvs=(kv,) if kv else (), count=int(kv is not None))

    def _txn(
        self, process: int, invoke: int, key: str, value: str, applied: bool
    ) -> tuple[Operation, Answer]:
        old = self.store.get(key)
        expected = (
            old.mod_revision if old and self.draw.random() < 0.7 else self.draw.randrange(self.revision + 1)
        )
        txn = Txn(
            (Comparison(key, "mod", "=", expected),), (Request("put", key, value),), (Request("get", key),)
        )
        operation = Operation(process, "txn", invoke, key=key, value=txn)
        if not applied:
            return operation, Answer()
        if (old.mod_revision if old else 0) == expected:
            self.revision += 1
            self._store(key, value)
            return operation, Answer(self.revision, succeeded=True, answers=(Answer(),))
        part = msgspec.structs.replace(self._get(key), revision=0)
        return operation, Answer(self.revision, succeeded=False, answers=(part,))


def _change(history: History, position: int, operation: Operation) -> History:
    changed = list(history.operations)
    changed[position] = operation
    return msgspec.structs.replace(history, operations=tuple(changed))


def _reads(history: History) -> list[tuple[int, Operation, Answer]]:
    return [
        (position, operation, operation.result)
        for position, operation in enumerate(history.operations)
        if operation.f == "get" and isinstance(operation.result, Answer)
    ]


def _stale_read(history: History, draw: random.Random) -> History | None:
    """A read that claims to have seen an older revision than one answered before it began."""
    reads = _reads(history)
    draw.shuffle(reads)
    for position, read, answer in reads:
        earlier = [
            o.result.revision
            for o in history.operations
            if isinstance(o.result, Answer) and o.returned is not None and o.returned < read.invoke
        ]
        if earlier and max(earlier) > history.header.start_revision + 1:
            old = msgspec.structs.replace(answer, revision=max(earlier) - 1)
            return _change(history, position, msgspec.structs.replace(read, result=old))
    return None


def _wrong_value(history: History, draw: random.Random) -> History | None:
    """A read that shows a value nobody wrote."""
    reads = [read for read in _reads(history) if read[2].kvs]
    if not reads:
        return None
    position, read, answer = draw.choice(reads)
    kv = msgspec.structs.replace(answer.kvs[0], value="never written")
    return _change(
        history, position, msgspec.structs.replace(read, result=msgspec.structs.replace(answer, kvs=(kv,)))
    )


def _lost_key(history: History, draw: random.Random) -> History | None:
    """A read that does not show a key which was there."""
    reads = [read for read in _reads(history) if read[2].kvs]
    unknown_deletes = {o.key for o in history.operations if o.outcome == "info" and o.f == "delete"}
    reads = [read for read in reads if read[1].key not in unknown_deletes]
    if not reads:
        return None
    position, read, answer = draw.choice(reads)
    empty = msgspec.structs.replace(answer, kvs=(), count=0)
    return _change(history, position, msgspec.structs.replace(read, result=empty))


def _lost_write(history: History, draw: random.Random) -> History | None:
    """A write that was answered and then denied: some later read skips it."""
    for position, operation in enumerate(history.operations):
        if operation.f == "put" and isinstance(operation.result, Answer):
            revision = operation.result.revision
            if any(
                kv.key == operation.key and kv.mod_revision == revision
                for _, _, answer in _reads(history)
                for kv in answer.kvs
            ):
                gone = msgspec.structs.replace(operation, outcome="fail", result=None)
                return _change(history, position, gone)
    return None


def _same_revision(history: History, draw: random.Random) -> History | None:
    """Two writes that were told the same revision."""
    puts = [
        (position, o, o.result)
        for position, o in enumerate(history.operations)
        if o.f == "put" and isinstance(o.result, Answer)
    ]
    if len(puts) < 2:
        return None
    (_, _, first), (position, put, _) = draw.sample(puts, 2)
    return _change(history, position, msgspec.structs.replace(put, result=first))


LIES: Final[dict[str, Callable[[History, random.Random], History | None]]] = {
    "stale-read": _stale_read,
    "wrong-value": _wrong_value,
    "lost-key": _lost_key,
    "lost-write": _lost_write,
    "same-revision": _same_revision,
}
